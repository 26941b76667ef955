//! Routes that refer to a broker and a sink of another namespace: they are admitted by those, and shut out again.

#![allow(dead_code, reason = "the fake cluster does more for others")]

mod compare;
mod fake;
mod journey;
mod kubelet;
mod news;
mod objects;

use fake::store::Key;
use fake::{Fake, NAMESPACE, World};
use journey::steps::{Hands, is_settled};
use journey::{PATIENCE, STILL};
use objects::condition;
use serde_json::{Value, json};

const HUB: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: plant, labels: {site: a}}
---
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {name: broker, namespace: hub}
spec:
  urls: [mqtt://mqtt.hub:1883]
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {name: main, namespace: hub}
spec:
  bootstrapServers: [kafka.hub:9092]
  allowedRoutes: {namespaces: {from: All}}
";

const ROUTE: &str = "
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: telemetry}
spec:
  replicas: 2
  from:
    mqtt:
      brokerRef: {name: broker, namespace: hub}
      subscriptions:
      - filter: plants/+plant/telemetry
      - filter: plants/+plant/events
      ordering: PerTopic
      lanes: 4
  to:
    kafka:
      sinkRef: {name: main, namespace: hub}
      topic: of-the-plant
";

fn by_site(site: &str) -> Value {
    json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"site": site}}}})
}

fn broker() -> Key {
    Key::new("mqttbrokers", "hub", "broker")
}

fn route(world: &World) -> &Value {
    let key = Key::new("topicroutes", NAMESPACE, "telemetry");
    world.store.get(&key).expect("the route")
}

/// What the route is told, without times.
fn told(world: &World) -> Vec<Value> {
    let about = |kind: &str| {
        let condition = condition(route(world), kind)?;
        Some(json!([
            kind,
            condition["status"],
            condition["reason"],
            condition["message"]
        ]))
    };
    let all = ["Accepted", "Ready", "Stalled"];
    all.into_iter().filter_map(about).collect()
}

fn workers(world: &World) -> Option<u64> {
    let set = Key::new("statefulsets", NAMESPACE, "telemetry-worker");
    world.store.get(&set)?["spec"]["replicas"].as_u64()
}

/// Probes of the hub's sink that ask for the route's topic: what the sink's owner is shown of a route.
fn shown_to_the_sink(world: &World) -> bool {
    world
        .store
        .all("pods")
        .filter(|(key, _)| key.namespace == "hub")
        .any(|(_, pod)| pod.to_string().contains("of-the-plant"))
}

fn is_shut_out(world: &World) -> bool {
    condition(route(world), "Accepted").is_some_and(|accepted| accepted["reason"] == "BrokerNotFound")
}

/// Why a route is accepted, or is not.
fn accepted(world: &World, namespace: &str, name: &str) -> Option<Value> {
    let route = world.store.get(&Key::new("topicroutes", namespace, name));
    condition(route.expect("a route"), "Accepted").map(|accepted| accepted["reason"].clone())
}

/// Waits until the route is as `is` says, and nothing happens any more.
async fn comes(fake: &Fake, what: &str, is: impl Fn(&World) -> bool) -> World {
    let came = fake.until(PATIENCE, &is).await;
    assert!(came, "{what}: {:#?}", route(&fake.world()));
    fake.rest(STILL).await;
    let world = fake.world();
    assert!(is(&world), "{what} was undone: {:#?}", route(&world));
    assert_eq!(fake.broken(), [""; 0], "{what}");
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_works_only_as_long_as_what_it_refers_to_admits_it() {
    let fake = Fake::new();
    fake.create(HUB);
    fake.create(ROUTE);
    let operator = fake.start("worker:1");

    let refused = comes(&fake, "a broker that admits nobody", is_shut_out).await;
    let answer = told(&refused);
    let message = "spec.from.mqtt.brokerRef: there is no MqttBroker broker in namespace hub that admits routes of namespace \
                   plant; create it with allowedRoutes that do, or write the name of one that exists";
    assert!(
        answer.contains(&json!(["Accepted", "False", "BrokerNotFound", message])),
        "{answer:#?}"
    );
    assert_eq!(workers(&refused), None);

    // Whether it is there at all is not to be learnt.
    let spec = refused.store.get(&broker()).expect("the broker")["spec"].clone();
    fake.delete_at(&broker());
    let gone = |world: &World| world.store.get(&broker()).is_none() && is_shut_out(world);
    let missing = comes(&fake, "a broker that is not there", gone).await;
    assert_eq!(told(&missing), answer);

    fake.create(
        &json!({"apiVersion": "millrace.dev/v1alpha1", "kind": "MqttBroker",
            "metadata": {"name": "broker", "namespace": "hub"}, "spec": spec})
        .to_string(),
    );
    fake.edit_at(&broker(), &|broker| {
        broker["spec"]["allowedRoutes"] = by_site("a")
    });
    let admitted = comes(&fake, "a broker that admits the route", |world| {
        is_settled(world.objects())
    })
    .await;
    assert_eq!(workers(&admitted), Some(2));
    assert!(
        shown_to_the_sink(&admitted),
        "the sink admits the route and is asked for its topic"
    );
    // What cannot be read, because a newer release has written it, may admit the route.
    let urls = |urls: Value| {
        fake.edit_at(&broker(), &move |broker| broker["spec"]["urls"] = urls.clone());
    };
    urls(json!(5));
    let unread = comes(&fake, "a broker that cannot be read", is_shut_out).await;
    assert_eq!(workers(&unread), Some(2));
    urls(json!(["mqtt://mqtt.hub:1883"]));
    comes(&fake, "a broker that can be read", |world| {
        is_settled(world.objects())
    })
    .await;

    // What belongs to the route is where the route is.
    let elsewhere: Vec<String> = admitted
        .objects()
        .filter(|(name, _)| name.contains("/hub/") && name.contains("telemetry"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(elsewhere, [""; 0]);

    // The namespace gets another label.
    let namespace = Key::new("namespaces", "", NAMESPACE);
    let relabel = |site: &'static str| {
        fake.edit_at(&namespace, &move |namespace| {
            namespace["metadata"]["labels"]["site"] = site.into()
        });
    };
    let ended = |world: &World| is_shut_out(world) && workers(world) == Some(0);
    relabel("b");
    let revoked = comes(&fake, "a label that is gone", ended).await;
    assert!(told(&revoked).contains(&json!(["Ready", "False", "BrokerNotFound", message])));
    relabel("a");
    comes(&fake, "a label that is back", |world| is_settled(world.objects())).await;

    // The broker takes back what it granted.
    fake.edit_at(&broker(), &|broker| {
        broker["spec"]["allowedRoutes"] = by_site("b")
    });
    comes(&fake, "a grant that is gone", ended).await;
    fake.edit_at(&broker(), &|broker| {
        broker["spec"]["allowedRoutes"] = by_site("a")
    });
    comes(&fake, "a grant that is back", |world| is_settled(world.objects())).await;

    // The same, where workers run, as if it admitted nobody.
    fake.delete_at(&broker());
    let lost = comes(&fake, "a broker that is gone", ended).await;
    assert_eq!(told(&lost), told(&revoked));
    operator.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_is_shown_nothing_of_routes_that_it_does_not_admit() {
    let fake = Fake::new();
    fake.create(HUB);
    fake.edit_at(&Key::new("kafkasinks", "hub", "main"), &|sink| {
        sink["spec"]["allowedRoutes"] = by_site("b");
    });
    fake.edit_at(&broker(), &|broker| {
        broker["spec"]["allowedRoutes"] = by_site("a")
    });
    fake.create(ROUTE);
    let operator = fake.start("worker:1");
    let is_asked = |world: &World| {
        let probes = world
            .store
            .all("pods")
            .filter(|(key, _)| key.name.contains("sink-probe"));
        let refused = condition(route(world), "Accepted").is_some_and(|it| it["reason"] == "SinkNotFound");
        probes.count() > 0 && refused
    };
    let world = comes(&fake, "a sink that does not admit the route", is_asked).await;
    assert!(!shown_to_the_sink(&world));
    operator.kill().await;
}

/// A route of the hub itself, and one of others with the same consumer group that is the older by name.
const GROUP: &str = "
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: commands, namespace: a-stranger}
spec:
  replicas: 0
  from:
    kafka: {sinkRef: {name: main, namespace: hub}, topics: [commands], group: commands}
  to:
    mqtt: {brokerRef: {name: broker, namespace: hub}, topic: strange, allowedTopics: [strange]}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: commands, namespace: hub}
spec:
  replicas: 0
  from:
    kafka: {sinkRef: {name: main}, topics: [commands], group: commands}
  to:
    mqtt: {brokerRef: {name: broker}, topic: devices, allowedTopics: [devices]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_not_admitted_takes_nothing_from_one_that_is() {
    let fake = Fake::new();
    fake.create(HUB);
    fake.create(GROUP);
    let operator = fake.start("worker:1");
    let reason = |world: &World, namespace: &str| accepted(world, namespace, "commands");
    let are = |world: &World, stranger: &str, own: &str| {
        reason(world, "a-stranger") == Some(stranger.into()) && reason(world, "hub") == Some(own.into())
    };
    let came = fake
        .until(PATIENCE, |world| are(world, "BrokerNotFound", "AsAsked"))
        .await;
    let told = [reason(&fake.world(), "a-stranger"), reason(&fake.world(), "hub")];
    assert!(came, "{told:?}");

    // Nor does one that refers to nothing.
    let stranger = Key::new("topicroutes", "a-stranger", "commands");
    let refer = |name: &'static str| {
        fake.edit_at(&stranger, &move |route| {
            route["spec"]["to"]["mqtt"]["brokerRef"]["name"] = name.into();
        });
    };
    refer("guessed");
    fake.rest(STILL).await;
    assert!(are(&fake.world(), "BrokerNotFound", "AsAsked"));
    refer("broker");

    // Nor does one that is admitted later, although it is the older.
    fake.edit_at(&broker(), &|broker| {
        broker["spec"]["allowedRoutes"] = json!({"namespaces": {"from": "All"}});
    });
    let came = fake
        .until(PATIENCE, |world| are(world, "GroupConflict", "AsAsked"))
        .await;
    let told = [reason(&fake.world(), "a-stranger"), reason(&fake.world(), "hub")];
    assert!(came, "{told:?}");
    operator.kill().await;
}

/// Commands go from Kafka to devices, and answers from those to Kafka: the older by name writes, and reads elsewhere.
const BOTH_WAYS: &str = "
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: answers, namespace: hub}
spec:
  replicas: 0
  from:
    mqtt:
      brokerRef: {name: broker}
      subscriptions: [{filter: devices/+/answers}]
      ordering: PerTopic
      lanes: 1
  to:
    kafka: {sinkRef: {name: main}, topic: answers}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {name: commands, namespace: hub}
spec:
  replicas: 0
  from:
    kafka: {sinkRef: {name: main}, topics: [commands]}
  to:
    mqtt: {brokerRef: {name: broker}, topic: devices/all/commands, allowedTopics: [devices/all/commands]}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_route_that_is_edited_into_a_loop_is_refused_and_not_the_one_that_ran() {
    let fake = Fake::new();
    fake.create(HUB);
    fake.create(BOTH_WAYS);
    let operator = fake.start("worker:1");
    let are = |world: &World, answers: &str, commands: &str| {
        accepted(world, "hub", "answers") == Some(answers.into())
            && accepted(world, "hub", "commands") == Some(commands.into())
    };
    let comes = async |what: &str, answers: &str, commands: &str| {
        let came = fake.until(PATIENCE, |world| are(world, answers, commands)).await;
        assert!(came, "{what}");
        fake.rest(STILL).await;
        assert!(are(&fake.world(), answers, commands), "{what} was undone");
    };
    comes("both are accepted", "AsAsked", "AsAsked").await;
    let answers = Key::new("topicroutes", "hub", "answers");
    let reads = |filter: &'static str| {
        fake.edit_at(&answers, &move |route| {
            route["spec"]["from"]["mqtt"]["subscriptions"] = json!([{"filter": filter}]);
        });
    };
    let writes = |topic: &'static str| {
        fake.edit_at(&answers, &move |route| {
            route["spec"]["to"]["kafka"]["topic"] = topic.into()
        });
    };
    writes("commands");
    comes("it writes what the other reads", "AsAsked", "AsAsked").await;
    reads("devices/#");
    comes("it closes a loop", "FeedsItself", "AsAsked").await;
    // Whatever else becomes of the other.
    let commands = Key::new("topicroutes", "hub", "commands");
    fake.edit_at(&commands, &|route| route["spec"]["paused"] = true.into());
    fake.rest(STILL).await;
    comes("the other is edited", "FeedsItself", "AsAsked").await;
    reads("devices/+/answers");
    comes("it is open again", "AsAsked", "AsAsked").await;
    operator.kill().await;
}

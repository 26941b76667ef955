//! What happens to routes.

use millrace_contract::status::{LaneState, Phase};
use millrace_operator::cluster::ClusterError;
use millrace_operator::plan::Rejection;
use millrace_operator::status::Reason;
use serde_json::{Value, json};

use crate::manifests::{edited, generation};
use crate::pods;
use crate::said::Said;
use crate::worker;
use crate::world::World;

/// All of them.
pub(crate) fn all() -> Vec<Said> {
    let all = [
        rejected(),
        probed(),
        starting(),
        working(),
        in_trouble(),
        changed(),
        from_kafka(),
    ];
    all.into_iter().flatten().collect()
}

/// Commands for devices.
fn commands(spec: &mut Value) {
    spec["from"] = json!({"kafka": {"sinkRef": {"name": "main"}, "topics": ["commands"]}});
    spec["to"] = json!({"mqtt": {
        "brokerRef": {"name": "plant"}, "topic": "plants/{record.key}/cmd", "allowedTopics": ["plants/+/cmd"],
    }});
}

/// Routes of the other direction.
fn from_kafka() -> Vec<Said> {
    let running = || World::new().written(commands).probe_finds_all().rolled_out();
    let many = |spec: &mut Value| {
        commands(spec);
        spec["replicas"] = 9.into();
    };
    let mut fed_back = World::new().written(commands);
    fed_back.fed_back_by = vec!["factory/telemetry".into()];
    let mut in_a_group = World::new().written(commands);
    in_a_group.in_group_of = Some("factory/settings".into());
    vec![
        World::new()
            .written(|spec| {
                commands(spec);
                spec["to"]["mqtt"]["allowedTopics"] = json!([]);
            })
            .said("From Kafka, and a record could command any device"),
        fed_back.said("From Kafka, and what it publishes comes back through another route"),
        in_a_group.said("From Kafka, and another route reads with the same consumer group"),
        World::new()
            .written(commands)
            .said("From Kafka, and nothing has been tried yet"),
        running().said("From Kafka, and all works"),
        World::new()
            .written(many)
            .probe_finds_all()
            .rolled_out()
            .said("From Kafka, with more workers than partitions"),
        running()
            .answers(0, |status| {
                status.ready = false;
                status.delivery = None;
            })
            .said("From Kafka, and its worker has started again"),
        running()
            .answers(0, |status| status.problems = vec![worker::out_of_range()])
            .said("From Kafka, and records are gone that were to be read"),
        running()
            .answers(0, |status| {
                status.problems = vec![worker::publishing_downgraded(), worker::retain_unavailable()];
            })
            .said("From Kafka, and the broker takes less than is asked"),
        running()
            .answers(0, |status| status.problems = vec![worker::retain_unavailable()])
            .said("From Kafka, and the broker keeps no messages"),
        running()
            .edited(|spec| spec["paused"] = true.into())
            .said("From Kafka, and paused"),
    ]
}

/// Something has to be written differently first.
fn rejected() -> Vec<Said> {
    let taken = ClusterError::NameTaken {
        kind: "StatefulSet",
        name: "sensors-worker".into(),
    };
    let mut name_taken = World::new().probe_finds_all();
    name_taken.taken = Some(Rejection::new(Reason::NameConflict, taken.to_string()));
    let session = |spec: &mut Value| spec["sessionId"] = "line1".into();
    vec![
        World::new().broker(|_| None).said("The broker does not exist"),
        World::new().sink(|_| None).said("The sink does not exist"),
        World::running()
            .broker(|_| None)
            .said("The broker is deleted while workers run"),
        World::new()
            .written(|spec| spec["to"]["kafka"]["key"] = "{lines}".into())
            .said("The key names a wildcard that no filter has"),
        World::new()
            .written(|spec| {
                spec["from"]["mqtt"]["subscriptions"][0]["filter"] = "sensors/#/x".into();
                spec["timeouts"] = json!({"drain": "2h"});
            })
            .said("Two fields are wrong"),
        World::new()
            .broker(|broker| Some(edited(broker, |spec| spec["urls"] = json!(["mosquitto:1883"]))))
            .said("The broker is written wrong"),
        World::running()
            .edited(|spec| spec["from"]["mqtt"]["qos"] = 3.into())
            .said("A change is wrong while workers run"),
        World::new()
            .written(session)
            .after_another("older")
            .said("An older route has the same sessionId"),
        name_taken.said("Somebody else has a StatefulSet of the name"),
        World::new()
            .refused("configmaps \"sensors-live\" is forbidden: exceeded quota: small")
            .said("A quota forbids the first child"),
        World::running()
            .edited(|spec| spec["replicas"] = 4.into())
            .refused("statefulsets.apps \"sensors-worker\" is forbidden: exceeded quota: small")
            .said("A quota forbids a change while workers run"),
    ]
}

/// What is asked for is tried, and no worker has run yet.
fn probed() -> Vec<Said> {
    let again = |world: World, seconds| {
        world
            .after(seconds)
            .probe_fails_at_broker(worker::broker_unreachable())
    };
    let many = again(again(World::new(), 0), 10);
    vec![
        World::new().said("A route is new"),
        World::new()
            .probe(pods::status(pods::CREATING))
            .said("Its probe is being started"),
        World::new()
            .probe_fails_at_broker(worker::broker_unresolved())
            .said("The broker's name does not resolve"),
        again(many, 20).said("The broker is unreachable for the third time"),
        World::new()
            .probe_fails_at_broker(worker::broker_is_none())
            .said("Something else than a broker answers"),
        World::new()
            .probe_fails_at_broker(worker::bad_password())
            .said("The broker refuses the password"),
        World::new()
            .probe_fails_at_broker(worker::broker_has_expired())
            .said("The broker's certificate has expired"),
        World::new()
            .probe_fails_at_sink(worker::kafka_knows_no_such_user())
            .said("Kafka refuses the password"),
        World::new()
            .probe_fails_at_broker(worker::bad_client_id())
            .said("The broker refuses the client id"),
        World::new()
            .probe_fails_at_broker(worker::no_secret_key())
            .said("The Secret has no such key"),
        World::new()
            .probe_fails_at_sink(worker::kafka_has_no_broker())
            .said("Kafka does not answer"),
        World::new()
            .probe_misses_topic(worker::topic_missing())
            .said("The topic is missing"),
        World::new()
            .probe_misses_topic(worker::topic_not_created())
            .said("The topic cannot be created"),
        World::new()
            .probe(pods::status(pods::CREATING))
            .after(180)
            .said("The Secret does not exist, so the probe does not start"),
        World::new()
            .probe(pods::status(pods::NO_IMAGE))
            .said("The probe's image cannot be pulled"),
        World::new()
            .probe(pods::status(pods::UNSCHEDULABLE))
            .said("No node has room for the probe"),
        World::new()
            .probe(pods::status(pods::EVICTED))
            .said("The probe is evicted"),
        World::new()
            .probe(pods::ended(
                1,
                "error: cannot read the request of a probe: /etc/millrace/probe/request.json: EOF\n",
            ))
            .said("The probe ends without a report"),
    ]
}

/// The workers are on their way.
fn starting() -> Vec<Said> {
    let started = || World::new().probe_finds_all().applied(2, 2);
    vec![
        World::new()
            .probe_finds_all()
            .said("The probe has found all that is needed"),
        World::new()
            .probe_finds_all()
            .applied(0, 0)
            .said("A quota keeps the workers from being made"),
        started()
            .pod(0, pods::READY)
            .pod(1, pods::CREATING)
            .said("One worker is ready, the other is being started"),
        started()
            .pod(0, pods::READY)
            .pod(1, pods::CRASHING)
            .said("A worker crashes again and again"),
        started()
            .pod(0, pods::READY)
            .pod(1, pods::NO_IMAGE)
            .said("A worker's image cannot be pulled"),
        started()
            .pod(0, pods::UNSCHEDULABLE)
            .pod(1, pods::UNSCHEDULABLE)
            .said("No node has room for the workers"),
        World::running()
            .answers(0, |status| status.lanes.clear())
            .answers(1, |status| status.lanes.clear())
            .said("The workers have no lanes yet"),
        World::running()
            .suffers(1, LaneState::Connecting, &[])
            .said("Half of the lanes are connecting"),
    ]
}

/// It works, perhaps not as meant.
fn working() -> Vec<Said> {
    let few_lanes = |spec: &mut Value| {
        spec["replicas"] = 5.into();
        spec["from"]["mqtt"]["lanes"] = 2.into();
    };
    vec![
        World::running().said("All works"),
        World::running()
            .edited(|spec| spec["paused"] = true.into())
            .applied(0, 0)
            .said("The route is paused"),
        World::running()
            .scaled_by("kube-controller-manager")
            .said("A HorizontalPodAutoscaler scales the StatefulSet"),
        World::new()
            .written(|spec| spec["replicas"] = 0.into())
            .probe_finds_all()
            .rolled_out()
            .said("The route is scaled to zero"),
        World::new()
            .written(few_lanes)
            .probe_finds_all()
            .rolled_out()
            .said("More workers are asked for than there are lanes"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::qos_downgraded()])
            .suffers(1, LaneState::Up, &[worker::qos_downgraded()])
            .said("The broker grants a lower quality of service"),
        World::running()
            .suffers(
                0,
                LaneState::Up,
                &[worker::topic_unsafe(), worker::session_short()],
            )
            .said("A topic has one replica, and the broker's sessions are short"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::session_short()])
            .said("The broker's sessions are short"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::certificate_expires()])
            .suffers(1, LaneState::Up, &[worker::certificate_expires()])
            .said("A certificate expires soon"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::window_of_broker()])
            .suffers(1, LaneState::Up, &[worker::window_of_broker()])
            .said("The broker has a limit of its own for what is unacknowledged"),
        World::running()
            .suffers(1, LaneState::Up, &[worker::window_of_311()])
            .said("The broker has such a limit, in MQTT 3.1.1"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::window_asked_for()])
            .said("The window that was asked for is too small"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::sink_saturated()])
            .suffers(
                1,
                LaneState::Up,
                &[worker::window_of_broker(), worker::topic_unsafe()],
            )
            .said("Kafka is too slow for one worker, the window too small for the other"),
    ]
}

/// It has worked.
fn in_trouble() -> Vec<Said> {
    let trouble = |problem, state| World::running().suffers(0, state, &[problem]);
    vec![
        trouble(worker::broker_unreachable(), LaneState::Waiting).said("The broker is gone"),
        trouble(worker::broker_closes(), LaneState::Waiting).said("The broker closes connections"),
        trouble(worker::broker_shuts_down(), LaneState::Waiting).said("The broker is being restarted"),
        trouble(worker::broker_revokes(), LaneState::Waiting)
            .said("The broker takes the client's rights away"),
        trouble(worker::protocol_broken(), LaneState::Waiting).said("The broker breaks the protocol"),
        trouble(worker::subscription_refused(), LaneState::Waiting).said("The broker refuses a subscription"),
        trouble(worker::sharing_unsupported(), LaneState::Waiting)
            .said("The broker cannot share subscriptions"),
        trouble(worker::taken_over(), LaneState::TakenOver)
            .said("Another client has the client id of a lane"),
        trouble(worker::kafka_unreachable(), LaneState::Up).said("Kafka is gone"),
        trouble(worker::kafka_not_trusted(), LaneState::Up)
            .said("Kafka shows a certificate of another authority"),
        trouble(worker::no_token(), LaneState::Up)
            .said("The token endpoint does not know the client any more"),
        trouble(worker::kafka_silent(), LaneState::Connecting).said("Kafka has not answered yet"),
        trouble(worker::kafka_refuses(), LaneState::Up).said("Kafka takes the client's rights away"),
        trouble(worker::topic_missing(), LaneState::Up).said("The topic is deleted"),
        trouble(worker::partition_stalled(), LaneState::Up).said("A partition has no leader"),
        World::running()
            .answers(0, |status| {
                status.phase = Phase::Stopped;
                status.problems = vec![worker::message_undeliverable()];
                status
                    .lanes
                    .iter_mut()
                    .for_each(|lane| lane.state = LaneState::Down);
            })
            .said("A message cannot be delivered"),
        World::running()
            .goes_silent(1, "no answer within 2 s")
            .said("A worker does not answer"),
        World::running()
            .pod(1, pods::RUNNING)
            .said("A worker is no longer ready"),
    ]
}

/// It has worked, and is to work differently.
fn changed() -> Vec<Said> {
    let keyed = |spec: &mut Value| spec["to"]["kafka"]["key"] = "{line}-1".into();
    let compressed = |spec: &mut Value| spec["to"]["kafka"]["producer"] = json!({"compression": "Zstd"});
    let more_lanes = |spec: &mut Value| spec["from"]["mqtt"]["lanes"] = 6.into();
    let moved = |broker| Some(edited(broker, |spec| spec["urls"] = json!(["mqtt://other:1883"])));
    let elsewhere = |broker| {
        let mut broker = edited(broker, |spec| spec["urls"] = json!(["mqtt://edge:1883"]));
        broker["metadata"]["name"] = "edge".into();
        Some(broker)
    };
    let mut waiting = World::running().edited(compressed).probe_finds_all();
    waiting.rolling = 10;
    let mut untried = World::running().edited(compressed);
    untried.rolling = 10;
    let shares_nothing = |mut broker: Value| {
        broker["status"] = json!({
            "observedGeneration": generation(&broker), "conditions": [],
            "capabilities": {"protocolVersion": "5", "sharedSubscriptions": false, "maximumQos": 2},
        });
        Some(broker)
    };
    vec![
        untried.said("A change is to be tried, and ten other routes are at it"),
        World::running()
            .broker(shares_nothing)
            .edited(|_| {})
            .said("It is to share subscriptions, and the broker was found to have none"),
        World::running()
            .broker(shares_nothing)
            .edited(|spec| spec["from"]["mqtt"]["ordering"] = "PerTopic".into())
            .said("It need not share subscriptions any more"),
        World::running()
            .edited(compressed)
            .said("A change of what needs a restart is tried first"),
        World::running()
            .edited(compressed)
            .without_status()
            .said("A change is tried first, and the status was lost"),
        World::running()
            .edited(compressed)
            .probe_fails_at_sink(worker::kafka_has_no_broker())
            .said("A change comes while Kafka does not answer"),
        World::running()
            .broker(moved)
            .probe_fails_at_broker(worker::broker_unresolved())
            .said("The broker's new address is wrong"),
        World::running()
            .broker(moved)
            .probe_fails_at_broker(worker::broker_unresolved())
            .after(10)
            .probe(pods::status(pods::CREATING))
            .said("The broker's new address is wrong, and is tried again"),
        World::running()
            .edited(compressed)
            .probe_finds_all()
            .said("The probe of a change has found all, and no worker has been replaced"),
        World::running()
            .edited(|spec| spec["replicas"] = 4.into())
            .said("More workers were asked for a moment ago"),
        waiting.said("Ten other routes are replacing their workers"),
        World::running()
            .edited(compressed)
            .probe_finds_all()
            .applied(2, 1)
            .said("One of two workers has been replaced"),
        World::running()
            .edited(compressed)
            .probe_finds_all()
            .rolled_out()
            .said("All workers have been replaced"),
        World::running()
            .edited(|spec| spec["replicas"] = 4.into())
            .applied(2, 2)
            .said("Two more workers are asked for"),
        World::running()
            .edited(more_lanes)
            .said("More lanes are asked for"),
        World::running()
            .broker(elsewhere)
            .edited(|spec| spec["from"]["mqtt"]["brokerRef"]["name"] = "edge".into())
            .probe_finds_all()
            .owned(4)
            .suffers(0, LaneState::Leaving, &[])
            .suffers(1, LaneState::Leaving, &[])
            .said("The route goes to another broker, and its lanes leave the one of before"),
        World::running()
            .edited(keyed)
            .said("A change of what workers take over is on its way"),
        World::running()
            .edited(keyed)
            .applied(2, 2)
            .answers(0, |_| {})
            .said("One of two workers has taken over a change"),
        World::running()
            .edited(keyed)
            .rolled_out()
            .said("Both workers have taken over a change"),
        World::running()
            .edited(keyed)
            .applied(2, 2)
            .suffers(0, LaneState::Up, &[worker::configuration_refused()])
            .said("A worker cannot use a change"),
        World::running()
            .suffers(0, LaneState::Up, &[worker::credentials_refused()])
            .said("The password in the Secret was changed to a wrong one"),
    ]
}

//! Users do what comes to their mind to objects, thousands of times: nothing panics, nothing is stuck, and a route beside
//! them notices nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy};
use millrace_operator::cluster::watch::Scope;
use millrace_operator::{Settings, names};
use serde_json::{Value, json};

use super::{STAGE, is_long};
use crate::objects::{conditions, is, is_deleting, plural_of};
use crate::random::Random;
use crate::real::{Cluster, Namespace, Objects, Operator};

/// Nothing is stuck for longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Namespaces in which sequences follow one another at the same time.
const AT_ONCE: usize = 24;
const KINDS: [&str; 3] = ["mqttbrokers", "kafkasinks", "topicroutes"];
const CHILDREN: [&str; 7] = [
    "statefulsets",
    "pods",
    "configmaps",
    "services",
    "serviceaccounts",
    "poddisruptionbudgets",
    "networkpolicies",
];

fn broker(name: &str, random: &mut Random) -> Value {
    let urls = random.one(&[
        json!(["mqtt://mqtt:1883"]),
        json!(["mqtt://down.plant:1883"]),
        json!(["mqtt://one:1883", "mqtt://two:1884"]),
        json!(["http://one"]),
    ]);
    let mut spec = json!({"urls": urls});
    if random.below(3) == 0 {
        spec["auth"] = json!({"basic": {"secretRef": {"name": "login"}}});
    }
    if random.below(3) == 0 {
        spec["session"] = json!({"expiryInterval": random.one(&["1h", "30m", "1s", "x"])});
    }
    if random.below(4) == 0 {
        spec["protocolVersion"] = random.one(&["V5", "V311", "Auto"]).into();
    }
    object("MqttBroker", name, spec)
}

fn sink(name: &str, random: &mut Random) -> Value {
    let mut spec = json!({"bootstrapServers": random.one(&[json!(["kafka:9092"]), json!(["a:1", "b:2"]), json!(["a"])])});
    if random.below(2) == 0 {
        spec["topics"] = json!([{"pattern": "t*", "create": "IfMissing", "partitions": random.below(12)}]);
    }
    if random.below(4) == 0 {
        spec["librdkafka"] = random.one(&[json!({"acks": "1"}), json!({"compression.level": "3"})]);
    }
    object("KafkaSink", name, spec)
}

fn route(name: &str, random: &mut Random) -> Value {
    let filters = ["a/#", "b/+x", "b/+y/z", "c/+", "#", "$share/g/x", "d/é"];
    let subscriptions: Vec<Value> = (0..=random.below(3))
        .map(|_| json!({"filter": random.one(&filters)}))
        .collect();
    let mut spec = json!({
        "from": {"mqtt": {
            "brokerRef": {"name": random.one(&[name, name, name, "nobody"])},
            "subscriptions": subscriptions,
            "ordering": random.one(&["PerTopic", "PerTopic", "Unordered"]),
            "lanes": random.below(6),
        }},
        "to": {"kafka": {
            "sinkRef": {"name": random.one(&[name, name, name, "nobody"])},
            "topic": random.one(&["t", "t2", "t.{x}", "{message.topic}", "no topic"]),
        }},
        "replicas": random.below(4),
    });
    if random.below(5) == 0 {
        spec["paused"] = true.into();
    }
    if random.below(5) == 0 {
        spec["onError"] = random.one(&[
            json!({"action": "DeadLetter", "deadLetter": {"topic": "dead"}}),
            json!({"action": "DeadLetter"}),
            json!({"action": "Discard"}),
        ]);
    }
    if random.below(6) == 0 {
        spec["sessionId"] = random.one(&["one", "two"]).into();
    }
    if random.below(6) == 0 {
        spec["when"] = random
            .one(&["payload.t > 1", "true", "message.qos > 0", "("])
            .into();
    }
    object("TopicRoute", name, spec)
}

fn good(name: &str, lanes: u16, replicas: u16) -> [Value; 3] {
    [
        object("MqttBroker", name, json!({"urls": ["mqtt://mqtt:1883"]})),
        object("KafkaSink", name, json!({"bootstrapServers": ["kafka:9092"]})),
        object(
            "TopicRoute",
            name,
            json!({
                "from": {"mqtt": {
                    "brokerRef": {"name": name}, "subscriptions": [{"filter": "good/#"}], "ordering": "PerTopic",
                    "lanes": lanes,
                }},
                "to": {"kafka": {"sinkRef": {"name": name}, "topic": "good"}},
                "replicas": replicas,
            }),
        ),
    ]
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// Sequences of one namespace: what was done in the one under way, for the report if it fails.
struct User<'a> {
    namespace: &'a Namespace,
    name: String,
    random: Random,
    done: Vec<String>,
    refused: u64,
}

impl User<'_> {
    /// Does one thing.
    async fn act(&mut self) {
        let name = self.name.clone();
        match self.random.below(20) {
            0..=2 => {
                let object = broker(&name, &mut self.random);
                self.apply(object).await;
            }
            3..=5 => {
                let object = sink(&name, &mut self.random);
                self.apply(object).await;
            }
            6..=10 => {
                let object = route(&name, &mut self.random);
                self.apply(object).await;
            }
            11..=12 => {
                let plural = self.random.one(&KINDS);
                self.delete(plural, &name).await;
            }
            13 => {
                self.patch(
                    "topicroutes",
                    json!({"metadata": {"annotations": {names::FORCE_DELETE: "true"}}}),
                )
                .await
            }
            14 => {
                self.patch("topicroutes", json!({"metadata": {"finalizers": null}}))
                    .await
            }
            15 => {
                let (plural, at) = (self.random.one(&KINDS), self.random.below(1000));
                let garbage = json!([{
                    "type": "Ready", "status": "Unknown", "reason": "Garbage", "message": format!("{at}"),
                    "lastTransitionTime": "2020-01-01T00:00:00Z",
                }]);
                self.status(plural, json!({"status": {"conditions": garbage}}))
                    .await;
            }
            16..=17 => {
                if let Some((plural, child)) = self.child() {
                    self.delete(&plural, &child).await;
                }
            }
            18 => {
                if let Some((plural, child)) = self.child() {
                    let patch = match plural.as_str() {
                        "configmaps" => json!({"data": {"live.json": "{", "record.json": "x"}}),
                        "statefulsets" => json!({"spec": {"replicas": 3}}),
                        _ => {
                            json!({"metadata": {"annotations": {names::ASSIGNMENT: "x", names::NUDGE: "x"}}})
                        }
                    };
                    self.patch_named(&plural, &child, patch).await;
                }
            }
            _ => {
                let seen = self.namespace.until(Duration::from_millis(300), |_| false);
                seen.await;
                self.done.push("wait".into());
            }
        }
    }

    fn child(&mut self) -> Option<(String, String)> {
        let objects = self.namespace.objects();
        let children: Vec<(String, String)> = objects
            .iter()
            .filter(|(_, object)| object["metadata"]["labels"][names::INSTANCE] == *self.name)
            .filter_map(|(key, _)| {
                let mut parts = key.split('/');
                let plural = parts.next().filter(|plural| CHILDREN.contains(plural))?;
                Some((plural.to_owned(), parts.nth(1)?.to_owned()))
            })
            .collect();
        (!children.is_empty()).then(|| self.random.one(&children))
    }

    async fn apply(&mut self, object: Value) {
        let result = self.namespace.apply(&object).await;
        self.note(
            format!("apply {} {}", object["kind"], object["spec"]),
            result.err(),
        );
    }

    async fn delete(&mut self, plural: &str, name: &str) {
        // No orphans: who makes some wants to keep them.
        let policy = self
            .random
            .one(&[PropagationPolicy::Background, PropagationPolicy::Foreground]);
        let params = DeleteParams {
            propagation_policy: Some(policy.clone()),
            ..DeleteParams::default()
        };
        let result = self.namespace.api(plural).delete(name, &params).await;
        self.note(format!("delete {plural} {name} {policy:?}"), result.err());
    }

    async fn patch(&mut self, plural: &str, patch: Value) {
        let name = self.name.clone();
        self.patch_named(plural, &name, patch).await;
    }

    async fn patch_named(&mut self, plural: &str, name: &str, patch: Value) {
        let api = self.namespace.api(plural);
        let result = api
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.note(format!("patch {plural} {name} {patch}"), result.err());
    }

    async fn status(&mut self, plural: &str, patch: Value) {
        let api = self.namespace.api(plural);
        let result = api
            .patch_status(&self.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        self.note(format!("patch status of {plural} {patch}"), result.err());
    }

    /// What the API server refuses is no fault, whatever code it has; that it is not reached is.
    fn note(&mut self, what: String, error: Option<kube::Error>) {
        let refused = match error {
            None => "",
            Some(kube::Error::Api(_)) => {
                self.refused += 1;
                " (refused)"
            }
            Some(error) => panic!("{what}: {error}"),
        };
        self.done.push(format!("{what}{refused}"));
    }

    /// Some things, then what works in half of the cases, then all away.
    async fn sequence(&mut self) -> Result<(), String> {
        for _ in 0..2 + self.random.below(5) {
            self.act().await;
        }
        if self.random.below(2) == 0 {
            self.heal().await?;
        }
        let mut kinds = KINDS.to_vec();
        for index in (1..kinds.len()).rev() {
            kinds.swap(index, self.random.below(index + 1));
        }
        for plural in kinds {
            let name = self.name.clone();
            self.delete(plural, &name).await;
        }
        let is_gone = |objects: &Objects| !objects.iter().any(|(key, object)| self.is_left(key, object));
        if self.namespace.until(PATIENCE, is_gone).await {
            return Ok(());
        }
        let objects = self.namespace.objects();
        let left: Vec<&str> = objects
            .iter()
            .filter(|(key, object)| self.is_left(key, object))
            .map(|(key, _)| key.as_str())
            .collect();
        Err(format!("left: {left:?}"))
    }

    /// Whether an object is one of ours or a child of one. A Job that has ended goes by itself in its time.
    fn is_left(&self, key: &str, object: &Value) -> bool {
        let plural = key.split('/').next().unwrap_or_default();
        if KINDS.contains(&plural) {
            return object["metadata"]["name"] == *self.name;
        }
        let is_child = object["metadata"]["labels"][names::INSTANCE] == *self.name;
        let is_leave = object["metadata"]["labels"][names::COMPONENT] == names::component::LEAVE;
        is_child && !is_leave
    }

    async fn heal(&mut self) -> Result<(), String> {
        for object in good(&self.name.clone(), 2, 2) {
            // One that is being deleted has to go first.
            loop {
                let plural = plural_of(&object);
                let key = format!("{plural}/{}/{}", self.namespace.name, self.name);
                let is_clear =
                    |objects: &Objects| !objects.get(&key).is_some_and(|object| is_deleting(object));
                if !self.namespace.until(PATIENCE, is_clear).await {
                    return Err(format!("{key} is still being deleted"));
                }
                // What earlier managers own stays otherwise.
                let name = self.name.clone();
                self.delete_now(plural, &name).await?;
                let result = self.namespace.apply(&object).await;
                let refused = result.is_err();
                self.note(format!("heal {}", object["kind"]), result.err());
                if !refused {
                    break;
                }
            }
        }
        let ready = |objects: &Objects| {
            let key = format!("topicroutes/{}/{}", self.namespace.name, self.name);
            objects.get(&key).is_some_and(|route| is(route, "Ready", "True"))
        };
        if self.namespace.until(PATIENCE, ready).await {
            return Ok(());
        }
        let route = self.namespace.get("topicroutes", &self.name);
        Err(format!(
            "not ready: {}",
            route.map(|route| route["status"].to_string()).unwrap_or_default()
        ))
    }

    async fn delete_now(&mut self, plural: &str, name: &str) -> Result<(), String> {
        self.delete(plural, name).await;
        let key = format!("{plural}/{}/{name}", self.namespace.name);
        match self
            .namespace
            .until(PATIENCE, |objects| !objects.contains_key(&key))
            .await
        {
            true => Ok(()),
            false => Err(format!("{key} is still there")),
        }
    }
}

/// What must not change of a neighbour: its objects but for their status, and when its conditions became what they are.
fn unchanged(objects: &Objects) -> BTreeMap<String, Value> {
    let theirs = objects
        .iter()
        .filter(|(_, object)| object["metadata"]["labels"][names::INSTANCE] == "neighbour");
    let mut facts: BTreeMap<String, Value> = theirs
        .filter(|(_, object)| object["metadata"]["labels"][names::COMPONENT] == names::component::WORKER)
        .map(|(key, object)| {
            (
                key.clone(),
                json!([object["metadata"]["uid"], object["metadata"]["generation"]]),
            )
        })
        .collect();
    for (key, object) in objects.iter().filter(|(key, _)| key.ends_with("/neighbour")) {
        let since =
            conditions(object).map(|one| json!([one["type"], one["status"], one["lastTransitionTime"]]));
        facts.insert(key.clone(), since.collect());
    }
    facts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_users_do_nothing_is_stuck_and_no_neighbour_is_hurt() {
    let _stage = STAGE.lock().await;
    let total: u64 = if is_long() { 10_000 } else { 150 };
    let cluster = Cluster::start().await;
    let settings = Settings {
        // As many as there are users: nobody waits for another's workers.
        max_concurrent_routes: AT_ONCE,
        scrape_interval: Duration::from_secs(2),
        ..Settings::default()
    };
    // As happens to whoever asks hundreds of workers.
    cluster.kubelet.lapses.store(true, Ordering::Relaxed);
    let operator = Operator::start(&cluster, Scope::All, settings);
    let (next, refused, cluster) = (AtomicU64::new(0), AtomicU64::new(0), &cluster);
    let lanes = stream::iter(0..AT_ONCE).map(|lane| {
        let (next, refused) = (&next, &refused);
        async move {
            let namespace = cluster.namespace(&format!("lane-{lane}")).await;
            for object in good("neighbour", 1, 1) {
                namespace.apply(&object).await.expect("a good object");
            }
            let key = format!("topicroutes/{}/neighbour", namespace.name);
            let ready = |objects: &Objects| {
                objects.get(&key).is_some_and(|route| is(route, "Ready", "True"))
                    && objects
                        .iter()
                        .filter(|(key, _)| key.ends_with("/neighbour"))
                        .all(|(_, object)| is(object, "Reconciling", "False"))
            };
            let is_up = namespace.until(PATIENCE * 2, ready).await;
            assert!(is_up, "the neighbour becomes ready: {:#?}", namespace.objects());
            let before = unchanged(&namespace.objects());
            let mut failed = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    break;
                }
                let mut user = User {
                    namespace: &namespace,
                    name: format!("seq-{number}"),
                    random: Random(number),
                    done: Vec::new(),
                    refused: 0,
                };
                if let Err(error) = user.sequence().await {
                    let report = format!("sequence {number}: {error}\n  {}", user.done.join("\n  "));
                    eprintln!("{report}");
                    failed.push(report);
                }
                if number % 500 == 499 {
                    eprintln!("{} sequences have begun", number + 1);
                }
                refused.fetch_add(user.refused, Ordering::Relaxed);
            }
            let after = unchanged(&namespace.objects());
            if before != after {
                let told = namespace.told("neighbour").await;
                failed.push(format!("{key} was hurt: {before:#?}\n{after:#?}\n{told}"));
            }
            failed
        }
    });
    let failed: Vec<String> = lanes.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await.concat();
    let page = operator.metrics.page();
    let passes: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("millrace_operator_reconciles"))
        .collect();
    eprintln!(
        "{total} sequences, {} acts refused\n{}",
        refused.load(Ordering::Relaxed),
        passes.join("\n")
    );
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.into_iter().take(5).collect::<Vec<_>>().join("\n")
    );
    assert!(!page.contains("outcome=\"panic\""), "{page}");
    operator.kill().await;
}

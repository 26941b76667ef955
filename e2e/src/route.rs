use std::ops::Range;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use millrace_contract::LaneRecord;
use millrace_contract::status::{RouteStatus, Status};
use millrace_crds::{SessionSource, TopicRoute, session_id};
use millrace_testkit::{now_micros, wait_until};
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::namespace::Namespace;
use crate::{BROKERS, Mqtt, SOON, get, try_kubectl};

/// So many that every worker has some.
const FILTERS: u16 = 8;

/// The manifests of a route between the brokers of the cluster.
#[derive(Clone, Debug)]
pub struct Manifests {
    /// The name of the route.
    pub name: String,
    /// The Kafka topic: another in every run, because what is in it is counted.
    pub topic: String,
    /// Beside `from` and `to`: indented by two.
    pub spec: String,
    /// `PerTopic` or `Unordered`.
    pub ordering: &'static str,
    /// Lanes of the route.
    pub lanes: u16,
    /// Filters below the route's name.
    pub filters: Vec<String>,
    /// Beside `urls`: indented by two.
    pub broker: String,
    /// The MQTT broker.
    pub server: Mqtt,
    /// Its port.
    pub port: u16,
    /// Beside the topic: fields of `to.kafka`, each after a comma.
    pub record: String,
}

impl Manifests {
    /// A route with eight filters on four lanes, from `<name>/0/+` to `<name>/7/+`, to a topic of its own.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            topic: format!("{name}-{}", now_micros()),
            spec: "  replicas: 2\n".to_owned(),
            ordering: "PerTopic",
            lanes: 4,
            filters: (0..FILTERS).map(|filter| format!("{filter}/+key")).collect(),
            broker: String::new(),
            server: Mqtt::default(),
            port: 1883,
            record: String::new(),
        }
    }

    /// Broker, sink and route.
    pub fn yaml(&self) -> String {
        let Self {
            name,
            topic,
            spec,
            ordering,
            lanes,
            filters,
            broker,
            server,
            port,
            record,
        } = self;
        let server = server.name();
        let filters: String = filters
            .iter()
            .map(|filter| format!("      - filter: {name}/{filter}\n"))
            .collect();
        format!(
            "apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {{name: plant}}
spec:
  urls: [mqtt://{server}.{BROKERS}.svc:{port}]
{broker}---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {{name: main}}
spec:
  bootstrapServers: [kafka.{BROKERS}.svc:9092]
  topics: [{{pattern: \"{name}*\", create: IfMissing, partitions: 6, replicationFactor: 1}}]
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: {name}}}
spec:
{spec}  from:
    mqtt:
      brokerRef: {{name: plant}}
      subscriptions:
{filters}      ordering: {ordering}
      lanes: {lanes}
  to:
    kafka: {{sinkRef: {{name: main}}, topic: {topic}{record}}}
"
        )
    }

    /// Has each of eight lanes read one filter: lane 0 the first, and so on.
    pub fn one_filter_for_each_lane(&mut self) {
        self.lanes = FILTERS;
        let lane_of = |filter: &str| {
            let wire = format!("{}/{filter}/+", self.name);
            (0..FILTERS).max_by_key(|lane| xxh3_64_with_seed(wire.as_bytes(), u64::from(*lane)))
        };
        let names = |lane| {
            (0..)
                .map(|n: u32| n.to_string())
                .find(|name| lane_of(name) == Some(lane))
        };
        let names = (0..FILTERS).filter_map(names);
        self.filters = names.map(|name| format!("{name}/+key")).collect();
    }

    /// The MQTT topic of a key: the first eight filters take turns.
    pub fn topic_of(&self) -> impl Fn(u32) -> String + Send + Sync + 'static {
        let name = self.name.clone();
        let filters: Vec<String> = self.filters.iter().take(FILTERS.into()).cloned().collect();
        move |key| {
            let filter = &filters[key as usize % filters.len()];
            format!("{name}/{}", filter.replace("+key", &key.to_string()))
        }
    }
}

/// A route in the cluster.
#[derive(Debug)]
pub struct RouteHandle<'n> {
    namespace: &'n Namespace,
    name: String,
}

impl<'n> RouteHandle<'n> {
    /// The route of a name.
    pub fn new(namespace: &'n Namespace, name: &str) -> Self {
        Self {
            namespace,
            name: name.to_owned(),
        }
    }

    /// As it is now; none if it is gone.
    pub fn get(&self) -> Option<TopicRoute> {
        get(self.namespace.name(), "topicroute", &self.name)
    }

    /// The client ids of its sessions with these lanes.
    pub fn sessions(&self, lanes: Range<u16>) -> Vec<String> {
        let route = self.get().expect("the route");
        let id = session_id(&route, SessionSource::Uid).expect("a uid");
        lanes.map(|lane| format!("millrace-{id}-{lane}")).collect()
    }

    /// Asks for so many workers, as a user would.
    pub fn scale(&self, workers: usize) {
        let route = format!("topicroute/{}", self.name);
        let replicas = format!("--replicas={workers}");
        self.namespace.kubectl(&["scale", &route, &replicas]);
    }

    /// Who owns which lane, as the operator has written it last.
    pub fn record(&self) -> Option<LaneRecord> {
        self.written("lanes", "record")
    }

    /// What the operator has written last under a key of one of the route's ConfigMaps.
    pub fn written<T: DeserializeOwned>(&self, map: &str, key: &str) -> Option<T> {
        let map = format!("{}-{map}", self.name);
        let path = format!("jsonpath={{.data['{key}\\.json']}}");
        let json = self.namespace.kubectl(&["get", "configmap", &map, "-o", &path]);
        serde_json::from_str(&json).ok()
    }

    /// A condition.
    pub fn condition(&self, kind: &str) -> Option<Condition> {
        let status = self.get()?.status?;
        status
            .conditions
            .into_iter()
            .find(|condition| condition.type_ == kind)
    }

    /// Waits until a condition has a status and, unless it is empty, a reason.
    pub fn wait_for(&self, kind: &str, status: &str, reason: &str, deadline: Duration) -> Condition {
        let mut last = None;
        let what = format!("{kind}={status} {reason} of {}", self.name);
        wait_until(deadline, &what, || {
            last = self.condition(kind);
            last.as_ref()
                .is_some_and(|now| now.status == status && (reason.is_empty() || now.reason == reason))
        });
        last.unwrap()
    }

    /// Waits until its workers run what was written last.
    pub fn wait_applied(&self, deadline: Duration) {
        wait_until(deadline, &format!("{} to be applied", self.name), || {
            let Some(route) = self.get() else { return false };
            let conditions = route.status.map(|status| status.conditions).unwrap_or_default();
            conditions.iter().any(|condition| {
                condition.type_ == "ConfigurationApplied"
                    && condition.status == "True"
                    && condition.observed_generation == route.metadata.generation
            })
        });
    }

    /// Waits until it works as it is written, as a user would.
    pub fn wait_ready(&self) {
        let route = format!("topicroute/{}", self.name);
        self.namespace
            .kubectl(&["wait", "--for=condition=Ready", &route, "--timeout=120s"]);
    }

    /// Pauses it, and waits until its workers are gone.
    pub fn pause(&self) {
        let paused = r#"{"spec":{"paused":true}}"#;
        self.namespace
            .kubectl(&["patch", "topicroute", &self.name, "--type=merge", "-p", paused]);
        wait_until(SOON, "the workers to be gone", || self.pods().is_empty());
    }

    /// Names of the pods that run it.
    pub fn pods(&self) -> Vec<String> {
        let selector = format!(
            "millrace.dev/kind=topicroute,app.kubernetes.io/instance={},app.kubernetes.io/component=worker",
            self.name
        );
        self.namespace.names("pods", &selector)
    }

    /// What each worker that answers says at `/status`.
    pub fn statuses(&self) -> Vec<RouteStatus> {
        let asked = self.pods().into_iter().filter_map(|pod| {
            let path = format!(
                "/api/v1/namespaces/{}/pods/{}:9090/proxy/status",
                self.namespace.name(),
                pod.trim_start_matches("pod/")
            );
            // A pod that starts or goes does not.
            let json = try_kubectl(&["get", "--raw", &path]).ok()?;
            let status: Status =
                serde_json::from_str(&json).unwrap_or_else(|error| panic!("{pod}: {error}: {json}"));
            Some(status.routes)
        });
        asked.flatten().collect()
    }
}

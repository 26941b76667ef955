mod destination;
mod source;
mod worker;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Named, ObjectRef, Reference, TopicRouteStatus, patterns};
use crate::units::{GepDuration, Quantity};
pub use destination::{
    Compression, KafkaDestination, MqttDestination, NoMatchingSubscribers, Producer, Propagate, Retain,
    RouteDestination,
};
pub use source::{
    KafkaSource, MqttSource, Ordering, Payload, PayloadFormat, RouteSource, Start, Subscription,
};
pub use worker::{
    PodMetadata, PodSpec, PodTemplate, Resources, TaintEffect, Toleration, TolerationOperator, WorkerPods,
};

/// What is read where, what becomes of it, and where it goes.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "TopicRoute",
    namespaced,
    status = "TopicRouteStatus",
    shortname = "mrroute",
    category = "millrace",
    derive = "PartialEq",
    doc = "A route from an MQTT broker to Kafka, or from Kafka to an MQTT broker, with filter, mapping and guarantee.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from.*['brokerRef','sinkRef'].name"),
    printcolumn(name = "To", type_ = "string", json_path = ".spec.to.*['sinkRef','brokerRef'].name"),
    printcolumn(name = "Topic", type_ = "string", json_path = ".spec.to.*.topic"),
    printcolumn(name = "Workers", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Lanes", type_ = "integer", json_path = ".status.lanes.total", priority = 1),
    printcolumn(name = "Up", type_ = "integer", json_path = ".status.lanes.up", priority = 1),
    printcolumn(name = "Rate", type_ = "integer", json_path = ".status.ledger.writtenPerSecond"),
    printcolumn(name = "Received", type_ = "integer", json_path = ".status.ledger.received", priority = 1),
    printcolumn(name = "Written", type_ = "integer", json_path = ".status.ledger.written", priority = 1),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    validation = Rule::new("size(self.metadata.name) <= 40 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be at most 40 lower-case letters, digits and `-`, begin with a letter and not \
                  end with `-`: other names are made from it")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
        "has(self.sessionId) == has(oldSelf.sessionId) && (!has(self.sessionId) || self.sessionId == oldSelf.sessionId)")
    .message("sessionId is immutable: delete the route and create it again with the new one")
    .field_path(".sessionId"))]
#[x_kube(validation = Rule::new("has(self.from.mqtt) == has(oldSelf.from.mqtt)")
    .message("the direction is immutable: create another route for the other way")
    .field_path(".from"))]
#[x_kube(validation = Rule::new("has(self.from.mqtt) == has(self.from.kafka) || has(self.to.mqtt) == has(self.to.kafka) \
        || has(self.from.mqtt) == has(self.to.kafka)")
    .message("a route goes to the other side: write `kafka` here if `from` has `mqtt`, and `mqtt` if it has `kafka`")
    .field_path(".to"))]
pub struct TopicRouteSpec {
    /// How many workers share the route's lanes, or the partitions of `from.kafka`. More than there are of those are of no
    /// use. A HorizontalPodAutoscaler may set it.
    #[serde(default = "replicas")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Stops the route, keeping its sessions: the broker collects messages meanwhile.
    #[serde(default)]
    pub paused: bool,
    /// Second part of every client id, `<prefix>-<session id>-<lane>`: 1 to 8 lower-case letters or digits.
    /// Default: made for each route. Name it so that a route that is deleted and created again finds its sessions.
    /// Immutable. No two routes on a broker may have the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), regex(pattern = patterns::SESSION_ID))]
    pub session_id: Option<String>,
    /// What is read. Exactly one of: `mqtt`, `kafka`. The direction is immutable.
    pub from: RouteSource,
    /// Expression: messages (or records) for which it is false are filtered, that is acknowledged and not written. One for which
    /// it fails goes the way of `onError`. Absent: all messages are written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub when: Option<String>,
    /// Where it goes. Exactly one of: `kafka`, `mqtt`.
    pub to: RouteDestination,
    /// What happens to a message that cannot be delivered: one that cannot be mapped, or that Kafka refuses for good.
    #[serde(default)]
    pub on_error: OnError,
    /// Largest payload taken, as a size: from 1 to 32Mi. A larger message goes the way of `onError`.
    #[serde(default = "max_message_bytes")]
    pub max_message_bytes: Quantity,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// The pods that run the route in Kubernetes.
    #[serde(default, skip_serializing_if = "is_default")]
    pub worker: WorkerPods,
}

/// Annotation of a TopicRoute: names of messages that are discarded where they would stop the route, separated by commas, as
/// the route names them when it stops.
pub const SKIP: &str = "millrace.dev/skip";
/// Of more names only so many are looked at.
pub const MAX_SKIPPED: usize = 32;

impl TopicRoute {
    /// The MqttBroker that the route reads or publishes to.
    pub fn broker_ref(&self) -> Option<Reference<'_>> {
        let from = self.spec.from.mqtt.as_ref().map(|mqtt| &mqtt.broker_ref);
        let to = self.spec.to.mqtt.as_ref().map(|mqtt| &mqtt.broker_ref);
        self.reference("spec.from.mqtt.brokerRef", from)
            .or(self.reference("spec.to.mqtt.brokerRef", to))
    }

    /// The KafkaSink that the route reads or writes to.
    pub fn sink_ref(&self) -> Option<Reference<'_>> {
        let to = self.spec.to.kafka.as_ref().map(|kafka| &kafka.sink_ref);
        let from = self.spec.from.kafka.as_ref().map(|kafka| &kafka.sink_ref);
        self.reference("spec.to.kafka.sinkRef", to)
            .or(self.reference("spec.from.kafka.sinkRef", from))
    }

    /// The messages and records that are not to stop the route: the first [`MAX_SKIPPED`] that its annotation [`SKIP`] names.
    pub fn skipped(&self) -> impl Iterator<Item = &str> {
        let names = self.named_to_skip().filter(|name| self.is_name(name));
        names.take(MAX_SKIPPED)
    }

    /// What its annotation [`SKIP`] has, names or not.
    pub(crate) fn named_to_skip(&self) -> impl Iterator<Item = &str> {
        let annotations = self.metadata.annotations.as_ref();
        let names = annotations.and_then(|annotations| annotations.get(SKIP));
        let split = |c: char| c == ',' || c.is_whitespace();
        let names = names.into_iter().flat_map(move |names| names.split(split));
        names.filter(|name| !name.is_empty())
    }

    /// Whether a message of the route, or a record, can have that name.
    pub(crate) fn is_name(&self, name: &str) -> bool {
        match self.spec.from.kafka {
            None => name.len() == 16 && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')),
            Some(_) => name.split_once('[').is_some_and(|(topic, place)| {
                let place = place.split_once("]@");
                !topic.is_empty()
                    && place.is_some_and(|(partition, offset)| {
                        partition.parse::<u32>().is_ok() && offset.parse::<u64>().is_ok()
                    })
            }),
        }
    }

    fn reference<'a>(&'a self, field: &'static str, object: Option<&'a ObjectRef>) -> Option<Reference<'a>> {
        object.map(|object| Reference::new(field, object, self.namespace()))
    }
}

/// What happens to a message that cannot be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.action != 'DeadLetter' || has(self.deadLetter)")
        .message("action DeadLetter needs a topic to write to: write deadLetter: {topic: NAME}"),
    validation = Rule::new("self.action == 'DeadLetter' || !has(self.deadLetter)")
        .message("deadLetter is used with action DeadLetter only: write action: DeadLetter, or remove deadLetter")
)]
pub struct OnError {
    /// Stop: the route stops taking messages and says which message and why; nothing is lost. DeadLetter: the message
    /// is written to the topic of `deadLetter`. Discard: it is acknowledged and counted as discarded.
    #[serde(default)]
    pub action: ErrorAction,
    /// Where dead letters go, with action DeadLetter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter>,
}

/// What is done with a message that cannot be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ErrorAction {
    /// The route stops taking messages and says which message and why.
    #[default]
    Stop,
    /// The message is written to the dead-letter topic.
    DeadLetter,
    /// The message is acknowledged and counted as discarded.
    Discard,
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// A Kafka topic of the same sink. Headers of the record say why, from where and on which route.
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::TOPIC))]
    pub topic: String,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// How long a stopping worker waits for Kafka to confirm what it has in flight. What is not confirmed by then
    /// comes again from the broker. From 1s to 1h.
    #[serde(default = "drain")]
    pub drain: GepDuration,
    /// How long a lane that another client took over waits before it tries again. From 1s to 1h.
    #[serde(default = "failover")]
    pub failover: GepDuration,
    /// How long the sessions of a deleted route may take to run dry before they are left to expire at the broker.
    /// From 1s to 1h.
    #[serde(default = "leave")]
    pub leave: GepDuration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            drain: drain(),
            failover: failover(),
            leave: leave(),
        }
    }
}

fn replicas() -> i32 {
    1
}

fn max_message_bytes() -> Quantity {
    Quantity::new("1Mi")
}

fn drain() -> GepDuration {
    GepDuration::new("60s")
}

fn failover() -> GepDuration {
    GepDuration::new("15s")
}

fn leave() -> GepDuration {
    GepDuration::new("45s")
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

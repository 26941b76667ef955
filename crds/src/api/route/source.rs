use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::{ObjectRef, patterns};

/// Where messages come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.mqtt) != has(self.kafka)").message("write exactly one of `mqtt`, `kafka`"))]
pub struct RouteSource {
    /// Messages of an MQTT broker, for a route to Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttSource>,
    /// Records of Kafka topics, for a route to MQTT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaSource>,
}

/// Records of Kafka topics. All workers of the route are members of one consumer group, which commits an offset only after
/// the MQTT broker has confirmed every record before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaSource {
    /// The KafkaSink whose cluster is read.
    pub sink_ref: ObjectRef,
    /// The topics.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 249), regex(pattern = patterns::TOPIC)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub topics: Vec<String>,
    /// The consumer group. No two routes, and nothing else, may use the same. Default: `millrace.NAMESPACE.NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::GROUP))]
    pub group: Option<String>,
    /// Where the group begins in a topic that it has never read. Latest: with the next record that is written. Earliest:
    /// with the first that Kafka still has. Applies once: afterwards committed offsets count, and partitions that are
    /// added later are read from their first record.
    #[serde(default)]
    pub start: Start,
    /// How expressions see values.
    #[serde(default)]
    pub payload: Payload,
}

/// Where a consumer group begins in a topic that it has never read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Start {
    /// With the next record that is written.
    #[default]
    Latest,
    /// With the first that Kafka still has.
    Earliest,
}

/// Messages of an MQTT broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttSource {
    /// The MqttBroker to read from.
    pub broker_ref: ObjectRef,
    /// What is read. No topic may match two filters of a route.
    #[schemars(
        length(min = 1, max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["filter"])
    )]
    pub subscriptions: Vec<Subscription>,
    /// The quality of service asked for. 0: messages may be lost. 1: each is written at least once. 2: as 1, and the
    /// broker sends fewer repeats.
    #[serde(default = "qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: i32,
    /// How filters are spread over lanes. PerTopic: each filter is read by one lane, so messages of a topic keep their
    /// order. Unordered: every lane reads every filter through a shared subscription; faster for a single filter, and
    /// the broker must be able to share subscriptions.
    pub ordering: Ordering,
    /// How many MQTT sessions the route has. Changed only by the user; workers share the lanes.
    #[serde(default = "lanes")]
    #[schemars(range(min = 1, max = 64))]
    pub lanes: i32,
    /// How expressions see payloads.
    #[serde(default)]
    pub payload: Payload,
}

/// One filter of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// An MQTT topic filter. A wildcard may carry a name, `plants/+plant/lines/+line/#rest`; templates and expressions
    /// then know that part of the topic by this name, if every filter of the route has the name.
    #[schemars(length(min = 1, max = 1024))]
    #[x_kube(
        validation = Rule::new("!self.matches('^[$]share(/|$)')")
            .message("`$share/...` is written by the route itself: write the filter without it and choose \
                      `ordering: Unordered`"),
        validation = Rule::new("!self.matches('(^|/)#[^/]*/')")
            .message("`#` must be the last level; use `+` for a single level in the middle"),
        validation = Rule::new("!self.matches('[^/][+#]')")
            .message("`+` and `#` must stand alone in their level or before a name, as in `+` or `+name`"),
        validation = Rule::new("!self.matches('(^|/)[+#]([^A-Za-z_/+#]|[^/+#]+[^A-Za-z0-9_/+#])')")
            .message("the name of a wildcard begins with a letter or `_` and continues with letters, digits or `_`, \
                      all ASCII")
    )]
    pub filter: String,
}

/// How filters are spread over lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Ordering {
    /// Each filter is read by one lane, so messages of a topic keep their order.
    PerTopic,
    /// Every lane reads every filter through a shared subscription.
    Unordered,
}

/// How expressions see payloads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    /// What `payload` is in templates and expressions. Bytes: bytes. Text: a UTF-8 string. JSON: the value that the text
    /// describes. A payload of another kind is an error of that message.
    #[serde(default)]
    pub format: PayloadFormat,
}

/// What `payload` is in templates and expressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PayloadFormat {
    /// Bytes.
    #[default]
    Bytes,
    /// A UTF-8 string.
    Text,
    /// The value that the JSON text describes.
    #[serde(rename = "JSON")]
    Json,
}

fn qos() -> i32 {
    1
}

fn lanes() -> i32 {
    8
}

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::{ObjectRef, patterns};
use crate::units::GepDuration;

/// Where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.mqtt) != has(self.kafka)").message("write exactly one of `kafka`, `mqtt`"))]
pub struct RouteDestination {
    /// Records of a Kafka cluster, of a route from MQTT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaDestination>,
    /// Messages of an MQTT broker, of a route from Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttDestination>,
}

/// Messages of an MQTT broker. `topic` and the properties are templates: text with expressions in `{...}`, where `{{` is a
/// brace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MqttDestination {
    /// The MqttBroker to publish to.
    pub broker_ref: ObjectRef,
    /// Template of the topic: `plants/{record.key}/cmd`.
    #[schemars(length(min = 1, max = 1024))]
    pub topic: String,
    /// Topics that may be published to, as MQTT filters: `plants/+/cmd`. A record must not command any device: one whose
    /// topic renders to another one goes the way of `onError`. Required if the topic has expressions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 1024)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_topics: Vec<String>,
    /// The quality of service. 0: a message is lost with its connection. 1: each is delivered at least once. 2: as 1, and
    /// once as long as the broker keeps the session.
    #[serde(default = "qos")]
    #[schemars(range(min = 0, max = 2))]
    pub qos: i32,
    /// Always: the broker keeps the last message of each topic for those who subscribe later; a record without value clears
    /// it. Never: it does not.
    #[serde(default)]
    pub retain: Retain,
    /// How long a message may take from the record's time to its receiver, from 1s. What is older is not published, and is
    /// counted as expired. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_expiry_interval: Option<GepDuration>,
    /// Expression of the payload. A map or list is written as JSON. Absent: the record's value, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub value: Option<String>,
    /// Template of the content type (MQTT 5). Absent: the record's header `mqtt.contentType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub content_type: Option<String>,
    /// Template of the topic for responses (MQTT 5). Absent: the record's header `mqtt.responseTopic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub response_topic: Option<String>,
    /// Template of the correlation data (MQTT 5). Absent: the record's header `mqtt.correlationData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub correlation_data: Option<String>,
    /// Templates of user properties, by name (MQTT 5). Absent: the record's headers `mqtt.user.NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "user_properties")]
    pub user_properties: Option<BTreeMap<String, String>>,
    /// What is done with a message that nobody is subscribed to, where the broker says so (MQTT 5). Ignore: it counts as
    /// delivered. DeadLetter: it goes the way of `onError`. Wait: it is published again until somebody is; what is
    /// read after it waits, what was on its way with it does not.
    #[serde(default)]
    pub no_matching_subscribers: NoMatchingSubscribers,
}

/// Whether the broker keeps the last message of each topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Retain {
    /// It does not.
    #[default]
    Never,
    /// It does.
    Always,
}

/// What is done with a message that nobody is subscribed to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NoMatchingSubscribers {
    /// It counts as delivered.
    #[default]
    Ignore,
    /// It goes the way of `onError`.
    DeadLetter,
    /// It is published again until somebody is subscribed.
    Wait,
}

/// Records of a Kafka cluster. `topic`, `key` and `headers` are templates: text with expressions in `{...}`, where `{{` is a
/// brace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaDestination {
    /// The KafkaSink to write to.
    pub sink_ref: ObjectRef,
    /// Template of the topic: `telemetry.{plant}`.
    #[schemars(length(min = 1, max = 1024))]
    pub topic: String,
    /// Topics, or beginnings of topics followed by `*`, that may be written to. A device must not choose where it writes:
    /// a message whose topic renders to another one goes the way of `onError`. Default: what the template of the topic
    /// begins with; required if it begins with an expression.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_topics: Vec<String>,
    /// Template of the record's key. Records of the same key keep their order. One that renders to nothing gives a record
    /// without key.
    #[serde(default = "key")]
    #[schemars(length(max = 1024))]
    pub key: String,
    /// Templates of the record's headers, by header name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "headers")]
    pub headers: BTreeMap<String, String>,
    /// What of the message travels as record headers besides. Topic: `mqtt.topic`. Qos: `mqtt.qos`. Retain: `mqtt.retain`.
    /// ContentType: `mqtt.contentType`. ResponseTopic: `mqtt.responseTopic`. CorrelationData: `mqtt.correlationData`.
    /// UserProperties: `mqtt.user.NAME` for each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7), extend("x-kubernetes-list-type" = "set"))]
    pub propagate: Vec<Propagate>,
    /// Expression of the record's value. A map or list is written as JSON. Absent: the payload, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub value: Option<String>,
    /// How records are batched.
    #[serde(default)]
    pub producer: Producer,
}

/// A part of a message that can travel as record headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Propagate {
    /// `mqtt.topic`
    Topic,
    /// `mqtt.qos`
    Qos,
    /// `mqtt.retain`
    Retain,
    /// `mqtt.contentType`
    ContentType,
    /// `mqtt.responseTopic`
    ResponseTopic,
    /// `mqtt.correlationData`
    CorrelationData,
    /// `mqtt.user.NAME` for each.
    UserProperties,
}

/// How records are batched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// How long a record may wait for others to share a batch with. From 0s to 10s.
    #[serde(default = "linger")]
    pub linger: GepDuration,
    /// How batches are compressed.
    #[serde(default)]
    pub compression: Compression,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    #[default]
    #[serde(rename = "LZ4")]
    Lz4,
    /// Zstandard
    Zstd,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            linger: linger(),
            compression: Compression::default(),
        }
    }
}

fn key() -> String {
    "{message.topic}".into()
}

fn linger() -> GepDuration {
    GepDuration::new("5ms")
}

fn qos() -> i32 {
    1
}

fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

fn user_properties(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = headers(generator);
    schema.insert("nullable".into(), true.into());
    schema
}

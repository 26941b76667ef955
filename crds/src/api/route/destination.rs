use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::api::{ObjectRef, patterns};
use crate::units::GepDuration;

/// Where records go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.kafka)").message("names no destination: write exactly one of `kafka`"))]
pub struct RouteDestination {
    /// Records of a Kafka cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaDestination>,
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

fn headers(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

//! What a probe is asked and what it reports: `bridge-worker probe` reads a [`Request`], tries what a route will do
//! and writes a [`Report`] as its termination message.

use serde::{Deserialize, Serialize};

use crate::document::{Broker, Sink};

/// Bytes a report has at most: Kubernetes keeps no more of a termination message.
pub const MAX_BYTES: usize = 4096;

/// What is to be tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// The MQTT broker to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<BrokerRequest>,
    /// The Kafka cluster to ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<SinkRequest>,
}

/// What is to be tried at an MQTT broker, with a client id of the probe's own and no session that stays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerRequest {
    /// How to reach it.
    pub broker: Broker,
    /// The quality of service that a route will ask for.
    pub qos: u8,
    /// Whether it will share subscriptions: that a broker has none is a failure then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shares: bool,
}

/// What is to be tried at a Kafka cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkRequest {
    /// How to reach it, and which missing topics may be created.
    pub sink: Sink,
    /// Topics that are needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<String>,
}

/// The answer of a probe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// What was found at the MQTT broker, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<Outcome<BrokerFound>>,
    /// What was found at Kafka, if it was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sink: Option<Outcome<SinkFound>>,
}

/// What was found, or why nothing was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome<T> {
    /// It answered.
    Found(T),
    /// It did not, or refused.
    Failed(Failure),
}

/// Why a probe found nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// One word a program can act on.
    pub reason: crate::status::Reason,
    /// What is wrong, with what, and what to do about it.
    pub message: String,
}

/// What an MQTT broker can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BrokerFound {
    /// `5` or `3.1.1`.
    pub protocol_version: String,
    /// Whether a shared subscription was granted. Absent: not known, because the broker's version of MQTT has no way
    /// to say it and nothing was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared_subscriptions: Option<bool>,
    /// The highest quality of service that was granted.
    pub maximum_qos: u8,
    /// Messages the broker takes unacknowledged from a client; not the window of the route, which is the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receive_maximum: Option<u16>,
    /// How long it keeps a session, in seconds, when asked for the route's time. Absent: MQTT 3.1.1 does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_expiry_seconds: Option<u32>,
    /// The largest packet it takes, in bytes. Absent: it names no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_packet_bytes: Option<u32>,
}

/// What is in a Kafka cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SinkFound {
    /// The cluster's id. Absent: it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Brokers in the cluster.
    pub brokers: u32,
    /// The topics that were asked for, as far as the report has room.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicFound>,
}

/// What is known about a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicFound {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 if it does not exist.
    pub partitions: u32,
    /// The probe has created it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    /// Why it does not exist or cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Failure>,
}

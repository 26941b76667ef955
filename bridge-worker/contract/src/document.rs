use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::survey::Survey;

/// The version of [`Document`] this crate writes. Workers accept one version older or newer.
pub const VERSION: u32 = 1;

/// Everything one worker needs to run one route: from MQTT to Kafka with [`Live`], from Kafka to MQTT with
/// [`LiveToMqtt`].
///
/// In JSON it is one object. Kubernetes holds it in two, because they change in different ways; no field is in both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document<L = Live> {
    /// What a worker keeps for as long as it runs.
    #[serde(flatten)]
    pub settings: Settings,
    /// What it takes over while it runs.
    #[serde(flatten)]
    pub live: L,
}

/// A document, whichever way its route goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AnyDocument {
    /// From MQTT to Kafka.
    ToKafka(Box<Document>),
    /// From Kafka to MQTT.
    ToMqtt(Box<Document<LiveToMqtt>>),
}

impl AnyDocument {
    /// What a worker keeps for as long as it runs.
    pub fn settings(&self) -> &Settings {
        match self {
            Self::ToKafka(document) => &document.settings,
            Self::ToMqtt(document) => &document.settings,
        }
    }

    /// How long things may take.
    pub fn timeouts(&self) -> &Timeouts {
        match self {
            Self::ToKafka(document) => &document.live.timeouts,
            Self::ToMqtt(document) => &document.live.timeouts,
        }
    }
}

/// What a worker keeps for as long as it runs: a change makes a new process of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The version of this format, [`VERSION`] when written by this crate.
    pub version: u32,
    /// Which route this is.
    pub route: RouteId,
    /// The MQTT side.
    pub broker: Broker,
    /// The Kafka side.
    pub sink: Sink,
    /// What is read from Kafka, by a route from Kafka to MQTT; absent from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<Consumer>,
}

/// What is read from Kafka, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumer {
    /// The topics.
    pub topics: Vec<String>,
    /// The consumer group: all workers of the route are its members.
    pub group: String,
    /// Where a group begins that has never read a topic.
    pub start: Start,
}

/// Where a consumer group begins that has never read a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// With the first record that Kafka still has.
    Earliest,
    /// With the next record that is written.
    Latest,
}

/// What a worker of a route from MQTT to Kafka takes over while it runs, between two messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Live {
    /// What is read from the broker.
    pub source: Source,
    /// The MQTT sessions that read it.
    pub lanes: Lanes,
    /// How a message becomes a record.
    pub mapping: Mapping,
    /// What was read before, and how: mapped as it was, for as long as the broker may hold something of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retired: Vec<Retired>,
    /// What happens to a message that cannot be delivered.
    pub on_error: OnError,
    /// Largest payload taken, in bytes. A larger message goes the way of `on_error` without being buffered whole.
    pub max_message_bytes: u64,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What one worker looks at in Kafka for all.
    #[serde(default, skip_serializing_if = "Survey::is_empty")]
    pub survey: Survey,
}

impl Live {
    /// All that decides what happens to messages.
    #[must_use]
    pub fn without_survey(&self) -> Self {
        Self {
            survey: Survey::default(),
            ..self.clone()
        }
    }

    /// How many lanes have something to read.
    pub fn lanes_read(&self) -> u16 {
        let retired = self.retired.iter().filter(|retired| retired.is_read);
        let counts = retired.map(|retired| retired.lanes.count);
        counts.fold(self.lanes.count, u16::max)
    }
}

/// Filters that a route no longer has, or that other lanes read now, with the mapping they had.
///
/// First they are read beside what is new, because nothing may fall between the two; then the lanes unsubscribe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Retired {
    /// They are still read: not all lanes have what is new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_read: bool,
    /// The filters, as the user wrote them.
    pub subscriptions: Vec<Subscription>,
    /// The lanes that read them.
    pub lanes: Lanes,
    /// How expressions saw the payload.
    pub payload: PayloadFormat,
    /// How a message became a record.
    pub mapping: Mapping,
}

/// The identity of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteId {
    /// The namespace of the TopicRoute.
    pub namespace: String,
    /// The name of the TopicRoute.
    pub name: String,
    /// The uid of the TopicRoute, in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What tells this route's MQTT sessions and shared subscriptions from those of equally named routes
    /// elsewhere: 1 to 8 lower-case letters or digits. Client ids are `<prefix>-<session id>-<lane>`, the share
    /// name is `<prefix>-<session id>`.
    pub session_id: String,
}

/// How to reach an MQTT broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    /// `mqtt`, `mqtts`, `ws` or `wss`, then `://host:port`, and a path for the last two; of one cluster, tried in order.
    pub urls: Vec<String>,
    /// How often it is looked, while a later url is in use, whether an earlier one works again; in milliseconds. A random
    /// part of it, at most half, is left out.
    #[serde(default = "failback_ms", skip_serializing_if = "is_usual_failback")]
    pub failback_ms: u64,
    /// What is trusted and shown where a url has TLS. Absent: the system's authorities, and no certificate is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Which MQTT version to speak.
    pub protocol_version: ProtocolVersion,
    /// User name and password, if the broker asks for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// First part of every client id and of the share name.
    pub client_id_prefix: String,
    /// How long the broker is asked to keep a session without connection, in seconds (MQTT 5).
    pub session_expiry_seconds: u32,
    /// The keep-alive asked for, in seconds.
    pub keep_alive_seconds: u16,
    /// The window: how many messages the broker may have unacknowledged on a connection (MQTT 5).
    pub receive_maximum: u16,
    /// Whether the broker can share subscriptions.
    pub shared_subscriptions: SharedSubscriptions,
}

/// The usual [`Broker::failback_ms`]: a minute.
pub const FAILBACK_MS: u64 = 60_000;

fn failback_ms() -> u64 {
    FAILBACK_MS
}

fn is_usual_failback(failback_ms: &u64) -> bool {
    *failback_ms == FAILBACK_MS
}

/// Which MQTT version to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProtocolVersion {
    /// 5, then 3.1.1 if the broker refuses 5.
    Auto,
    /// MQTT 5 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

/// Whether the broker can share subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SharedSubscriptions {
    /// What the broker says.
    Auto,
    /// Yes, whatever it says.
    Supported,
    /// No.
    Unsupported,
}

/// Whose certificates are trusted, and which is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// Certificates of the authorities that are trusted, in PEM. Absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Value>,
    /// The system's authorities are trusted beside `ca`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub and_system: bool,
    /// What is shown to a server that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
    /// The name that the server's certificate must have. Absent: the host of its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The certificate, followed by those of the authorities between it and one that the server knows.
    pub certificate: Value,
    /// Its key, not encrypted.
    pub private_key: Value,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The user name.
    pub username: Value,
    /// The password.
    pub password: Value,
}

/// A value, or the place that holds it. Trailing newlines of files are not part of the value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Value {
    /// The value itself: never a secret.
    Literal(String),
    /// A file, read at each connection attempt.
    File(PathBuf),
    /// An environment variable.
    Env(String),
}

/// Lanes of a route, at most.
pub const MAX_LANES: u16 = 64;

/// The MQTT sessions of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lanes {
    /// How many there are, over all workers.
    pub count: u16,
    /// Whether each filter is read by one lane or by all.
    pub ordering: Ordering,
}

/// What is read from the broker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The filters, as the user wrote them, with named wildcards.
    pub subscriptions: Vec<Subscription>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// How expressions see the payload.
    pub payload: PayloadFormat,
}

/// One filter of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// An MQTT topic filter whose wildcards may carry a name: `plants/+plant/#rest`.
    pub filter: String,
}

/// How a route's filters are spread over its lanes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ordering {
    /// Each filter is read by one lane, so messages of a topic keep their order. Which lane follows from the filter and
    /// the number of lanes alone: a filter that comes or goes moves no other.
    PerTopic,
    /// Every lane reads every filter through a shared subscription.
    Unordered,
}

/// How expressions see the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadFormat {
    /// As bytes.
    Bytes,
    /// As a UTF-8 string.
    Text,
    /// As the value that the JSON text describes.
    Json,
}

/// How a message becomes a record. Templates and expressions are described in `docs/mapping.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// Expression: messages for which it is false are filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Template of the Kafka topic.
    pub topic: String,
    /// Patterns (a name, or a prefix followed by `*`) that a rendered topic must match.
    pub allowed_topics: Vec<String>,
    /// Template of the record's key. One that renders to nothing gives a record without key.
    pub key: String,
    /// Templates of the record's headers, by header name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// What of the message travels as record headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub propagate: Vec<Propagate>,
    /// Expression of the record's value. Absent: the payload, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// A part of a message that can travel as record headers. Header names are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Propagate {
    /// `mqtt.topic`: the original topic.
    Topic,
    /// `mqtt.qos`: `0`, `1` or `2`.
    Qos,
    /// `mqtt.retain`: `true` or `false`.
    Retain,
    /// `mqtt.contentType` (MQTT 5).
    ContentType,
    /// `mqtt.responseTopic` (MQTT 5).
    ResponseTopic,
    /// `mqtt.correlationData` (MQTT 5).
    CorrelationData,
    /// `mqtt.user.<name>` for each user property (MQTT 5).
    UserProperties,
}

impl Propagate {
    /// Each part there is.
    pub const ALL: [Self; 7] = [
        Self::Topic,
        Self::Qos,
        Self::Retain,
        Self::ContentType,
        Self::ResponseTopic,
        Self::CorrelationData,
        Self::UserProperties,
    ];
}

/// How to reach a Kafka cluster and how records are written there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sink {
    /// `host:port` of the first brokers to ask.
    pub bootstrap_servers: Vec<String>,
    /// What is trusted and shown. Absent: TLS is not spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// How to log in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Other settings, by librdkafka's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub librdkafka: BTreeMap<String, String>,
    /// What may be done about topics, by pattern; the longest match wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<TopicPolicy>,
    /// How the producer batches.
    pub producer: Producer,
}

/// How to log in to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sasl {
    /// User name and password.
    #[serde(rename_all = "camelCase")]
    Basic {
        /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
        mechanism: String,
        /// The two.
        credentials: Credentials,
    },
    /// OAUTHBEARER with a token that somebody else renews.
    Token(Value),
    /// OAUTHBEARER with tokens that are asked for.
    ClientCredentials(Box<ClientCredentials>),
}

/// Where tokens are asked for, and as whom (RFC 6749, section 4.4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientCredentials {
    /// `https://host:port/path`.
    pub token_endpoint_url: String,
    /// The client's id.
    pub client_id: Value,
    /// The client's secret.
    pub client_secret: Value,
    /// What the token is to allow, separated by spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Whom the token is to be for, where the endpoint is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// What Kafka is told beside the token.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extensions: BTreeMap<String, String>,
    /// Who is trusted at the endpoint.
    #[serde(default)]
    pub tls: Tls,
}

/// What may be done about the topics that match a pattern.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicPolicy {
    /// A name, or a prefix followed by `*`.
    pub pattern: String,
    /// Whether a missing topic is created.
    pub create: Create,
    /// At most so many topics are created for this pattern.
    pub max_topics: u32,
    /// Partitions of a created topic.
    pub partitions: i32,
    /// Replicas of a created topic.
    pub replication_factor: i32,
    /// Configuration of a created topic, by Kafka's names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
}

/// Whether a missing topic is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Create {
    /// No: records for it are errors.
    Never,
    /// Yes, when a route first needs it.
    IfMissing,
}

/// How the producer batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Producer {
    /// How long a record may wait for company, in milliseconds.
    pub linger_ms: u64,
    /// How batches are compressed.
    pub compression: Compression,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip
    Gzip,
    /// Snappy
    Snappy,
    /// LZ4
    Lz4,
    /// Zstandard
    Zstd,
}

/// What happens to a message that cannot be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OnError {
    /// What is done.
    pub action: ErrorAction,
    /// The topic of dead letters, with [`ErrorAction::DeadLetter`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_topic: Option<String>,
    /// Messages that are discarded where they would stop the route, by the names that the route gives them then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip: Vec<String>,
}

/// What is done with a message that cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorAction {
    /// The route stops taking messages and says which message and why.
    Stop,
    /// The message is written to the dead-letter topic.
    DeadLetter,
    /// The message is acknowledged and counted as discarded.
    Discard,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// How long a stopping worker waits for Kafka, in milliseconds.
    pub drain_ms: u64,
    /// How long a lane taken over by another client waits before it tries again, in milliseconds.
    pub failover_ms: u64,
}

/// What a worker of a route from Kafka to MQTT takes over while it runs, between two records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LiveToMqtt {
    /// How expressions see the value of a record.
    pub payload: PayloadFormat,
    /// How a record becomes a message.
    pub publishing: Publishing,
    /// What happens to a record that cannot be delivered.
    pub on_error: OnError,
    /// Largest value taken, in bytes. A larger record goes the way of `on_error`.
    pub max_message_bytes: u64,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// What one worker looks at in Kafka for all.
    #[serde(default, skip_serializing_if = "Survey::is_empty")]
    pub survey: Survey,
}

impl LiveToMqtt {
    /// All that decides what happens to records.
    #[must_use]
    pub fn without_survey(&self) -> Self {
        Self {
            survey: Survey::default(),
            ..self.clone()
        }
    }
}

/// How a record becomes an MQTT message. Templates and expressions are described in `docs/mapping.md`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Publishing {
    /// Expression: records for which it is false are filtered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Template of the MQTT topic.
    pub topic: String,
    /// MQTT topic filters, one of which a rendered topic must match. A topic without expressions needs none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_topics: Vec<String>,
    /// Expression of the payload. Absent: the record's value, byte for byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps the last message of each topic.
    pub retain: bool,
    /// How long a message may take from the record's time to its receiver, in seconds (MQTT 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_expiry_seconds: Option<u32>,
    /// Template of the content type. Absent: the record's header `mqtt.contentType`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Template of the topic for responses. Absent: the record's header `mqtt.responseTopic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// Template of the correlation data. Absent: the record's header `mqtt.correlationData`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_data: Option<String>,
    /// Templates of user properties, by name. Absent: the record's headers `mqtt.user.<name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_properties: Option<BTreeMap<String, String>>,
    /// What is done with a message that the broker has no subscriber for.
    pub no_matching_subscribers: NoMatchingSubscribers,
}

impl Publishing {
    /// Each record with QoS 1 to a topic, which must match one of `allowed_topics`; everything else as in a route that says
    /// no more.
    pub fn to(topic: impl Into<String>, allowed_topics: Vec<String>) -> Self {
        Self {
            when: None,
            topic: topic.into(),
            allowed_topics,
            value: None,
            qos: 1,
            retain: false,
            message_expiry_seconds: None,
            content_type: None,
            response_topic: None,
            correlation_data: None,
            user_properties: None,
            no_matching_subscribers: NoMatchingSubscribers::Ignore,
        }
    }
}

/// What is done with a message that the broker has no subscriber for, where the broker says so (MQTT 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoMatchingSubscribers {
    /// It counts as delivered.
    Ignore,
    /// It goes the way of a message that cannot be delivered.
    DeadLetter,
    /// It is published again until there is one.
    Wait,
}

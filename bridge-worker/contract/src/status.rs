//! What a worker reports at `/status`.

use serde::{Deserialize, Serialize};

use crate::survey::Surveyed;

/// The answer of `/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The routes this process runs.
    pub routes: Vec<RouteStatus>,
}

/// One route, as this process sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The namespace of the TopicRoute.
    pub namespace: String,
    /// The name of the TopicRoute.
    pub name: String,
    /// The uid of the TopicRoute, as the document has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The uid of the pod that this process runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// The version of the worker.
    #[serde(default)]
    pub version: String,
    /// The generation of the assignment that this process acts by; 0 when it owns all lanes without one.
    #[serde(default)]
    pub generation: u64,
    /// SHA-256 of the [`crate::Live`] configuration in use, in hexadecimal, as it was read. Empty when it came with
    /// the rest of the document.
    #[serde(default)]
    pub live: String,
    /// How often changed credentials were taken over.
    #[serde(default)]
    pub credentials_taken_over: u64,
    /// How often changed credentials were tried and did not work.
    #[serde(default)]
    pub credentials_refused: u64,
    /// Certificates in use, of either end, and until when each is valid.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateStatus>,
    /// Filters, as the user wrote them, that lanes of this process have unsubscribed from and that the broker may still
    /// hold messages of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<String>,
    /// What it is doing.
    pub phase: Phase,
    /// Whether every lane has been up once and Kafka has answered. Stays true over later outages.
    pub ready: bool,
    /// What is wrong or needs attention now, most urgent first. Empty: all is well.
    pub problems: Vec<Problem>,
    /// The lanes this process owns: of a route from MQTT.
    pub lanes: Vec<LaneStatus>,
    /// What this process has of a route from Kafka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<DeliveryStatus>,
    /// What it sees of Kafka for all workers of the route, when it is the one that looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survey: Option<Surveyed>,
    /// Where every message went.
    pub ledger: Ledger,
    /// Messages or records per second received from the side that is read, over the last few seconds.
    pub received_per_second: f64,
    /// Those per second that the other side has confirmed, over the last few seconds.
    pub written_per_second: f64,
    /// How much of what it may use this process uses, over the last ten seconds: CPU of what the pod requests, or the time
    /// of its busiest thread, whichever is more. 1 is all of it.
    #[serde(default)]
    pub load: f64,
    /// From receipt to the other side's confirmation, since the start.
    pub latency: Latency,
    /// Bytes of records handed on and not yet confirmed, overhead included.
    pub buffered_bytes: u64,
}

/// A certificate in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Whose it is.
    pub of: CertificateOf,
    /// Since when it is valid, in seconds since the Unix epoch.
    pub valid_from: u64,
    /// When it expires, in seconds since the Unix epoch.
    pub valid_until: u64,
}

/// Whose a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum CertificateOf {
    /// What the MQTT broker shows.
    BrokerServer,
    /// What is shown to the MQTT broker.
    BrokerClient,
    /// The first to expire of those that are trusted to have signed the broker's.
    BrokerAuthority,
    /// What Kafka shows.
    KafkaServer,
    /// What is shown to Kafka.
    KafkaClient,
    /// The first to expire of those that are trusted to have signed Kafka's.
    KafkaAuthority,
    /// What the endpoint shows that gives tokens for Kafka.
    TokenEndpointServer,
    /// What is shown to that endpoint.
    TokenEndpointClient,
    /// The first to expire of those that are trusted to have signed that endpoint's.
    TokenEndpointAuthority,
}

/// What a route is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Not all lanes are up.
    #[default]
    Connecting,
    /// All lanes are up.
    Running,
    /// A message could not be delivered and `onError.action` is Stop.
    Stopped,
    /// Stopping: no new messages are read, those in flight are being confirmed.
    Draining,
    /// Ended.
    Ended,
}

/// Something that is wrong or needs attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// One word a program can act on.
    pub reason: Reason,
    /// What is wrong, with what, and what to do about it.
    pub message: String,
}

/// Why a route needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The broker cannot be reached.
    BrokerUnreachable,
    /// The broker refused the connection.
    BrokerRefused,
    /// The broker's certificate is not trusted, or it does not accept the client's, or it does not speak TLS.
    BrokerTlsFailed,
    /// The broker broke a rule of MQTT, or sent what this route cannot take.
    ProtocolError,
    /// The broker refused a subscription.
    SubscriptionRefused,
    /// The broker granted a lower quality of service than asked.
    QosDowngraded,
    /// The broker keeps no retained messages.
    RetainUnavailable,
    /// The broker cannot share subscriptions.
    SharedSubscriptionsUnsupported,
    /// The broker keeps the session for a shorter time than asked.
    SessionExpiryShort,
    /// Another client uses the lane's client id.
    TakenOver,
    /// Kafka cannot be reached.
    KafkaUnreachable,
    /// Kafka does not let this client in, or lets it write nothing at all.
    KafkaRefused,
    /// Kafka's certificate is not trusted, or it does not accept the client's, or it does not speak TLS.
    KafkaTlsFailed,
    /// No token for Kafka can be had.
    TokenUnavailable,
    /// A Kafka topic does not exist and may not be created.
    TopicMissing,
    /// A Kafka topic accepts records with fewer replicas than two.
    TopicUnsafe,
    /// A partition accepts nothing: the lanes that write to it are held.
    PartitionStalled,
    /// The broker holds messages back because as many as it may are unacknowledged.
    WindowLimited,
    /// Kafka confirms slower than MQTT delivers: lanes are held.
    SinkSaturated,
    /// The route stopped at a message that cannot be delivered.
    MessageUndeliverable,
    /// Records that are to be read next are no longer in Kafka.
    OffsetOutOfRange,
    /// A changed configuration cannot be used; the one before is still in use.
    ConfigurationRefused,
    /// Changed credentials do not work; the ones before are still in use.
    CredentialsRefused,
    /// A certificate expires soon, or has expired.
    CertificateExpires,
    /// A probe could not be made, or came to no answer.
    ProbeFailed,
}

/// One lane.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneStatus {
    /// Its number, from 0.
    pub lane: u16,
    /// Its MQTT client id.
    pub client_id: String,
    /// What it is doing.
    pub state: LaneState,
    /// `5` or `3.1.1`, once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Whether the broker resumed the session on the last connect.
    pub session_present: bool,
    /// Which of the broker's urls it was connected to last, without what is before the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Connections so far.
    pub connections: u64,
    /// Messages received on this connection and not yet acknowledged.
    pub window: u64,
    /// Age of the oldest unacknowledged message, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unacked_ms: Option<u64>,
    /// Why the last connection ended or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl LaneStatus {
    /// A lane that has never been connected.
    pub fn new(lane: u16, client_id: impl Into<String>, state: LaneState) -> Self {
        Self {
            lane,
            client_id: client_id.into(),
            state,
            protocol_version: None,
            session_present: false,
            address: None,
            connections: 0,
            window: 0,
            oldest_unacked_ms: None,
            last_error: None,
        }
    }
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaneState {
    /// No filter falls to this lane; it does not connect.
    Idle,
    /// Connecting, or waiting for SUBACK.
    Connecting,
    /// Subscribed.
    Up,
    /// Waiting before the next attempt.
    Waiting,
    /// Not reading: another client took the session.
    TakenOver,
    /// Ended, and the broker keeps its session.
    Down,
    /// Unsubscribed, reading what the broker still holds.
    Leaving,
    /// Ended for good: the broker has no session of it.
    Left,
}

/// What a process has of a route from Kafka to MQTT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// Its connection to the MQTT broker.
    pub connection: ConnectionStatus,
    /// The consumer group.
    pub group: String,
    /// The partitions that the group has given it.
    pub partitions: Vec<PartitionStatus>,
    /// Partitions of all topics that are read; 0 while that is not known.
    #[serde(default)]
    pub partitions_in_all: u32,
}

/// The connection that publishes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionStatus {
    /// Its MQTT client id.
    pub client_id: String,
    /// What it is doing.
    pub state: ConnectionState,
    /// `5` or `3.1.1`, once connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol_version: Option<String>,
    /// Whether the broker resumed the session on the last connect.
    pub session_present: bool,
    /// Which of the broker's urls it was connected to last, without what is before the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Connections so far.
    pub connections: u64,
    /// Messages published and not yet answered for.
    pub window: u64,
    /// How many the broker takes before it answers.
    pub receive_maximum: u64,
    /// Age of the oldest unanswered message, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_unanswered_ms: Option<u64>,
    /// Why the last connection ended or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl ConnectionStatus {
    /// One that has never been made.
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            client_id: client_id.into(),
            state: ConnectionState::Connecting,
            protocol_version: None,
            session_present: false,
            address: None,
            connections: 0,
            window: 0,
            receive_maximum: 0,
            oldest_unanswered_ms: None,
            last_error: None,
        }
    }
}

/// What the connection that publishes is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectionState {
    /// Connecting.
    Connecting,
    /// Connected.
    Up,
    /// Waiting before the next attempt.
    Waiting,
    /// Another client took the session.
    TakenOver,
    /// Ended.
    Down,
}

/// A partition that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PartitionStatus {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// All records below this offset have arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrived: Option<i64>,
    /// Records between what has been read and the end, a few seconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
}

/// From receipt of a message to its delivery report, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Half of the messages took at most this.
    pub p50_us: u64,
    /// 99 % of the messages took at most this.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

/// Where every message of a route went. Counts are since the start of the process.
///
/// `received` equals the sum of the other fields at every moment: see [`Ledger::balance`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// PUBLISH packets received.
    pub received: u64,
    /// Confirmed by Kafka.
    pub written: u64,
    /// `when` was false.
    pub filtered: u64,
    /// Confirmed by Kafka in the dead-letter topic.
    pub dead_lettered: u64,
    /// Given up, because `onError.action` is Discard.
    pub discarded: u64,
    /// Their message expiry interval ended before they could be written.
    pub expired: u64,
    /// Received again after Kafka had confirmed them; not written a second time.
    pub repeats: u64,
    /// The connection was lost before the ack, so the broker sends them again. A late confirmation moves them
    /// to `written`.
    pub returned: u64,
    /// QoS 0 messages known to be lost.
    pub dropped: u64,
    /// Received and not yet in another bucket.
    pub in_flight: u64,
}

impl Ledger {
    /// Received less everything accounted for: zero, unless a message was lost track of.
    pub fn balance(&self) -> i128 {
        let accounted = [
            self.written,
            self.filtered,
            self.dead_lettered,
            self.discarded,
            self.expired,
            self.repeats,
            self.returned,
            self.dropped,
            self.in_flight,
        ];
        i128::from(self.received) - accounted.iter().map(|n| i128::from(*n)).sum::<i128>()
    }
}

impl std::ops::AddAssign for Ledger {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.written += other.written;
        self.filtered += other.filtered;
        self.dead_lettered += other.dead_lettered;
        self.discarded += other.discarded;
        self.expired += other.expired;
        self.repeats += other.repeats;
        self.returned += other.returned;
        self.dropped += other.dropped;
        self.in_flight += other.in_flight;
    }
}

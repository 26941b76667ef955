//! What a worker is told and what it reports.
//!
//! [`Document`] is everything a `bridge-worker` process needs to run one route: written by the operator or by
//! `millrace run`, read by the worker. [`LaneRecord`] and [`Assignment`] say which worker owns which lanes,
//! [`status`] holds the types of the worker's `/status`, [`survey`] what one worker sees of Kafka for all, and [`probe`] the
//! types of a probe's answer. This crate knows
//! serde and nothing else, so both sides can depend on it.
//!
//! Durations carry their unit in the field name. Credentials are never inside a document: it names the file or
//! the environment variable that holds them.

mod assignment;
mod document;
mod leave;
pub mod probe;
pub mod status;
pub mod survey;

pub use assignment::{Assignment, Heard, LaneOwner, LaneRecord, Ownership};
pub use document::{
    AnyDocument, Broker, ClientCertificate, ClientCredentials, Compression, Consumer, Create, Credentials,
    Document, ErrorAction, FAILBACK_MS, Lanes, Live, LiveToMqtt, MAX_LANES, Mapping, NoMatchingSubscribers,
    OnError, Ordering, PayloadFormat, Producer, Propagate, ProtocolVersion, Publishing, Retired, RouteId,
    Sasl, Settings, SharedSubscriptions, Sink, Source, Start, Subscription, Timeouts, Tls, TopicPolicy,
    VERSION, Value,
};
pub use leave::{LeaveReport, NotEnded};
pub use status::Ledger;

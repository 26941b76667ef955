//! Everything that touches Kafka: settings, records, the producer, the topics.

mod error;
mod options;
mod producer;
mod record;
mod state;
mod topics;

pub(crate) use error::FailureClass;
pub use options::OptionsError;
pub(crate) use options::{MAX_BATCH_BYTES, client_config};
pub(crate) use producer::{LaneSink, Mailbox, Producer};
#[cfg(test)]
pub(crate) use record::Failure;
pub(crate) use record::{Headers, OwnedRecord, RecordRef, Report, SendError, Sink};
pub(crate) use state::KafkaState;
pub(crate) use topics::{TopicKeeper, Topics};

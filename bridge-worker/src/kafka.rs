//! Everything that touches Kafka: settings, records, the producer, the topics.

mod callbacks;
mod caller;
mod doctor;
mod error;
mod looker;
mod mailbox;
mod maker;
mod options;
mod outlet;
mod producer;
mod record;
pub(crate) mod rotation;
mod security;
mod sight;
mod sink;
mod state;
mod tokens;
mod topics;
mod trouble;

pub(crate) use callbacks::{Quiet, Reporting, log};
pub(crate) use caller::Caller;
pub(crate) use doctor::diagnose;
pub(crate) use error::FailureClass;
pub(crate) use looker::Looker;
pub(crate) use mailbox::Mailbox;
pub(crate) use maker::{Made, Policies, TopicMaker};
pub use options::OptionsError;
pub(crate) use options::{ClientSettings, MAX_BATCH_BYTES, client_config, consumer_config};
pub(crate) use producer::Producer;
#[cfg(test)]
pub(crate) use record::Failure;
pub(crate) use record::{Headers, OwnedRecord, RecordRef, Report, SendError, Sink};
pub(crate) use security::KafkaCredentials;
pub use security::reaching;
pub(crate) use sight::Sight;
pub(crate) use sink::LaneSink;
pub(crate) use state::{KafkaState, Statistics};
pub(crate) use tokens::{Armed, Bearer};
pub(crate) use topics::{TopicKeeper, Topics};
pub(crate) use trouble::Trouble;

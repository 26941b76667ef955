//! The language of routes: which messages, and what record each becomes; which records, and what message.
//!
//! A [`Filter`] is an MQTT topic filter whose wildcards may carry a name. A [`Template`] is a text with CEL
//! expressions in braces. A [`Mapper`] is a whole mapping, compiled: it makes a [`Record`] of a [`Message`], or says
//! why it cannot. In the other direction, a [`RecordMapper`] makes a [`Publication`] of a [`SourceRecord`]. Validation compiles mappings to find what is wrong with them, the worker to use them; both get the
//! same answer. Nothing here does I/O, and nothing panics, whatever message comes.
//!
//! The language is described for users in `docs/mapping.md`; the examples there are tests of this crate.

mod compiler;
mod error;
mod expression;
mod filter;
mod headers;
mod mapper;
mod message;
mod mqtt_topic;
mod output;
mod payload;
mod publication;
mod record;
mod record_mapper;
mod renderer;
mod source_record;
mod template;
mod topic;

pub use error::{MapError, MappingError, Part};
pub use filter::{Filter, FilterError, NameError};
pub use mapper::{Decision, Mapper};
pub use message::{Message, Properties};
pub use mqtt_topic::{MqttTopicError, check_mqtt_topic};
pub use publication::Publication;
pub use record::Record;
pub use record_mapper::RecordMapper;
pub use source_record::SourceRecord;
pub use template::{Template, TemplateError};
pub use topic::{TopicNameError, TopicPattern, TopicPatternError, check_kafka_topic};

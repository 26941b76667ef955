use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::callbacks::pack;
use super::error::FailureClass;
use super::producer::Producer;
use super::record::{RecordRef, SendError, Sink};

/// One lane's view of the producer.
pub(crate) struct LaneSink {
    producer: Arc<Producer>,
    /// Topics this lane has asked the keeper about.
    seen: RefCell<HashSet<String>>,
    last: RefCell<String>,
}

impl LaneSink {
    pub(crate) fn new(producer: Arc<Producer>) -> Self {
        Self {
            producer,
            seen: RefCell::default(),
            last: RefCell::default(),
        }
    }

    /// Tells the keeper of topics about those it has not heard of; refuses one that is known to be missing.
    fn check_topic(&self, record: &RecordRef<'_>) -> Result<(), SendError> {
        if *self.last.borrow() == record.topic {
            return Ok(());
        }
        let topics = self.producer.topics();
        if !self.seen.borrow().contains(record.topic) {
            topics.want(record.topic);
            self.seen.borrow_mut().insert(record.topic.to_owned());
        }
        if topics.is_missing(record.topic) {
            return Err(SendError::Refused {
                class: FailureClass::TopicMissing,
                message: format!(
                    "Kafka has no topic {:?}, and the sink does not allow its creation",
                    record.topic
                ),
            });
        }
        record.topic.clone_into(&mut self.last.borrow_mut());
        Ok(())
    }
}

impl Sink for LaneSink {
    fn send(&self, lane: u16, sequence: u64, record: RecordRef<'_>, alone: bool) -> Result<(), SendError> {
        let Some(native) = self.producer.open() else {
            return Err(SendError::Full);
        };
        self.check_topic(&record)?;
        let size = record.size() as u64;
        if let Some(limit) = self.producer.topics().exceeds(record.topic, size) {
            return Err(SendError::Refused {
                class: FailureClass::Batch,
                message: format!(
                    "the record has {size} bytes, more than topic {:?} takes (max.message.bytes {limit})",
                    record.topic
                ),
            });
        }
        let mut headers: Option<OwnedHeaders> = None;
        for (key, value) in record.headers.iter() {
            headers = Some(headers.unwrap_or_default().insert(Header {
                key,
                value: Some(value),
            }));
        }
        let base = BaseRecord {
            topic: record.topic,
            partition: None,
            payload: Some(record.value),
            timestamp: Some(record.timestamp_ms),
            key: record.key,
            headers,
            delivery_opaque: pack(lane, sequence),
        };
        let sent = if alone {
            let Some(native) = self.producer.alone() else {
                return Err(SendError::Full);
            };
            native.send(base)
        } else {
            native.send(base)
        };
        sent.map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal) => SendError::Full,
            code => SendError::Refused {
                class: code.map_or(FailureClass::Record, FailureClass::of),
                message: error.to_string(),
            },
        })
    }

    fn paused(&self) -> bool {
        self.producer.is_paused()
    }

    fn has_known(&self, topic: &str) -> bool {
        self.producer.topics().has_known(topic)
    }
}

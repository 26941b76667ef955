use std::sync::Arc;

use millrace_librdkafka::{HeaderList, Record};
use rdkafka::error::RDKafkaErrorCode;

use super::callbacks::pack;
use super::error::FailureClass;
use super::producer::Producer;
use super::record::{RecordRef, SendError, Sink};

/// One lane's view of the producer.
pub(crate) struct LaneSink {
    producer: Arc<Producer>,
}

impl LaneSink {
    pub(crate) fn new(producer: Arc<Producer>) -> Self {
        Self { producer }
    }

    /// Refuses what Kafka is known not to take.
    fn check(&self, record: &RecordRef<'_>) -> Result<(), SendError> {
        let topics = self.producer.topics();
        if topics.is_missing(record.topic) {
            return Err(SendError::Refused {
                class: FailureClass::TopicMissing,
                message: format!(
                    "Kafka has no topic {:?}, and the sink does not allow its creation",
                    record.topic
                ),
            });
        }
        let size = record.size() as u64;
        if let Some(limit) = topics.exceeds(record.topic, size) {
            return Err(SendError::Refused {
                class: FailureClass::Batch,
                message: format!(
                    "the record has {size} bytes, more than topic {:?} takes (max.message.bytes {limit})",
                    record.topic
                ),
            });
        }
        Ok(())
    }
}

impl Sink for LaneSink {
    fn send(&self, lane: u16, sequence: u64, record: RecordRef<'_>, alone: bool) -> Result<(), SendError> {
        if self.paused() {
            return Err(SendError::Full);
        }
        self.check(&record)?;
        let outgoing = Record {
            key: record.key,
            value: record.value,
            timestamp_ms: record.timestamp_ms,
            opaque: pack(lane, sequence),
            headers: headers(&record),
        };
        let sent = if alone {
            self.producer.send_alone(record.topic, outgoing)
        } else {
            self.producer.send(record.topic, outgoing)
        };
        sent.map_err(|error| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal) => SendError::Full,
            code => {
                let class = code.map_or(FailureClass::Record, FailureClass::of);
                SendError::Refused {
                    class,
                    message: class.told(&error, record.topic),
                }
            }
        })
    }

    fn paused(&self) -> bool {
        self.producer.is_paused()
    }

    fn has_known(&self, topic: &str) -> bool {
        self.producer.topics().has_known(topic)
    }
}

fn headers(record: &RecordRef<'_>) -> Option<HeaderList> {
    let count = record.headers.len();
    if count == 0 {
        return None;
    }
    let mut list = HeaderList::with_capacity(count);
    let headers = record.headers.iter();
    headers.for_each(|(name, value)| list.add(name, value));
    Some(list)
}

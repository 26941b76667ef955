use std::cell::RefCell;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::callbacks::pack;
use super::error::FailureClass;
use super::producer::Producer;
use super::record::{RecordRef, SendError, Sink};

/// One lane's view of the producer.
pub(crate) struct LaneSink {
    producer: Arc<Producer>,
    /// Topics this lane has asked the keeper about.
    seen: RefCell<HashSet<String, TopicHashes>>,
}

/// Hashes names of topics: every record pays for a look at [`LaneSink::seen`].
#[derive(Clone, Debug)]
struct TopicHashes {
    seed: u64,
}

impl Default for TopicHashes {
    fn default() -> Self {
        Self {
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}

impl BuildHasher for TopicHashes {
    type Hasher = TopicHasher;

    fn build_hasher(&self) -> TopicHasher {
        TopicHasher(self.seed)
    }
}

struct TopicHasher(u64);

impl Hasher for TopicHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// The end of a text, which nothing follows here.
    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl LaneSink {
    pub(crate) fn new(producer: Arc<Producer>) -> Self {
        Self {
            producer,
            seen: RefCell::default(),
        }
    }

    /// Tells the keeper of topics about those it has not heard of; refuses one that is known to be missing.
    fn check_topic(&self, record: &RecordRef<'_>) -> Result<(), SendError> {
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

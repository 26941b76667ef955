use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use super::error::FailureClass;
use super::mailbox::Mailbox;
use super::record::{Failure, OwnedRecord, Report};
use super::sight::Sight;
use super::state::{KafkaState, Statistics};
use super::tokens::{Armed, Bearer};

/// What librdkafka calls back: hands each report to its lane's mailbox.
pub(crate) struct Context {
    pub(super) mailboxes: Arc<[Mailbox]>,
    pub(super) state: Arc<KafkaState>,
    /// The producer has failed for good.
    pub(super) fatal: AtomicBool,
    /// It is the one for records that must be a batch of their own: status is about the other.
    pub(super) alone: bool,
    pub(super) bearer: Bearer,
    pub(super) armed: Armed,
    /// Kafka's, as the sink has them.
    pub(super) servers: String,
    pub(super) sight: Sight,
    /// Kafka has given the producer its identifier.
    pub(super) has_id: AtomicBool,
}

impl Context {
    /// Whether it can write, as far as the statistics of some seconds ago say.
    pub(super) fn has_id(&self) -> bool {
        self.has_id.load(Ordering::Acquire)
    }
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        self.state.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let statistics = Statistics::read(statistics);
        self.sight.look(statistics.as_ref());
        let Some(statistics) = statistics else { return };
        if statistics.name_an_id() {
            self.has_id.store(true, Ordering::Release);
        }
        if !self.alone {
            self.state.apply(statistics);
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

/// What librdkafka says by itself. Lost and refused connections come again and again; `KafkaUnreachable` says them once.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if level as i32 <= RDKafkaLogLevel::Error as i32 {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }
}

/// Of a client that asks questions: what is wrong is in its answers.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", %error, "{reason}");
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

impl ConsumerContext for Quiet {}

/// Of a client whose connections say how Kafka can be reached.
pub(crate) struct Reporting(pub(crate) Arc<KafkaState>);

impl ClientContext for Reporting {
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.failed(&error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

impl ConsumerContext for Reporting {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (lane, sequence) = unpack(opaque);
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                let class = code.map_or(FailureClass::Retry, FailureClass::of);
                Err(Box::new(Failure {
                    class,
                    at_once: self.fatal.load(Ordering::Acquire)
                        || matches!(
                            code,
                            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
                        ),
                    message: class.told(error, message.topic()),
                    record: owned(message),
                }))
            }
        };
        if let Some(mailbox) = self.mailboxes.get(usize::from(lane)) {
            mailbox.put(Report { sequence, result });
        }
    }
}

fn owned(message: &BorrowedMessage<'_>) -> OwnedRecord {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    OwnedRecord {
        topic: message.topic().to_owned(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}

/// Lane in the upper 16 bits, sequence number below: 2^48 messages are 8 years at a million a second.
pub(super) fn pack(lane: u16, sequence: u64) -> usize {
    usize::from(lane) << 48 | (sequence as usize & ((1 << 48) - 1))
}

fn unpack(opaque: usize) -> (u16, u64) {
    ((opaque >> 48) as u16, opaque as u64 & ((1 << 48) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_and_sequence_survive_the_opaque() {
        for (lane, sequence) in [(0, 0), (7, 1), (u16::MAX, (1 << 48) - 1), (1, 123_456_789_012)] {
            assert_eq!(unpack(pack(lane, sequence)), (lane, sequence));
        }
    }
}

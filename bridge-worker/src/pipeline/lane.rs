mod counts;
mod orders;
mod reports;
mod undeliverable;

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_contract::{ErrorAction, Ledger};
use millrace_mapping::{Decision, Message, Properties};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::deadletter::{Failed, Payload};
use super::lost::{Known, Lost};
use super::mappings::Mappings;
use super::ring::{Ack, NewEntry, Outcome, Ring};
use crate::kafka::{Headers, OwnedRecord, RecordRef, SendError, Sink};
use crate::latency::Histogram;
use crate::limits::Held;

/// What the producer holds for a record beside its bytes: measured about 300, rounded up.
const RECORD_OVERHEAD: usize = 400;
/// Messages a lane holds at most. More than the 65,535 a broker may have outstanding: some overrun it.
const MAX_MESSAGES: usize = 1 << 17;
/// PUBRECs that may wait for the broker's PUBREL at a time. mosquitto looks for the message of each PUBREC among all that
/// wait for PUBCOMP, one after the other: ten thousand of them at once, after an outage, take it minutes.
const MAX_UNRELEASED: usize = 1_000;
/// How long a record whose topic went missing waits before Kafka is asked a second time.
const SECOND_ANSWER_US: u64 = 30_000_000;
/// How long a record that may be sent again waits.
const RETRY_US: u64 = 500_000;

/// What a lane needs to know of its route.
#[derive(Clone, Debug)]
pub(crate) struct LaneConfig {
    pub(crate) lane: u16,
    /// `namespace/name`, for dead letters.
    pub(crate) route: Arc<str>,
    pub(crate) action: ErrorAction,
    pub(crate) dead_letter_topic: Option<String>,
    /// Messages that do not stop the route, by their names.
    pub(crate) skip: Vec<String>,
    /// Bytes that may be in the producer for this lane, overhead included.
    pub(crate) max_buffered: usize,
}

/// A message as it came from the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received<'a> {
    pub(crate) id: u16,
    pub(crate) ack: Ack,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) properties: Option<&'a Properties>,
}

/// The moment something happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Microseconds on the lane's clock.
    pub(crate) us: u64,
    /// Milliseconds since the epoch.
    pub(crate) epoch_ms: i64,
}

/// Why a route stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    /// One word.
    pub(crate) reason: &'static str,
    /// Which message, what is wrong with it, and what can be done.
    pub(crate) message: String,
}

/// Acks that may leave now, in order.
pub(crate) trait Acks {
    /// Appends one.
    fn ack(&mut self, ack: Ack, id: u16);
}

/// What happens to the messages of one lane: pure, but for the sink it is given.
///
/// Every message received is in exactly one bucket of the [`Ledger`] at every moment.
pub(crate) struct Lane<S> {
    config: LaneConfig,
    mappings: Mappings,
    sink: S,
    ring: Ring,
    lost: Lost,
    /// PUBRECs of this connection without PUBREL.
    unreleased: usize,
    /// Messages in the ring that the broker does not wait for: QoS 0.
    unasked: usize,
    /// Messages acknowledged for good, so that the broker counts them no more.
    released: u64,
    /// Records to send again, in receive order.
    retry: BTreeMap<u64, Retry>,
    retry_at_us: u64,
    /// Bytes in the producer, overhead included.
    buffered: usize,
    /// Entries of the ring that have no outcome.
    pending: usize,
    /// Those among them that stopped the route: nothing will settle them.
    held: usize,
    ledger: Ledger,
    latency: Histogram,
    errors: BTreeMap<&'static str, u64>,
    bytes_received: u64,
    bytes_written: u64,
    stop: Option<Stop>,
    digest_seed: u64,
    record: millrace_mapping::Record,
}

struct Retry {
    record: OwnedRecord,
    alone: bool,
}

impl<S: Sink> Lane<S> {
    pub(crate) fn new(config: LaneConfig, mappings: impl Into<Mappings>, sink: S, digest_seed: u64) -> Self {
        Self {
            config,
            mappings: mappings.into(),
            sink,
            ring: Ring::default(),
            lost: Lost::default(),
            unreleased: 0,
            unasked: 0,
            released: 0,
            retry: BTreeMap::new(),
            retry_at_us: 0,
            buffered: 0,
            pending: 0,
            held: 0,
            ledger: Ledger::default(),
            latency: Histogram::new(),
            errors: BTreeMap::new(),
            bytes_received: 0,
            bytes_written: 0,
            stop: None,
            digest_seed,
            record: millrace_mapping::Record::default(),
        }
    }

    /// A connection is up. Without a session at the broker nothing of earlier connections comes again.
    pub(crate) fn connected(&mut self, session_present: bool) {
        self.unreleased = 0;
        if !session_present {
            self.lost.forget_session();
        }
    }

    /// Another client has had the session. It may have acknowledged what was received here, and the broker have
    /// given the identifiers to other messages: nothing that comes can be told from a repeat any more.
    pub(crate) fn taken_over(&mut self) {
        self.lost.forget_session();
    }

    /// Takes a message. Call only while [`Lane::can_take`].
    pub(crate) fn receive(&mut self, message: Received<'_>, now: Now) {
        self.ledger.received += 1;
        self.bytes_received += message.payload.len() as u64;
        self.unasked += usize::from(message.ack == Ack::None);
        let digest = self.digest(message.topic, message.payload);
        let new = NewEntry {
            id: message.id,
            ack: message.ack,
            digest,
            received_us: now.us,
            topic: message.topic,
        };
        if message.ack != Ack::None && self.known(&message, new) {
            return;
        }
        self.ledger.in_flight += 1;
        self.pending += 1;
        let sequence = self.ring.push(new);
        let qos = match message.ack {
            Ack::None => 0,
            Ack::PubAck => 1,
            Ack::PubRec => 2,
        };
        let decision = self.mappings.map(
            &Message {
                topic: message.topic,
                payload: message.payload,
                qos,
                retain: message.retain,
                received_at_ms: now.epoch_ms,
                properties: message.properties,
            },
            &mut self.record,
        );
        match decision {
            Ok(Decision::Write) => self.produce(sequence, message.payload, now),
            Ok(Decision::Filtered) => self.settle(sequence, Outcome::Filtered, now),
            Err(error) => self.undeliverable(
                sequence,
                Failed {
                    reason: error.reason(),
                    message: error.to_string(),
                    topic: message.topic.to_owned(),
                    payload: Payload::Original(message.payload.to_vec()),
                    received_at_ms: now.epoch_ms,
                },
                now,
            ),
        }
    }

    /// Takes a message that is larger than the route takes: of its payload only the head was kept.
    pub(crate) fn receive_oversized(&mut self, message: Received<'_>, size: u64, sha256: String, now: Now) {
        self.ledger.received += 1;
        self.bytes_received += size;
        self.unasked += usize::from(message.ack == Ack::None);
        self.lost.supersede(message.id);
        self.ledger.in_flight += 1;
        self.pending += 1;
        let sequence = self.ring.push(NewEntry {
            id: message.id,
            ack: message.ack,
            digest: self.digest(message.topic, sha256.as_bytes()),
            received_us: now.us,
            topic: message.topic,
        });
        let failed = Failed {
            reason: "MessageTooLarge",
            message: format!(
                "the payload has {size} bytes, more than the route takes (maxMessageBytes); raise \
                 spec.maxMessageBytes and the topic's max.message.bytes, or send smaller messages"
            ),
            topic: message.topic.to_owned(),
            payload: Payload::Head {
                head: message.payload.to_vec(),
                size,
                sha256,
            },
            received_at_ms: now.epoch_ms,
        };
        self.undeliverable(sequence, failed, now);
    }

    /// The broker releases a QoS 2 packet identifier.
    pub(crate) fn pubrel(&mut self, id: u16) {
        self.lost.release(id);
        if let Some(fewer) = self.unreleased.checked_sub(1) {
            self.unreleased = fewer;
            self.released += 1;
        }
    }

    /// Hands over the acks that may leave, in receive order; returns how many. With `all`, also those that should wait
    /// until the broker has released earlier messages: it is not listened to any more.
    pub(crate) fn acks(&mut self, out: &mut impl Acks, all: bool) -> usize {
        let (mut count, mut unreleased) = (0, 0);
        while all || self.unreleased < MAX_UNRELEASED {
            let Some(entry) = self.ring.pop_settled() else {
                break;
            };
            if entry.ack == Ack::None {
                self.unasked -= 1;
                continue;
            }
            if entry.ack == Ack::PubRec {
                self.unreleased += 1;
                unreleased += 1;
                if entry.outcome().is_some_and(remembered) {
                    self.lost.confirm(entry.id, entry.digest);
                }
            }
            out.ack(entry.ack, entry.id);
            count += 1;
        }
        self.released += count as u64 - unreleased;
        count
    }

    /// Whether another message may be read. When not, [`Lane::report`] or [`Lane::resend`] changes it.
    pub(crate) fn can_take(&self) -> bool {
        self.stop.is_none() && self.retry.is_empty() && self.is_full().is_none() && !self.sink.paused()
    }

    /// What the lane holds too much of for Kafka to take more, if it does.
    fn is_full(&self) -> Option<Held> {
        if self.buffered >= self.config.max_buffered {
            Some(Held::Bytes)
        } else if self.ring.len() + self.lost.orphans() >= MAX_MESSAGES {
            Some(Held::Messages(MAX_MESSAGES))
        } else {
            None
        }
    }

    fn digest(&self, topic: &str, payload: &[u8]) -> u64 {
        xxh3_64_with_seed(payload, xxh3_64_with_seed(topic.as_bytes(), self.digest_seed))
    }

    /// Deals with a message that Kafka already has or that is in the producer; false for any other.
    fn known(&mut self, message: &Received<'_>, new: NewEntry<'_>) -> bool {
        if !message.dup {
            self.lost.supersede(message.id);
            return false;
        }
        match self
            .lost
            .recognise(message.id, new.digest, message.ack == Ack::PubRec)
        {
            Known::No => {
                self.lost.supersede(message.id);
                false
            }
            Known::Confirmed => {
                self.ledger.repeats += 1;
                let sequence = self.ring.push(new);
                self.ring.settle(sequence, Outcome::Repeat);
                true
            }
            Known::InProducer(orphan) => {
                self.ledger.in_flight += 1;
                self.pending += 1;
                let sequence = self.ring.push(new);
                if let Some(entry) = self.ring.pending(sequence) {
                    entry.adopts = Some(orphan);
                }
                self.lost.adopt(orphan, sequence);
                true
            }
        }
    }

    /// Hands the mapped record to the producer.
    fn produce(&mut self, sequence: u64, payload: &[u8], now: Now) {
        let record = RecordRef {
            topic: self.record.topic(),
            key: self.record.key(),
            value: Some(self.record.value().unwrap_or(payload)),
            headers: Headers::Mapped(&self.record),
            timestamp_ms: now.epoch_ms,
        };
        let charged = record.size() + RECORD_OVERHEAD;
        let sent = self.sink.send(self.config.lane, sequence, record, false);
        let (retry, refused) = match sent {
            Ok(()) => (None, None),
            Err(SendError::Full) => (Some(record.to_owned()), None),
            Err(SendError::Refused { class, message }) => (None, Some((class, message, record.to_owned()))),
        };
        self.charge(sequence, charged);
        if let Some(record) = retry {
            self.retry.insert(sequence, Retry { record, alone: false });
        }
        if let Some((class, message, record)) = refused {
            self.refused(sequence, class, message, record, now);
        }
    }

    fn charge(&mut self, sequence: u64, bytes: usize) {
        if let Some(entry) = self.ring.pending(sequence) {
            entry.charged = u32::try_from(bytes).unwrap_or(u32::MAX);
            entry.in_producer = true;
            self.buffered += entry.charged as usize;
        }
    }

    fn settle(&mut self, sequence: u64, outcome: Outcome, now: Now) {
        let Some(entry) = self.ring.settle(sequence, outcome) else {
            return;
        };
        self.pending -= 1;
        self.buffered -= entry.charged as usize;
        if outcome == Outcome::Written {
            self.latency.record(now.us.saturating_sub(entry.received_us));
            self.bytes_written += u64::from(entry.charged).saturating_sub(RECORD_OVERHEAD as u64);
        }
        self.ledger.in_flight -= 1;
        *bucket(&mut self.ledger, outcome) += 1;
    }
}

fn bucket(ledger: &mut Ledger, outcome: Outcome) -> &mut u64 {
    match outcome {
        Outcome::Written => &mut ledger.written,
        Outcome::Filtered => &mut ledger.filtered,
        Outcome::DeadLettered => &mut ledger.dead_lettered,
        Outcome::Discarded => &mut ledger.discarded,
        Outcome::Repeat => &mut ledger.repeats,
    }
}

/// Whether a message with this outcome must not be written a second time.
fn remembered(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Written | Outcome::DeadLettered | Outcome::Repeat
    )
}

use std::collections::BTreeMap;
use std::sync::Arc;

use millrace_contract::{ErrorAction, Ledger};
use millrace_mapping::{Decision, Mapper, Message, Properties};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::deadletter::{Failed, Payload};
use super::lost::{Known, Lost, Orphan};
use super::ring::{Ack, NewEntry, Outcome, Ring};
use crate::kafka::{FailureClass, Headers, OwnedRecord, RecordRef, Report, SendError, Sink};
use crate::latency::Histogram;

/// What the producer holds for a record beside its bytes: measured about 300, rounded up.
const RECORD_OVERHEAD: usize = 400;
/// Messages a lane holds at most. More than the 65,535 a broker may have outstanding: some overrun it.
const MAX_MESSAGES: usize = 1 << 17;
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
    mapper: Mapper,
    sink: S,
    ring: Ring,
    lost: Lost,
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
    pub(crate) fn new(config: LaneConfig, mapper: Mapper, sink: S, digest_seed: u64) -> Self {
        Self {
            config,
            mapper,
            sink,
            ring: Ring::default(),
            lost: Lost::default(),
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
        if !session_present {
            self.lost.forget_session();
        }
    }

    /// Another client has had the session. It may have acknowledged what was received here, and the broker have
    /// given the identifiers to other messages: nothing that comes can be told from a repeat any more.
    pub(crate) fn taken_over(&mut self) {
        self.lost.forget_session();
    }

    /// The connection is gone: what was not acknowledged will be sent again by the broker.
    pub(crate) fn connection_lost(&mut self) {
        self.held = 0;
        for (sequence, entry) in self.ring.lose() {
            if let Some(outcome) = entry.outcome() {
                // Kafka has it but its ack never left.
                if entry.ack != Ack::None && remembered(outcome) {
                    self.lost.confirm(entry.id, entry.digest);
                }
                continue;
            }
            self.pending -= 1;
            let qos0 = entry.ack == Ack::None;
            if !qos0 {
                self.ledger.in_flight -= 1;
                self.ledger.returned += 1;
            }
            match entry.adopts {
                Some(orphan) => self.lost.unadopt(orphan),
                None if entry.in_producer || self.retry.contains_key(&sequence) => {
                    self.lost.orphan(
                        sequence,
                        Orphan {
                            id: entry.id,
                            digest: entry.digest,
                            qos0,
                            dead_letter: entry.dead_letter,
                            forgotten: false,
                            charged: entry.charged,
                            adopted_by: None,
                        },
                    );
                }
                // The message that stopped the route: nobody waits for a report.
                None if qos0 => {
                    self.ledger.in_flight -= 1;
                    self.ledger.dropped += 1;
                }
                None => {}
            }
        }
    }

    /// Takes a message. Call only while [`Lane::can_take`].
    pub(crate) fn receive(&mut self, message: Received<'_>, now: Now) {
        self.ledger.received += 1;
        self.bytes_received += message.payload.len() as u64;
        let digest = if message.ack == Ack::None {
            0
        } else {
            self.digest(&message)
        };
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
        let decision = self.mapper.map(
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
        self.ledger.in_flight += 1;
        self.pending += 1;
        let sequence = self.ring.push(NewEntry {
            id: message.id,
            ack: message.ack,
            digest: 0,
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
    }

    /// Takes the producer's report for a record.
    pub(crate) fn report(&mut self, report: Report, now: Now) {
        let sequence = report.sequence;
        match report.result {
            Ok(()) => self.confirmed(sequence, now),
            Err(failure) => match failure.class {
                FailureClass::Retry => {
                    self.retry_at_us = now.us + if failure.at_once { 0 } else { RETRY_US };
                    // One that was sent alone to be judged would be judged by a batch's fate otherwise.
                    let alone = self.ring.pending(sequence).is_some_and(|entry| entry.sent_alone);
                    let record = failure.record;
                    self.retry.insert(sequence, Retry { record, alone });
                }
                class => self.refused(sequence, class, failure.message, failure.record, now),
            },
        }
    }

    /// Sends again what waits for it, as far as the producer takes it. Call before reading.
    pub(crate) fn resend(&mut self, now: Now) {
        if self.retry.is_empty() || now.us < self.retry_at_us {
            return;
        }
        while let Some((sequence, retry)) = self.retry.pop_first() {
            match self
                .sink
                .send(self.config.lane, sequence, retry.record.as_ref(), retry.alone)
            {
                Ok(()) => {}
                Err(SendError::Full) => {
                    self.retry.insert(sequence, retry);
                    return;
                }
                Err(SendError::Refused { class, message }) => {
                    self.refused(sequence, class, message, retry.record, now);
                    if now.us < self.retry_at_us {
                        return;
                    }
                }
            }
        }
    }

    /// Hands over the acks that may leave, in receive order; returns how many.
    pub(crate) fn acks(&mut self, out: &mut impl Acks) -> usize {
        let mut count = 0;
        while let Some(entry) = self.ring.pop_settled() {
            if entry.ack == Ack::None {
                continue;
            }
            if entry.ack == Ack::PubRec && entry.outcome().is_some_and(remembered) {
                self.lost.confirm(entry.id, entry.digest);
            }
            out.ack(entry.ack, entry.id);
            count += 1;
        }
        count
    }

    /// Whether another message may be read. When not, [`Lane::report`] or [`Lane::resend`] changes it.
    pub(crate) fn can_take(&self) -> bool {
        self.stop.is_none()
            && self.retry.is_empty()
            && self.buffered < self.config.max_buffered
            && self.ring.len() + self.lost.orphans() < MAX_MESSAGES
            && !self.sink.paused()
    }

    /// When something waits for time to pass, in microseconds on the lane's clock.
    pub(crate) fn next_retry_us(&self) -> Option<u64> {
        (!self.retry.is_empty()).then_some(self.retry_at_us)
    }

    /// Why the lane takes no more messages, if it has stopped.
    pub(crate) fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Messages of this connection not yet acknowledged.
    pub(crate) fn window(&self) -> usize {
        self.ring.len()
    }

    /// Messages that wait for Kafka, those of lost connections included.
    pub(crate) fn waiting(&self) -> usize {
        self.pending - self.held + self.lost.orphans()
    }

    /// When the oldest unacknowledged message was received, in microseconds on the lane's clock.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        self.ring.oldest_us()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger
    }

    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    pub(crate) fn errors(&self) -> &BTreeMap<&'static str, u64> {
        &self.errors
    }

    /// Bytes of payload received.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes of records confirmed by Kafka.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Bytes in the producer for this lane, overhead included.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }

    fn digest(&self, message: &Received<'_>) -> u64 {
        xxh3_64_with_seed(
            message.payload,
            xxh3_64_with_seed(message.topic.as_bytes(), self.digest_seed),
        )
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
            value: self.record.value().unwrap_or(payload),
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

    fn confirmed(&mut self, sequence: u64, now: Now) {
        if let Some(entry) = self.ring.pending(sequence) {
            let outcome = if entry.dead_letter {
                Outcome::DeadLettered
            } else {
                Outcome::Written
            };
            self.settle(sequence, outcome, now);
            return;
        }
        let Some(orphan) = self.lost.take(sequence) else {
            return;
        };
        self.buffered -= orphan.charged as usize;
        let outcome = if orphan.dead_letter {
            Outcome::DeadLettered
        } else {
            Outcome::Written
        };
        if let Some(adopter) = orphan.adopted_by {
            self.settle(adopter, outcome, now);
            return;
        }
        if orphan.qos0 {
            self.ledger.in_flight -= 1;
        } else {
            self.ledger.returned -= 1;
            if !orphan.forgotten {
                self.lost.confirm(orphan.id, orphan.digest);
            }
        }
        *bucket(&mut self.ledger, outcome) += 1;
    }

    /// Kafka will not take this record as it is.
    fn refused(
        &mut self,
        sequence: u64,
        class: FailureClass,
        message: String,
        record: OwnedRecord,
        now: Now,
    ) {
        let sequence = match self.lost.in_producer(sequence).copied() {
            None => sequence,
            Some(orphan) => {
                self.lost.take(sequence);
                self.buffered -= orphan.charged as usize;
                match orphan.adopted_by {
                    // Its message is here again, and is dealt with as if it had been sent on this connection.
                    Some(adopter) => adopter,
                    None => {
                        if orphan.qos0 {
                            self.ledger.in_flight -= 1;
                            self.ledger.dropped += 1;
                        }
                        // Otherwise the broker sends it again, and it is dealt with then.
                        return;
                    }
                }
            }
        };
        let Some(entry) = self.ring.pending(sequence) else {
            return;
        };
        entry.adopts = None;
        match class {
            FailureClass::Batch if !entry.sent_alone => {
                entry.sent_alone = true;
                self.retry.insert(sequence, Retry { record, alone: true });
                return;
            }
            FailureClass::TopicMissing if !entry.asked_again && self.sink.has_known(&record.topic) => {
                entry.asked_again = true;
                self.retry.insert(sequence, Retry { record, alone: false });
                self.retry_at_us = now.us + SECOND_ANSWER_US;
                return;
            }
            _ => {}
        }
        let is_dead_letter = entry.dead_letter;
        let charged = std::mem::take(&mut entry.charged) as usize;
        entry.in_producer = false;
        self.buffered -= charged;
        let reason = class.reason();
        let failed = Failed {
            reason,
            message,
            topic: self.ring.topic_of(sequence).unwrap_or_default(),
            payload: Payload::Record {
                value: record.value,
                kafka_topic: record.topic,
            },
            received_at_ms: record.timestamp_ms,
        };
        if !is_dead_letter {
            self.undeliverable(sequence, failed, now);
        } else if matches!(class, FailureClass::Batch)
            && !record.headers.iter().any(|(name, _)| is_head(name))
        {
            self.shorten_dead_letter(sequence, failed, record.headers, now);
        } else {
            self.stop_at(&failed, "its dead letter cannot be written: ");
        }
    }

    /// Deals with a message that cannot be delivered, as the route's `onError` says.
    fn undeliverable(&mut self, sequence: u64, failed: Failed, now: Now) {
        *self.errors.entry(failed.reason).or_default() += 1;
        match (self.config.action, self.config.dead_letter_topic.clone()) {
            (ErrorAction::Discard, _) => self.settle(sequence, Outcome::Discarded, now),
            (ErrorAction::DeadLetter, Some(topic)) => {
                let record = failed.dead_letter(&topic, &self.config.route, self.config.lane, true);
                self.send_dead_letter(sequence, record, now);
            }
            (ErrorAction::Stop | ErrorAction::DeadLetter, _) => self.stop_at(&failed, ""),
        }
    }

    /// The dead letter was itself too large: send one with the head only, keeping what the first one said.
    fn shorten_dead_letter(
        &mut self,
        sequence: u64,
        failed: Failed,
        headers: Vec<(String, Vec<u8>)>,
        now: Now,
    ) {
        *self.errors.entry("DeadLetterTooLarge").or_default() += 1;
        let topic = match &failed.payload {
            Payload::Record { kafka_topic, .. } => kafka_topic.clone(),
            _ => return self.stop_at(&failed, ""),
        };
        let mut record = failed.dead_letter(&topic, &self.config.route, self.config.lane, false);
        record
            .headers
            .retain(|(name, _)| name.starts_with("millrace.payload"));
        record.headers.extend(
            headers
                .into_iter()
                .filter(|(name, _)| !name.starts_with("millrace.payload")),
        );
        self.send_dead_letter(sequence, record, now);
    }

    fn send_dead_letter(&mut self, sequence: u64, record: OwnedRecord, now: Now) {
        let Some(entry) = self.ring.pending(sequence) else {
            return;
        };
        entry.dead_letter = true;
        entry.sent_alone = false;
        entry.asked_again = false;
        self.charge(sequence, record.as_ref().size() + RECORD_OVERHEAD);
        match self.sink.send(self.config.lane, sequence, record.as_ref(), false) {
            Ok(()) => {}
            Err(SendError::Full) => {
                self.retry.insert(sequence, Retry { record, alone: false });
            }
            Err(SendError::Refused { class, message }) => self.refused(sequence, class, message, record, now),
        }
    }

    fn stop_at(&mut self, failed: &Failed, prefix: &str) {
        let message = format!(
            "stopped at message {} on topic {:?} ({} bytes, lane {}): {prefix}{}; it stays with the broker: \
             correct the route, or set spec.onError.action to DeadLetter or Discard",
            failed.digest(),
            failed.topic,
            failed.size(),
            self.config.lane,
            failed.message,
        );
        self.held += 1;
        self.stop.get_or_insert(Stop {
            reason: failed.reason,
            message,
        });
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

fn is_head(header: &str) -> bool {
    header == "millrace.payload.sha256"
}

//! What becomes of messages that cannot be delivered as the route says.

use millrace_contract::ErrorAction;

use super::super::deadletter::{Failed, Payload};
use super::super::ring::Outcome;
use super::{Lane, Now, RECORD_OVERHEAD, Retry, SECOND_ANSWER_US, Stop};
use crate::kafka::{FailureClass, OwnedRecord, SendError, Sink};

impl<S: Sink> Lane<S> {
    /// Kafka will not take this record as it is.
    pub(super) fn refused(
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
                value: record.value.unwrap_or_default(),
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
            self.stop_at(sequence, &failed, "its dead letter cannot be written: ", now);
        }
    }

    /// Deals with a message that cannot be delivered, as the route's `onError` says.
    pub(super) fn undeliverable(&mut self, sequence: u64, failed: Failed, now: Now) {
        *self.errors.entry(failed.reason).or_default() += 1;
        match (self.config.action, self.config.dead_letter_topic.clone()) {
            (ErrorAction::Discard, _) => self.settle(sequence, Outcome::Discarded, now),
            (ErrorAction::DeadLetter, Some(topic)) => {
                let record = failed.dead_letter(&topic, &self.config.route, self.config.lane, true);
                self.send_dead_letter(sequence, record, now);
            }
            (ErrorAction::Stop | ErrorAction::DeadLetter, _) => self.stop_at(sequence, &failed, "", now),
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
            _ => return self.stop_at(sequence, &failed, "", now),
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

    /// Stops the route, unless the message is one that is to be skipped.
    fn stop_at(&mut self, sequence: u64, failed: &Failed, prefix: &str, now: Now) {
        let digest = self.ring.pending(sequence).map_or(0, |entry| entry.digest);
        let name = format!("{digest:016x}");
        if self.config.skip.contains(&name) {
            tracing::warn!(
                route = &*self.config.route,
                reason = failed.reason,
                topic = failed.topic,
                "skipped message {name}, as the route asks: {}",
                failed.message
            );
            return self.settle(sequence, Outcome::Discarded, now);
        }
        let message = format!(
            "stopped at message {name} on topic {:?} ({} bytes, lane {}): {prefix}{}; it stays with the broker: \
             correct the route, set spec.onError.action to DeadLetter or Discard, or skip this message alone: \
             annotation millrace.dev/skip: {name}",
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
}

fn is_head(header: &str) -> bool {
    header == "millrace.payload.sha256"
}

//! What Kafka reports, and what a lost connection makes of messages it has not reported yet.

use super::super::lost::Orphan;
use super::super::ring::{Ack, Outcome};
use super::{Lane, Now, RECORD_OVERHEAD, RETRY_US, Retry, bucket, remembered};
use crate::kafka::{FailureClass, Report, SendError, Sink};

impl<S: Sink> Lane<S> {
    /// The connection is gone: what was not acknowledged will be sent again by the broker.
    pub(crate) fn connection_lost(&mut self) {
        self.held = 0;
        self.unasked = 0;
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
        if outcome == Outcome::Written {
            self.bytes_written += u64::from(orphan.charged).saturating_sub(RECORD_OVERHEAD as u64);
        }
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
}

//! Dead letters on their way to Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Runner;
use super::ending::{Ended, Way};
use crate::delivery::outgoing::Failed;
use crate::delivery::plan::Plan;
use crate::kafka::{FailureClass, LaneSink, Mailbox, OwnedRecord, Report, SendError, Sink as _};

/// How long Kafka is given before it is asked to take a dead letter again.
const AGAIN: Duration = Duration::from_millis(500);
/// The reports of all dead letters come here.
const LANE: u16 = 0;

/// Dead letters on their way to Kafka.
pub(in crate::delivery) struct Letters {
    sink: LaneSink,
    mailboxes: Arc<[Mailbox]>,
    open: BTreeMap<u64, Letter>,
    next: u64,
    retry_at: Option<Instant>,
    reports: Vec<Report>,
}

struct Letter {
    failed: Failed,
    /// What is to be sent, when it is not with the producer.
    waiting: Option<OwnedRecord>,
    alone: bool,
}

impl Letters {
    pub(in crate::delivery) fn new(sink: LaneSink, mailboxes: Arc<[Mailbox]>) -> Self {
        Self {
            sink,
            mailboxes,
            open: BTreeMap::new(),
            next: 0,
            retry_at: None,
            reports: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Writes a record to the topic of dead letters.
    pub(super) fn add(&mut self, mut failed: Failed, topic: &str, plan: &Plan) {
        let Some(record) = failed.record.take() else {
            return;
        };
        let record = letter(*record, &failed, topic, plan);
        let number = self.next;
        self.next += 1;
        self.open.insert(
            number,
            Letter {
                failed,
                waiting: Some(record),
                alone: false,
            },
        );
        self.retry_at.get_or_insert_with(Instant::now);
    }

    /// Waits until something may have been reported.
    pub(super) async fn arrived(&self) {
        self.mailboxes[usize::from(LANE)].arrived().await;
    }

    /// When something is to be sent again.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Gives everything up.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = Failed> + use<> {
        std::mem::take(&mut self.open)
            .into_values()
            .map(|letter| letter.failed)
    }
}

/// The record as it was read, with what is to be known of its failure. What an earlier failure said goes.
fn letter(record: OwnedRecord, failed: &Failed, topic: &str, plan: &Plan) -> OwnedRecord {
    let source = failed.source;
    let said = [
        ("millrace.error.reason", failed.reason.to_owned()),
        ("millrace.error.message", failed.message.clone()),
        ("millrace.route", plan.route.to_string()),
        (
            "millrace.source.topic",
            plan.consumer.topics[source.topic].clone(),
        ),
        ("millrace.source.partition", source.partition.to_string()),
        ("millrace.source.offset", source.offset.to_string()),
    ];
    let mut headers = record.headers;
    headers.retain(|(name, _)| said.iter().all(|(other, _)| name != other));
    headers.extend(
        said.into_iter()
            .map(|(name, value)| (name.to_owned(), value.into_bytes())),
    );
    OwnedRecord {
        topic: topic.to_owned(),
        headers,
        ..record
    }
}

impl Runner {
    /// Takes what Kafka has reported of dead letters, and sends those that wait.
    pub(super) fn take_reports(&mut self) -> Instant {
        let now = Instant::now();
        let mut reports = std::mem::take(&mut self.task.letters.reports);
        self.task.letters.mailboxes[usize::from(LANE)].take(&mut reports);
        for report in reports.drain(..) {
            self.report(report, now);
        }
        self.task.letters.reports = reports;
        if self.task.letters.retry_at.is_some_and(|at| now >= at) {
            self.task.letters.retry_at = None;
            self.send_letters(now);
        }
        now
    }

    fn report(&mut self, report: Report, now: Instant) {
        let letters = &mut self.task.letters;
        let Some(letter) = letters.open.get_mut(&report.sequence) else {
            return;
        };
        let failure = match report.result {
            Ok(()) => {
                if let Some(letter) = letters.open.remove(&report.sequence) {
                    self.ended
                        .push(Ended::of_failed(&letter.failed, Way::DeadLettered));
                }
                return;
            }
            Err(failure) => failure,
        };
        match failure.class {
            FailureClass::Retry => letters.retry_at = Some(now + AGAIN),
            FailureClass::TopicMissing if letters.sink.has_known(&failure.record.topic) => {
                letters.retry_at = Some(now + AGAIN);
            }
            FailureClass::Batch if !letter.alone => {
                letter.alone = true;
                letters.retry_at = Some(now);
            }
            _ => return self.refused(report.sequence, &failure.message),
        }
        letter.waiting = Some(failure.record);
    }

    fn send_letters(&mut self, now: Instant) {
        let mut refused = Vec::new();
        let letters = &mut self.task.letters;
        for (number, letter) in &mut letters.open {
            let Some(record) = letter.waiting.take() else {
                continue;
            };
            match letters.sink.send(LANE, *number, record.as_ref(), letter.alone) {
                Ok(()) => continue,
                Err(SendError::Full) => {}
                Err(SendError::Refused { class, .. })
                    if class == FailureClass::TopicMissing && letters.sink.has_known(&record.topic) => {}
                Err(SendError::Refused { message, .. }) => {
                    refused.push((*number, message));
                    continue;
                }
            }
            letter.waiting = Some(record);
            letters.retry_at = Some(now + AGAIN);
        }
        for (number, message) in refused {
            self.refused(number, &message);
        }
    }

    fn refused(&mut self, number: u64, message: &str) {
        if let Some(letter) = self.task.letters.open.remove(&number) {
            let prefix = format!("its dead letter cannot be written: {message}: ");
            self.stop_at(&letter.failed, &prefix);
        }
    }
}

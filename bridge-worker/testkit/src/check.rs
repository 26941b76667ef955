//! Compares what was sent and acknowledged with what is in Kafka. Pure.

use crate::observer::Records;
use crate::publisher::Report;
use crate::stamp::MessageId;
use std::collections::HashMap;
use std::fmt;

/// How many examples are kept of each finding.
const EXAMPLES: usize = 10;

/// Messages with something in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many.
    pub count: u64,
    /// The first ten.
    pub examples: Vec<MessageId>,
}

impl Findings {
    fn add(&mut self, id: MessageId) {
        self.count += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(id);
        }
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.count)?;
        self.examples.iter().try_for_each(|id| write!(f, "\n    {id}"))
    }
}

/// How well messages have arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages sent.
    pub sent: u64,
    /// Messages acknowledged to the publisher.
    pub acknowledged: u64,
    /// Different messages of the run in Kafka.
    pub arrived: u64,
    /// Acknowledged, but not in Kafka: lost.
    pub missing: Findings,
    /// In Kafka, but never sent, or of another run.
    pub spurious: Findings,
    /// Records that were changed on their way.
    pub corrupted: u64,
    /// Records no publisher made.
    pub foreign: u64,
    /// Records beyond the first of their message.
    pub duplicates: u64,
    /// Records beyond the first that the publisher did not cause by sending the message more than once.
    pub unexplained_duplicates: Findings,
    /// Times the publisher sent a message again, see [`Report::repeats`].
    pub publisher_repeats: u64,
    /// Messages whose first record lies behind the first record of a later message of their key. Messages that the
    /// publisher had to send anew ([`Report::was_refused`]) and keys with records in more than one partition have no
    /// order to keep.
    pub out_of_order: Findings,
    /// Keys with records in more than one partition.
    pub split_keys: u64,
}

impl Verdict {
    /// Whether every acknowledged message has arrived, unchanged and in order, and nothing else has.
    pub fn is_sound(&self) -> bool {
        self.missing.count + self.spurious.count + self.out_of_order.count + self.corrupted + self.foreign
            == 0
    }

    /// # Panics
    /// Unless [`Verdict::is_sound`], with the whole verdict.
    #[track_caller]
    pub fn assert_nothing_lost(&self) -> &Verdict {
        assert!(self.is_sound(), "{self}");
        self
    }

    /// The same where messages have no order.
    #[must_use]
    pub fn in_any_order(mut self) -> Verdict {
        self.out_of_order = Findings::default();
        self
    }

    /// # Panics
    /// When the bridge has duplicated more than `most` records, the publisher's own repeats not counted.
    #[track_caller]
    pub fn assert_duplicates_at_most(&self, most: u64) -> &Verdict {
        assert!(
            self.unexplained_duplicates.count <= most,
            "more than {most} duplicates\n{self}"
        );
        self
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "sent {}, acknowledged {}, arrived {}",
            self.sent, self.acknowledged, self.arrived
        )?;
        writeln!(f, "missing: {}", self.missing)?;
        writeln!(f, "spurious: {}", self.spurious)?;
        writeln!(f, "corrupted: {}, foreign: {}", self.corrupted, self.foreign)?;
        writeln!(f, "out of order: {}", self.out_of_order)?;
        writeln!(
            f,
            "duplicates: {}, repeats of the publisher: {}",
            self.duplicates, self.publisher_repeats
        )?;
        writeln!(f, "unexplained duplicates: {}", self.unexplained_duplicates)?;
        write!(f, "keys in several partitions: {}", self.split_keys)
    }
}

/// Compares a publisher's report with what an observer has read.
///
/// ```
/// use millrace_testkit::{MessageId, Records, Report, check};
///
/// let id = |sequence| MessageId { run: 1, key: 0, sequence };
/// let report = Report::of(1, &[(id(0), 1, true), (id(1), 1, true), (id(2), 1, false)]);
/// check(&report, &Records::of(&[id(0), id(1)])).assert_nothing_lost();
/// assert_eq!(check(&report, &Records::of(&[id(0)])).missing.examples, [id(1)]);
/// ```
pub fn check(report: &Report, records: &Records) -> Verdict {
    let mut verdict = Verdict {
        sent: report.sent(),
        acknowledged: report.acknowledged(),
        corrupted: records.corrupted(),
        foreign: records.foreign(),
        publisher_repeats: report.repeats(),
        ..Verdict::default()
    };
    for id in report.acknowledged_ids() {
        if !records.contains(id) {
            verdict.missing.add(id);
        }
    }
    let mut keys: HashMap<u32, Key> = HashMap::new();
    for seen in records.seen() {
        if report.attempts(seen.id) == 0 {
            verdict.spurious.add(seen.id);
            continue;
        }
        let key = keys
            .entry(seen.id.key)
            .or_insert_with(|| Key::new((seen.topic, seen.partition)));
        key.split |= key.partition != (seen.topic, seen.partition);
        let occurrences = key.occurrences.entry(seen.id.sequence).or_default();
        *occurrences += 1;
        if *occurrences > 1 {
            verdict.duplicates += 1;
            if *occurrences > u32::from(report.attempts(seen.id)) {
                verdict.unexplained_duplicates.add(seen.id);
            }
            continue;
        }
        verdict.arrived += 1;
        if report.was_refused(seen.id) {
            continue;
        }
        if key.latest.is_some_and(|latest| seen.id.sequence < latest) {
            key.out_of_order.push(seen.id);
        }
        key.latest = key.latest.max(Some(seen.id.sequence));
    }
    for key in keys.values() {
        if key.split {
            verdict.split_keys += 1;
        } else {
            key.out_of_order
                .iter()
                .for_each(|&id| verdict.out_of_order.add(id));
        }
    }
    verdict
}

/// What is known of a key while its records are gone through.
struct Key {
    partition: (u16, i32),
    split: bool,
    occurrences: HashMap<u32, u32>,
    /// The greatest sequence that has arrived in order.
    latest: Option<u32>,
    out_of_order: Vec<MessageId>,
}

impl Key {
    fn new(partition: (u16, i32)) -> Key {
        Key {
            partition,
            split: false,
            occurrences: HashMap::new(),
            latest: None,
            out_of_order: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;

//! What was read. Pure: no Kafka.

use crate::bits::Bits;
use crate::stamp::{MessageId, Stamp, StampError};
use std::collections::HashMap;

/// A record that carries a message of a [`crate::Publisher`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which message.
    pub id: MessageId,
    /// The topic's place in the list given to [`crate::Observer::start`].
    pub topic: u16,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// When the message was first sent, in microseconds since the Unix epoch.
    pub sent_at: u64,
    /// The record's timestamp, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// When the record was read, in microseconds since the Unix epoch.
    pub seen_at: u64,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) topic: u16,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// Everything an [`crate::Observer`] has read.
#[derive(Clone, Debug, Default)]
pub struct Records {
    seen: Vec<Seen>,
    distinct: HashMap<(u32, u32), Bits>,
    distinct_count: u64,
    foreign: u64,
    corrupted: u64,
    /// The next offset of each topic and partition.
    next: HashMap<(u16, i32), i64>,
    last_seen_at: u64,
}

impl Records {
    /// Records made by hand: messages in the order of their offsets in partition 0 of one topic.
    ///
    /// ```
    /// use millrace_testkit::{MessageId, Records};
    ///
    /// let id = MessageId { run: 1, key: 0, sequence: 0 };
    /// let records = Records::of(&[id, id]);
    /// assert_eq!((records.seen().len(), records.distinct()), (2, 1));
    /// ```
    pub fn of(ids: &[MessageId]) -> Records {
        let mut records = Records::default();
        for (offset, &id) in (0..).zip(ids) {
            let mut payload = Vec::new();
            Stamp { id, sent_at: 0 }.write(Stamp::SIZE, &mut payload);
            records.add(
                Position {
                    topic: 0,
                    partition: 0,
                    offset,
                },
                0,
                &payload,
                0,
            );
        }
        records
    }

    /// Adds a record, unless it was read before: after a Kafka's restart a client may read records twice that are there
    /// once.
    pub(crate) fn add(&mut self, at: Position, timestamp: i64, payload: &[u8], now: u64) {
        let next = self.next.entry((at.topic, at.partition)).or_default();
        if at.offset < *next {
            return;
        }
        *next = at.offset + 1;
        match Stamp::read(payload) {
            Ok(Stamp { id, sent_at }) => {
                let distinct = self.distinct.entry((id.run, id.key)).or_default();
                self.distinct_count += u64::from(distinct.insert(id.sequence));
                // A wall clock may be set back; the order of reading is kept.
                self.last_seen_at = self.last_seen_at.max(now);
                let Position {
                    topic,
                    partition,
                    offset,
                } = at;
                let seen_at = self.last_seen_at;
                self.seen.push(Seen {
                    id,
                    topic,
                    partition,
                    offset,
                    sent_at,
                    timestamp,
                    seen_at,
                });
            }
            Err(StampError::Foreign) => self.foreign += 1,
            Err(StampError::Corrupted) => self.corrupted += 1,
        }
    }

    /// The offset behind the last record read of a partition.
    pub(super) fn next(&self, topic: u16, partition: i32) -> i64 {
        self.next.get(&(topic, partition)).copied().unwrap_or_default()
    }

    /// The same but for the messages of some runs.
    ///
    /// ```
    /// use millrace_testkit::{MessageId, Records};
    ///
    /// let id = |run| MessageId { run, key: 0, sequence: 0 };
    /// let records = Records::of(&[id(1), id(2)]).without(&[2]);
    /// assert_eq!((records.seen().len(), records.distinct()), (1, 1));
    /// assert!(!records.contains(id(2)));
    /// ```
    pub fn without(mut self, runs: &[u32]) -> Records {
        self.seen.retain(|seen| !runs.contains(&seen.id.run));
        self.distinct.retain(|(run, _), _| !runs.contains(run));
        self.distinct_count = self.distinct.values().map(Bits::len).sum();
        self
    }

    /// Records with a message of a publisher, in the order in which they were read; within a partition, that of their
    /// offsets.
    pub fn seen(&self) -> &[Seen] {
        &self.seen
    }

    /// Those read between two moments, in microseconds since the Unix epoch, both included.
    pub fn between(&self, from: u64, to: u64) -> &[Seen] {
        let start = self.seen.partition_point(|seen| seen.seen_at < from);
        let end = self.seen.partition_point(|seen| seen.seen_at <= to);
        &self.seen[start..end.max(start)]
    }

    /// Different messages.
    pub fn distinct(&self) -> u64 {
        self.distinct_count
    }

    /// Different messages of one run.
    pub fn distinct_of(&self, run: u32) -> u64 {
        let sequences = self.distinct.iter().filter(|((of, _), _)| *of == run);
        sequences.map(|(_, sequences)| sequences.len()).sum()
    }

    /// Whether a message is among them.
    pub fn contains(&self, id: MessageId) -> bool {
        self.distinct
            .get(&(id.run, id.key))
            .is_some_and(|sequences| sequences.contains(id.sequence))
    }

    /// Records that no publisher made.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Records that a publisher made and something has changed.
    pub fn corrupted(&self) -> u64 {
        self.corrupted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(sequence: u32) -> Vec<u8> {
        let mut payload = Vec::new();
        Stamp {
            id: MessageId {
                run: 1,
                key: 2,
                sequence,
            },
            sent_at: 0,
        }
        .write(64, &mut payload);
        payload
    }

    fn at(offset: i64) -> Position {
        Position {
            topic: 0,
            partition: 0,
            offset,
        }
    }

    #[test]
    fn a_record_read_twice_counts_once_and_a_repeat_twice() {
        let mut records = Records::default();
        for (offset, sequence) in [(0, 0), (1, 1), (1, 1), (0, 0), (2, 1)] {
            records.add(at(offset), 0, &payload(sequence), 0);
        }
        assert_eq!((records.seen().len(), records.distinct()), (3, 2));
        assert!(records.contains(MessageId {
            run: 1,
            key: 2,
            sequence: 1
        }));
        assert!(!records.contains(MessageId {
            run: 1,
            key: 2,
            sequence: 2
        }));
    }

    #[test]
    fn what_is_not_ours_is_counted_apart() {
        let mut records = Records::default();
        records.add(at(0), 0, b"{}", 0);
        records.add(at(1), 0, &payload(0)[..40], 0);
        assert_eq!(
            (records.foreign(), records.corrupted(), records.seen().len()),
            (1, 1, 0)
        );
    }

    #[test]
    fn moments_select_records() {
        let mut records = Records::default();
        for (offset, now) in [(0, 10), (1, 20), (2, 20), (3, 30)] {
            records.add(at(offset), 0, &payload(0), now);
        }
        assert_eq!(records.between(11, 20).len(), 2);
        assert_eq!(records.between(0, u64::MAX).len(), 4);
        assert_eq!(records.between(31, 40).len(), 0);
    }
}

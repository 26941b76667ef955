//! How far each partition is: which of its records are on their way, and up to where all have arrived.

use std::collections::VecDeque;
use std::sync::Arc;

/// A partition for as long as this process has it. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    index: usize,
    generation: u64,
}

/// A record that has been read. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: usize,
    number: u64,
}

/// An offset that can be committed: all records of the partition below it have arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// The partitions of this process.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// By the slots' indices. A place of one that has gone is given to another.
    partitions: Vec<Partition>,
    generation: u64,
    /// Records of all partitions in `open`.
    remembered: usize,
}

#[derive(Debug)]
struct Partition {
    topic: Arc<str>,
    partition: i32,
    generation: u64,
    hold: Hold,
    /// The number of the first of `open`.
    first: u64,
    open: VecDeque<Record>,
    /// Records of `open` that are on their way.
    under_way: usize,
    /// The end of the longest prefix of records that have all arrived.
    arrived: Option<i64>,
    /// What was asked to be committed last.
    asked: Option<i64>,
}

/// Whether this process has a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Held,
    /// The group takes it: nothing more is published, what has been may still arrive.
    Yielding,
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    offset: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    UnderWay,
    Arrived,
    /// Not published after all: who gets the partition reads it again.
    Dropped,
}

impl Progress {
    /// The group gives this process a partition. `start`: where it begins, if nothing is committed there yet.
    pub(crate) fn assign(&mut self, topic: Arc<str>, partition: i32, start: Option<i64>) -> Slot {
        self.generation += 1;
        let generation = self.generation;
        let new = Partition {
            topic,
            partition,
            generation,
            hold: Hold::Held,
            first: 0,
            open: VecDeque::new(),
            under_way: 0,
            arrived: start,
            asked: None,
        };
        let gone = self.partitions.iter().position(|old| old.hold == Hold::Gone);
        let index = match gone {
            Some(index) => {
                // A late answer to a record of before must find no record of now.
                let first = self.partitions[index].first;
                self.partitions[index] = Partition { first, ..new };
                index
            }
            None => {
                self.partitions.push(new);
                self.partitions.len() - 1
            }
        };
        Slot { index, generation }
    }

    /// The slot of a partition that this process has.
    pub(crate) fn slot(&self, topic: &str, partition: i32) -> Option<Slot> {
        let is_it =
            |one: &Partition| one.hold != Hold::Gone && one.partition == partition && *one.topic == *topic;
        let index = self.partitions.iter().position(is_it)?;
        let generation = self.partitions[index].generation;
        Some(Slot { index, generation })
    }

    /// A record has been read. `None`: its partition is not this process's any more.
    pub(crate) fn read(&mut self, slot: Slot, offset: i64) -> Option<Ticket> {
        let partition = self.partitions.get_mut(slot.index)?;
        if partition.hold != Hold::Held || partition.generation != slot.generation {
            return None;
        }
        let number = partition.first + partition.open.len() as u64;
        partition.open.push_back(Record {
            offset,
            state: State::UnderWay,
        });
        partition.under_way += 1;
        self.remembered += 1;
        Some(Ticket {
            index: slot.index,
            number,
        })
    }

    /// Whether a record may be published: its partition is not about to go.
    pub(crate) fn may_go(&self, ticket: Ticket) -> bool {
        let partition = &self.partitions[ticket.index];
        partition.hold == Hold::Held && ticket.number >= partition.first
    }

    /// A record has arrived, or its way has ended otherwise. False: its partition went before.
    pub(crate) fn arrived(&mut self, ticket: Ticket) -> bool {
        self.end(ticket, State::Arrived)
    }

    /// A record is not published after all. False: its partition went before.
    pub(crate) fn dropped(&mut self, ticket: Ticket) -> bool {
        self.end(ticket, State::Dropped)
    }

    fn end(&mut self, ticket: Ticket, state: State) -> bool {
        let partition = &mut self.partitions[ticket.index];
        let index = ticket.number.checked_sub(partition.first);
        let Some(record) = index.and_then(|index| partition.open.get_mut(index as usize)) else {
            return false;
        };
        if record.state != State::UnderWay {
            return false;
        }
        record.state = state;
        partition.under_way -= 1;
        while let Some(Record {
            offset,
            state: State::Arrived,
        }) = partition.open.front()
        {
            partition.arrived = Some(offset + 1);
            partition.open.pop_front();
            partition.first += 1;
            self.remembered -= 1;
        }
        true
    }

    /// The group takes partitions: nothing more of them is published.
    pub(crate) fn yields(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.partitions[slot.index].hold = Hold::Yielding;
        }
    }

    /// Records of partitions that are on their way.
    pub(crate) fn under_way(&self, slots: &[Slot]) -> usize {
        slots
            .iter()
            .map(|slot| self.partitions[slot.index].under_way)
            .sum()
    }

    /// Partitions have gone. How many of their records were on their way: who gets the partitions reads those again.
    pub(crate) fn gone(&mut self, slots: &[Slot]) -> usize {
        let under_way = self.under_way(slots);
        for slot in slots {
            let partition = &mut self.partitions[slot.index];
            partition.hold = Hold::Gone;
            partition.first += partition.open.len() as u64;
            self.remembered -= partition.open.len();
            partition.open.clear();
            partition.under_way = 0;
        }
        under_way
    }

    /// Records of all partitions that are under way, or behind one that is.
    pub(crate) fn remembered(&self) -> usize {
        self.remembered
    }

    /// Whether a record's way has not ended, and its partition has not gone.
    pub(crate) fn is_under_way(&self, ticket: Ticket) -> bool {
        let partition = &self.partitions[ticket.index];
        let index = ticket.number.checked_sub(partition.first);
        let record = index.and_then(|index| partition.open.get(index as usize));
        record.is_some_and(|record| record.state == State::UnderWay)
    }

    /// What can be committed and has not been asked to be.
    pub(crate) fn take_commits(&mut self) -> Vec<Commit> {
        let news = self
            .partitions
            .iter_mut()
            .filter(|partition| partition.hold != Hold::Gone && partition.arrived != partition.asked);
        news.filter_map(|partition| {
            partition.asked = partition.arrived;
            Some(Commit {
                topic: Arc::clone(&partition.topic),
                partition: partition.partition,
                offset: partition.arrived?,
            })
        })
        .collect()
    }

    /// A commit has failed: all is asked again.
    pub(crate) fn ask_again(&mut self) {
        for partition in &mut self.partitions {
            partition.asked = None;
        }
    }

    /// Whether this process has any partition.
    pub(crate) fn holds_any(&self) -> bool {
        self.partitions.iter().any(|one| one.hold != Hold::Gone)
    }

    /// Topic, number and the offset up to which all has arrived, of the partitions of this process.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (&str, i32, Option<i64>)> {
        let held = self.partitions.iter().filter(|one| one.hold != Hold::Gone);
        held.map(|one| (&*one.topic, one.partition, one.arrived))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn offset(progress: &mut Progress) -> Option<i64> {
        progress.take_commits().first().map(|commit| commit.offset)
    }

    #[test]
    fn what_is_committed_is_the_end_of_the_longest_prefix_that_has_arrived() {
        let mut progress = Progress::default();
        let slot = progress.assign("a".into(), 0, None);
        // Compaction and transactions leave holes.
        let tickets: Vec<Ticket> = [10, 11, 15, 16]
            .into_iter()
            .filter_map(|offset| progress.read(slot, offset))
            .collect();
        progress.arrived(tickets[1]);
        assert_eq!(offset(&mut progress), None);
        progress.arrived(tickets[0]);
        assert_eq!(offset(&mut progress), Some(12));
        assert_eq!(offset(&mut progress), None, "asked once");
        progress.ask_again();
        assert_eq!(offset(&mut progress), Some(12));
        progress.arrived(tickets[3]);
        progress.arrived(tickets[2]);
        assert_eq!(offset(&mut progress), Some(17));
    }

    #[test]
    fn nothing_behind_a_record_that_was_dropped_is_committed() {
        let mut progress = Progress::default();
        let slot = progress.assign("a".into(), 0, None);
        let tickets: Vec<Ticket> = (0..3).filter_map(|offset| progress.read(slot, offset)).collect();
        progress.yields(&[slot]);
        assert_eq!(progress.read(slot, 3), None);
        assert!(!progress.may_go(tickets[1]));
        progress.arrived(tickets[0]);
        progress.dropped(tickets[1]);
        progress.arrived(tickets[2]);
        assert_eq!(progress.under_way(&[slot]), 0);
        assert_eq!(offset(&mut progress), Some(1));
        assert_eq!(progress.gone(&[slot]), 0);
    }

    #[test]
    fn a_late_answer_of_a_partition_that_has_gone_says_nothing_of_the_next() {
        let mut progress = Progress::default();
        let slot = progress.assign("a".into(), 0, None);
        let old = progress.read(slot, 7).unwrap();
        assert_eq!(progress.gone(&[slot]), 1);
        let next = progress.assign("b".into(), 1, None);
        assert_eq!((next.index, progress.read(slot, 8)), (slot.index, None));
        progress.read(next, 0).unwrap();
        assert!(!progress.arrived(old));
        assert_eq!(offset(&mut progress), None);
    }

    #[test]
    fn where_a_partition_begins_is_committed_before_anything_is_read() {
        let mut progress = Progress::default();
        progress.assign("a".into(), 3, Some(40));
        assert_eq!(offset(&mut progress), Some(40));
    }

    proptest! {
        /// Whatever order answers come in, what can be committed is what a set of them says.
        #[test]
        fn it_agrees_with_a_set(order in Just((0..40_usize).collect::<Vec<_>>()).prop_shuffle()) {
            let mut progress = Progress::default();
            let slot = progress.assign("a".into(), 0, None);
            let tickets: Vec<Ticket> = (0..40).filter_map(|n| progress.read(slot, 2 * n)).collect();
            let mut arrived = BTreeSet::new();
            let mut last = None;
            for index in order {
                prop_assert!(progress.arrived(tickets[index]));
                prop_assert!(!progress.arrived(tickets[index]), "counted once");
                arrived.insert(index);
                let prefix = (0..40).take_while(|index| arrived.contains(index)).last();
                last = offset(&mut progress).or(last);
                prop_assert_eq!(last, prefix.map(|index| 2 * index as i64 + 1));
            }
            prop_assert_eq!(progress.under_way(&[slot]), 0);
        }
    }
}

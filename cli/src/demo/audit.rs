//! The books of the demonstration: every message published, and what was found of it in Kafka. Pure.

use std::sync::{Mutex, MutexGuard, PoisonError};

use millrace_contract::Ledger;

/// A message's number. Numbers are given in order from 0, over all plants and routes.
pub(crate) type Id = u64;

/// What should become of a message on one route, as the plant that made it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A record in a topic of the route.
    Written,
    /// Nothing in Kafka: the route's `when` is false for it.
    Filtered,
    /// A record in the dead-letter topic.
    DeadLettered,
}

/// Where a message was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a topic of the route.
    Topic,
    /// Among the dead letters of the route.
    DeadLetters,
}

/// One message on one route. A message that several routes read has one for each.
#[derive(Clone, Copy, Debug)]
struct Entry {
    route: usize,
    fate: Fate,
    in_topic: u32,
    in_dead_letters: u32,
}

#[derive(Clone, Copy, Debug)]
struct Published {
    /// Its entries, from here to those of the next message.
    entries: usize,
    acknowledged: bool,
}

/// All messages of a demonstration. Routes are known by their number.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    messages: Vec<Published>,
    entries: Vec<Entry>,
    found: u64,
}

/// The shared books. A panic elsewhere leaves them as they are: the verdict then finds what is missing.
pub(crate) fn lock(audit: &Mutex<Audit>) -> MutexGuard<'_, Audit> {
    audit.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Audit {
    /// Notes a message before it is published, and numbers it.
    pub(crate) fn publish(&mut self, fates: &[(usize, Fate)]) -> Id {
        self.messages.push(Published {
            entries: self.entries.len(),
            acknowledged: false,
        });
        let entry = |(route, fate): &(usize, Fate)| Entry {
            route: *route,
            fate: *fate,
            in_topic: 0,
            in_dead_letters: 0,
        };
        self.entries.extend(fates.iter().map(entry));
        self.messages.len() as Id - 1
    }

    /// Notes that the broker has acknowledged a message.
    pub(crate) fn acknowledge(&mut self, id: Id) {
        if let Some(message) = self.messages.get_mut(id as usize) {
            message.acknowledged = true;
        }
    }

    /// Notes a record in Kafka. Returns whether such a message was published for this route at all.
    pub(crate) fn find(&mut self, id: Id, route: usize, place: Place) -> bool {
        let range = self.entries_of(id as usize);
        let Some(entry) = self.entries[range].iter_mut().find(|entry| entry.route == route) else {
            return false;
        };
        match place {
            Place::Topic => entry.in_topic += 1,
            Place::DeadLetters => entry.in_dead_letters += 1,
        }
        self.found += 1;
        true
    }

    /// Messages published so far.
    pub(crate) fn published(&self) -> u64 {
        self.messages.len() as u64
    }

    /// What the routes together will have received, without repeats.
    pub(crate) fn expected(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Records found in Kafka so far.
    pub(crate) fn found(&self) -> u64 {
        self.found
    }

    /// Whether everything that should be in Kafka has been found there.
    pub(crate) fn complete(&self) -> bool {
        self.entries.iter().all(Entry::is_settled)
    }

    fn entries_of(&self, message: usize) -> std::ops::Range<usize> {
        let begin = |message: usize| {
            self.messages
                .get(message)
                .map_or(self.entries.len(), |found| found.entries)
        };
        begin(message)..begin(message + 1)
    }

    /// Compares the books with the ledger of route number `route`.
    pub(crate) fn verdict(&self, route: usize, ledger: &Ledger) -> Verdict {
        let mut verdict = Verdict {
            ledger: *ledger,
            ..Verdict::default()
        };
        for (id, message) in self.messages.iter().enumerate() {
            let entries = &self.entries[self.entries_of(id)];
            let Some(entry) = entries.iter().find(|entry| entry.route == route) else {
                continue;
            };
            verdict.published += 1;
            verdict.unacknowledged += u64::from(!message.acknowledged);
            verdict.extra += u64::from((entry.in_topic + entry.in_dead_letters).saturating_sub(1));
            match (entry.fate, entry.in_topic > 0, entry.in_dead_letters > 0) {
                (Fate::Written, true, false) => verdict.written += 1,
                (Fate::DeadLettered, false, true) => verdict.dead_lettered += 1,
                (Fate::Filtered, false, false) => verdict.filtered += 1,
                (_, false, false) => verdict.missing.push(id as Id),
                _ => verdict.misplaced.push(id as Id),
            }
        }
        verdict
    }
}

impl Entry {
    /// Whether it is where it belongs, as far as Kafka shows.
    fn is_settled(&self) -> bool {
        match self.fate {
            Fate::Written => self.in_topic > 0,
            Fate::Filtered => true,
            Fate::DeadLettered => self.in_dead_letters > 0,
        }
    }
}

/// What the books say of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Published for this route.
    pub(crate) published: u64,
    /// Found in a topic of the route, where they belong.
    pub(crate) written: u64,
    /// Found nowhere, as they should.
    pub(crate) filtered: u64,
    /// Found among the dead letters, where they belong.
    pub(crate) dead_lettered: u64,
    /// Found more often than once: copies beyond the first.
    pub(crate) extra: u64,
    /// Should be in Kafka and are not.
    pub(crate) missing: Vec<Id>,
    /// In Kafka, but not where they belong.
    pub(crate) misplaced: Vec<Id>,
    /// Never acknowledged to the plant that published them.
    pub(crate) unacknowledged: u64,
    /// What the route itself says.
    pub(crate) ledger: Ledger,
}

impl Verdict {
    /// What is wrong, in words. Empty: every message is where it belongs, and the route's own count agrees.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut name = |what: &str, ids: &[Id]| {
            if let Some(first) = ids.first() {
                faults.push(format!("{} {what} (first: number {first})", ids.len()));
            }
        };
        name("published but not found in Kafka", &self.missing);
        name("found where they do not belong", &self.misplaced);
        if self.unacknowledged > 0 {
            faults.push(format!("{} never acknowledged to the plant", self.unacknowledged));
        }
        if self.ledger.balance() != 0 {
            faults.push(format!(
                "the ledger does not balance by {}",
                self.ledger.balance()
            ));
        }
        let Ledger {
            written,
            filtered,
            dead_lettered,
            ..
        } = self.ledger;
        // Copies are records that Kafka confirmed more than once: the ledger counts each.
        if self.missing.is_empty()
            && (written + dead_lettered, filtered)
                != (self.written + self.dead_lettered + self.extra, self.filtered)
        {
            faults.push(format!(
                "the ledger says {written} written, {filtered} filtered, {dead_lettered} dead-lettered; found were \
                 {}, {} and {}",
                self.written, self.filtered, self.dead_lettered
            ));
        }
        faults
    }
}

#[cfg(test)]
mod tests;

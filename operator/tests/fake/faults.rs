//! What goes wrong between the operator and the API server.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::call::Call;
use super::store::{Change, Key, Store};

/// So long after a watch has lost its first event it ends with 410 Gone.
const DEAF: Duration = Duration::from_millis(400);

/// What becomes of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done, and the operator is killed before it hears so.
    Killed,
    /// It is not done: the answer is 500.
    Refused,
    /// It is done, and the answer is 500.
    Garbled,
    /// It is not done, and the answer says that it is. No API server does so: it stands for an operator that forgets.
    Swallowed,
}

/// What is to go wrong.
#[derive(Default)]
pub(crate) struct Faults {
    /// What becomes of the write after so many others.
    planned: Option<(u64, Fault)>,
    struck: bool,
    /// Every write to this kind is swallowed.
    pub(crate) swallowed: Option<&'static str>,
    /// So many events of a kind are lost.
    lost: HashMap<String, u64>,
    /// When watches of a kind end because of that.
    expiring: HashMap<String, Instant>,
    /// Until then, lists and watches know nothing that is newer than this version.
    stale: Option<(u64, Instant)>,
    /// Watches tell what has changed so long ago, and only the last state of each object.
    pub(crate) lag: Duration,
}

/// What a watch has to tell.
pub(super) enum Look {
    Changes(Vec<Change>),
    /// It has to begin anew.
    Expired,
    /// Nothing, at least until then.
    Nothing(Option<Instant>),
}

impl Faults {
    /// Plans a fault for the write that follows `after` others.
    pub(crate) fn plan(&mut self, after: u64, fault: Fault) {
        (self.planned, self.struck) = (Some((after, fault)), false);
    }

    /// Whether what was planned has come about.
    pub(crate) fn has_struck(&self) -> bool {
        self.struck
    }

    /// Gives a plan up. Whether it has come about before.
    pub(crate) fn cancel(&mut self) -> bool {
        self.planned = None;
        self.struck
    }

    /// Loses the next events of a kind.
    pub(crate) fn lose(&mut self, plural: &str, events: u64) {
        self.lost.insert(plural.into(), events);
    }

    /// Goes back in time, for a while.
    pub(crate) fn travel(&mut self, version: u64, time: Duration) {
        self.stale = Some((version, Instant::now() + time));
    }

    /// The newest version that can be read.
    pub(super) fn horizon(&self) -> u64 {
        self.stale().map_or(u64::MAX, |(version, _)| version)
    }

    fn stale(&self) -> Option<(u64, Instant)> {
        self.stale.filter(|(_, until)| Instant::now() < *until)
    }

    /// What becomes of a write.
    pub(super) fn next(&mut self, call: &Call) -> Option<Fault> {
        if self.swallowed == Some(&call.key.plural) {
            return Some(Fault::Swallowed);
        }
        let (after, fault) = self.planned?;
        if after > 0 {
            self.planned = Some((after - 1, fault));
            return None;
        }
        (self.planned, self.struck) = (None, true);
        Some(fault)
    }

    /// What a watch that has told all up to `cursor` has to tell now.
    pub(super) fn look(&mut self, store: &Store, call: &Call, cursor: &mut u64) -> Look {
        let plural = &call.key.plural;
        if *cursor < store.oldest() {
            return Look::Expired;
        }
        let expiring = self.expiring.get(plural).copied();
        if expiring.is_some_and(|at| at <= Instant::now()) {
            self.expiring.remove(plural);
            self.lost.remove(plural);
            return Look::Expired;
        }
        let horizon = self.horizon();
        let begin = store.log.partition_point(|change| change.version <= *cursor);
        let mut told = Vec::new();
        for change in &store.log[begin..] {
            if change.version > horizon {
                break;
            }
            *cursor = change.version;
            if !call.is_about(&change.key, &change.object) {
                continue;
            }
            match self.lost.get_mut(plural) {
                Some(events) if *events > 0 => {
                    *events -= 1;
                    let at = Instant::now() + DEAF;
                    self.expiring.entry(plural.clone()).or_insert(at);
                }
                _ => told.push(change.clone()),
            }
        }
        if !self.lag.is_zero() {
            let newest: BTreeMap<Key, Change> = told
                .drain(..)
                .map(|change| (change.key.clone(), change))
                .collect();
            told.extend(newest.into_values());
            told.sort_by_key(|change| change.version);
        }
        if !told.is_empty() {
            return Look::Changes(told);
        }
        let stale = self.stale().map(|(_, until)| until);
        Look::Nothing(self.expiring.get(plural).copied().into_iter().chain(stale).min())
    }
}

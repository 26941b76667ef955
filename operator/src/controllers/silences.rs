use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::observed::Owner;
use crate::plan::lanes::Silences;

/// Since when workers have not answered, lanes are as they are, lanes leave a broker, and a route is deleted, of all routes.
#[derive(Debug, Default)]
pub struct AllSilences {
    of: Mutex<HashMap<Owner, OfRoute>>,
}

#[derive(Debug, Default)]
struct OfRoute {
    silences: Silences,
    /// The newest generation of the record, and when it was first seen.
    record: Option<(u64, Instant)>,
    /// Since when its lanes leave the broker of before.
    leaving: Option<Instant>,
    /// Since when it is known to be deleted.
    deleted: Option<Instant>,
}

impl AllSilences {
    /// Those of a route.
    pub(super) fn with<T>(&self, route: &Owner, act: impl FnOnce(&mut Silences) -> T) -> T {
        act(&mut self.lock().entry(route.clone()).or_default().silences)
    }

    /// The record has this generation.
    pub(super) fn seen(&self, route: &Owner, generation: u64) {
        let mut of = self.lock();
        let record = &mut of.entry(route.clone()).or_default().record;
        if record.is_none_or(|(known, _)| known < generation) {
            *record = Some((generation, Instant::now()));
        }
    }

    /// Its lanes leave the broker of before from now on, or have been doing so.
    pub(super) fn leave(&self, route: &Owner) {
        let mut of = self.lock();
        of.entry(route.clone())
            .or_default()
            .leaving
            .get_or_insert_with(Instant::now);
    }

    /// Its lanes stay where they are.
    pub(super) fn stay(&self, route: &Owner) {
        if let Some(of) = self.lock().get_mut(route) {
            of.leaving = None;
        }
    }

    /// For how long its lanes have been leaving.
    pub(super) fn leaving(&self, route: &Owner) -> Option<Duration> {
        Some(self.lock().get(route)?.leaving?.elapsed())
    }

    /// The route is being deleted: for how long that has been known.
    pub(super) fn deleted(&self, route: &Owner) -> Duration {
        let mut of = self.lock();
        let deleted = &mut of.entry(route.clone()).or_default().deleted;
        deleted.get_or_insert_with(Instant::now).elapsed()
    }

    /// For how long lanes may still be on their way to their owners.
    pub(super) fn settling(&self, route: &Owner, failover: Duration) -> Option<Duration> {
        let (_, since) = self.lock().get(route)?.record?;
        failover
            .checked_sub(since.elapsed())
            .filter(|left| !left.is_zero())
    }

    pub(super) fn forget(&self, route: &Owner) {
        self.lock().remove(route);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, OfRoute>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::LaneRecord;

use crate::observed::Owner;
use crate::plan::lanes::{Crew, Goal, PodView, Silences};

/// Since when workers have not answered, and lanes are as they are, of all routes.
#[derive(Debug, Default)]
pub struct AllSilences {
    of: Mutex<HashMap<Owner, OfRoute>>,
}

#[derive(Debug, Default)]
struct OfRoute {
    silences: Silences,
    /// The newest generation of the record, and when it was first seen.
    record: Option<(u64, Instant)>,
}

impl AllSilences {
    /// The workers of a route as they are now.
    pub(super) fn crew(
        &self,
        route: &Owner,
        pods: &BTreeMap<u16, PodView>,
        record: Option<&LaneRecord>,
        goal: Goal,
        now: Instant,
        failover: Duration,
    ) -> Crew {
        let mut of = self.lock();
        let silences = &mut of.entry(route.clone()).or_default().silences;
        silences.crew(pods, record, goal, now, failover)
    }

    /// The record has this generation.
    pub(super) fn seen(&self, route: &Owner, generation: u64) {
        let mut of = self.lock();
        let record = &mut of.entry(route.clone()).or_default().record;
        if record.is_none_or(|(known, _)| known < generation) {
            *record = Some((generation, Instant::now()));
        }
    }

    /// For how long lanes may still be on their way to their owners.
    pub(super) fn settling(&self, route: &Owner, failover: Duration) -> Option<Duration> {
        let (_, since) = self.lock().get(route)?.record?;
        failover
            .checked_sub(since.elapsed())
            .filter(|left| !left.is_zero())
    }

    /// When the next of a route's workers is lost.
    pub(super) fn next(&self, route: &Owner, now: Instant, failover: Duration) -> Option<Duration> {
        self.lock().get(route)?.silences.next(now, failover)
    }

    pub(super) fn forget(&self, route: &Owner) {
        self.lock().remove(route);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, OfRoute>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::observed::Owner;

/// When each object's status was written last.
#[derive(Debug, Default)]
pub struct Pace {
    written: Mutex<HashMap<Owner, Instant>>,
}

impl Pace {
    /// How long it is until an object may be written again that may be written once in `interval`.
    pub(super) fn wait(&self, owner: &Owner, interval: Duration) -> Duration {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that has just started counts as one that has just written: many start at once.
        let since = written.entry(owner.clone()).or_insert_with(Instant::now);
        interval.saturating_sub(since.elapsed())
    }

    /// An object has been written.
    pub(super) fn written(&self, owner: &Owner) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(owner.clone(), Instant::now());
    }

    /// An object is gone.
    pub(super) fn forget(&self, owner: &Owner) {
        self.written
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner);
    }
}

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::observed::Owner;

/// The wait after a first failure; it doubles.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(120);

/// How long to wait after failures, for each object on its own: one that fails hurts no other.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: Mutex<HashMap<(&'static str, Owner), u32>>,
}

impl Backoff {
    /// A pass failed: how long to wait before the next.
    pub(super) fn failed(&self, controller: &'static str, owner: Owner) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry((controller, owner)).or_default();
        let wait = FIRST * 2_u32.saturating_pow(*count);
        *count = (*count + 1).min(16);
        wait.min(LONGEST)
    }

    /// An object is gone.
    pub(super) fn gone(&self, gone: &Owner) {
        let is_other = |owner: &Owner| (&owner.namespace, &owner.name) != (&gone.namespace, &gone.name);
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|(_, owner), _| is_other(owner));
    }

    /// A pass succeeded.
    pub(super) fn forget(&self, controller: &'static str, owner: Owner) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(controller, owner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner {
            kind: "topicroute",
            namespace: "n".into(),
            name: name.into(),
        }
    }

    #[test]
    fn waits_grow_for_each_object_on_its_own() {
        let backoff = Backoff::default();
        let waits: Vec<u64> = (0..9)
            .map(|_| backoff.failed("routes", owner("a")).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 120, 120]);
        assert_eq!(backoff.failed("routes", owner("b")).as_secs(), 1);
        backoff.forget("routes", owner("a"));
        assert_eq!(backoff.failed("routes", owner("a")).as_secs(), 1);
        backoff.gone(&owner("a"));
        assert_eq!(backoff.failed("routes", owner("a")).as_secs(), 1);
    }
}

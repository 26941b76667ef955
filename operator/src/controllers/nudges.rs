use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::observed::WorkerSeen;

/// When each pod was last nudged. Forgotten with the process, which costs a nudge more.
#[derive(Debug, Default)]
pub struct Nudges {
    last: Mutex<HashMap<String, Instant>>,
}

impl Nudges {
    /// The nudge that a pod is to have, if another than it has: a new configuration, or the same once more, because
    /// the kubelet has looked before its cache had it.
    pub(super) fn next(
        &self,
        pod_uid: &str,
        live: &str,
        nudged: Option<&str>,
        worker: &WorkerSeen,
        again: Duration,
    ) -> Option<String> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if worker.status.as_ref().is_some_and(|status| status.live == live) {
            last.remove(pod_uid);
            return None;
        }
        // A pod that has not answered yet reads the newest when it starts.
        worker.status.as_ref()?;
        let (hash, count) = nudged.and_then(|text| text.rsplit_once('.')).unwrap_or(("", "0"));
        let next = if hash == live {
            // By a process that is gone, perhaps: it counts as just nudged.
            let since = last.entry(pod_uid.to_owned()).or_insert_with(Instant::now);
            if since.elapsed() < again {
                return None;
            }
            count.parse::<u64>().unwrap_or_default() + 1
        } else {
            0
        };
        last.insert(pod_uid.to_owned(), Instant::now());
        Some(format!("{live}.{next}"))
    }
}

#[cfg(test)]
mod tests {
    use millrace_contract::status::RouteStatus;

    use super::*;

    #[test]
    fn a_pod_that_was_nudged_in_vain_is_nudged_again_also_by_the_next_process() {
        let worker = WorkerSeen {
            status: Some(RouteStatus {
                live: "old".into(),
                ..RouteStatus::default()
            }),
            ..WorkerSeen::default()
        };
        let next =
            |nudges: &Nudges, nudged: Option<&str>, again| nudges.next("pod", "new", nudged, &worker, again);
        let (soon, late) = (Duration::ZERO, Duration::from_secs(60));
        let nudges = Nudges::default();
        assert_eq!(next(&nudges, None, late).as_deref(), Some("new.0"));
        assert_eq!(next(&nudges, Some("new.0"), late), None);
        assert_eq!(next(&nudges, Some("new.0"), soon).as_deref(), Some("new.1"));
        let nudges = Nudges::default();
        assert_eq!(next(&nudges, Some("new.1"), late), None);
        assert_eq!(next(&nudges, Some("new.1"), soon).as_deref(), Some("new.2"));
    }
}

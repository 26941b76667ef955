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
            let since = last.get(pod_uid)?;
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

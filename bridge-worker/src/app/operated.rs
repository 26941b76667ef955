//! A worker in a pod: told by files which lanes are its own and what it acts by.

use std::path::PathBuf;
use std::time::Duration;

use millrace_contract::{Assignment, LaneRecord, Live};
use tokio::time::{MissedTickBehavior, interval};

use super::watched::Watched;
use crate::worker::Worker;

/// How often files are looked at. Kubernetes swaps a link when it updates a volume, so content is what counts.
const LOOK: Duration = Duration::from_millis(500);

/// Whose process this is.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    /// The pod's number in its StatefulSet.
    ordinal: u16,
    pub(super) uid: String,
}

impl Pod {
    /// From POD_NAME and POD_UID. The error says what is missing.
    pub(super) fn from_env() -> Result<Self, String> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| {
                format!("environment variable {name} is not set: the pod has to pass it (fieldRef)")
            })
        };
        let name = variable("POD_NAME")?;
        let ordinal = name
            .rsplit_once('-')
            .and_then(|(_, ordinal)| ordinal.parse().ok());
        Ok(Self {
            ordinal: ordinal.ok_or_else(|| {
                format!(
                    "POD_NAME: {name:?} does not end with the ordinal of a StatefulSet's pod, as in route-0"
                )
            })?,
            uid: variable("POD_UID")?,
        })
    }
}

/// The files that a worker is told by, and what it has heard.
#[derive(Debug)]
pub(super) struct Operated {
    pod: Pod,
    live: Watched,
    record: Watched,
    assignment: Watched,
    /// The highest generation heard so far; none before the first.
    generation: Option<u64>,
}

impl Operated {
    /// `hash` is that of the live configuration which has been read already.
    pub(super) fn new(pod: &Pod, live: PathBuf, hash: &str, record: PathBuf, assignment: PathBuf) -> Self {
        Self {
            pod: pod.clone(),
            live: Watched::known(live, hash),
            record: Watched::new(record),
            assignment: Watched::new(assignment),
            generation: None,
        }
    }

    /// Tells the worker what the files say, for as long as it is polled.
    pub(super) async fn follow(&mut self, worker: &Worker) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.look(worker);
        }
    }

    fn look(&mut self, worker: &Worker) {
        if let Some((text, hash)) = self.live.changed() {
            match serde_json::from_str::<Live>(&text) {
                // A refusal is in the log and in the status.
                Ok(live) => drop(worker.reload(&live, hash)),
                Err(error) => worker.refuse_reload(&format!("{}: {error}", self.live.path().display())),
            }
        }
        let mut heard = Vec::new();
        if let Some(record) = self.record.changed_to::<LaneRecord>() {
            heard.push(record.part_of(self.pod.ordinal, Some(&self.pod.uid)));
        }
        if let Some(assignment) = self.assignment.changed_to::<Assignment>() {
            heard.push(assignment);
        }
        for assignment in heard {
            if self.is_news(&assignment) {
                self.generation = Some(assignment.generation);
                tracing::info!(
                    generation = assignment.generation,
                    lanes = ?assignment.lanes,
                    leaving = ?assignment.leaving,
                    "lanes are assigned"
                );
                if let Err(error) = worker.assign(&assignment) {
                    // Tried again with the next generation; until then the operator sees the lane missing.
                    tracing::error!(%error, "a lane cannot be started");
                }
            }
        }
    }

    /// Whether an assignment is about this pod, and newer than what has been heard.
    fn is_news(&self, assignment: &Assignment) -> bool {
        let is_mine = assignment.pod_uid.as_ref().is_none_or(|uid| *uid == self.pod.uid);
        is_mine && self.generation.is_none_or(|known| assignment.generation > known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operated(generation: Option<u64>) -> Operated {
        let pod = Pod {
            ordinal: 1,
            uid: "mine".into(),
        };
        let nowhere = PathBuf::from("/nowhere");
        Operated {
            generation,
            ..Operated::new(&pod, nowhere.clone(), "", nowhere.clone(), nowhere)
        }
    }

    #[test]
    fn only_what_is_newer_and_about_this_pod_counts() {
        let assignment = |generation, pod_uid: Option<&str>| Assignment {
            generation,
            pod_uid: pod_uid.map(str::to_owned),
            ..Assignment::default()
        };
        assert!(operated(None).is_news(&assignment(0, Some("mine"))));
        assert!(operated(Some(3)).is_news(&assignment(4, Some("mine"))));
        assert!(operated(Some(3)).is_news(&assignment(4, None)));
        assert!(!operated(Some(3)).is_news(&assignment(3, Some("mine"))));
        assert!(!operated(None).is_news(&assignment(9, Some("another"))));
    }
}

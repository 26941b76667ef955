//! A worker in a pod: told by files which lanes are its own and what it acts by.

use std::path::PathBuf;
use std::time::Duration;

use millrace_contract::{Assignment, Heard, LaneRecord, Live, LiveToMqtt};
use tokio::time::{MissedTickBehavior, interval};

use super::watched::Watched;
use crate::delivery::Delivery;
use crate::route::Route;
use crate::worker::Worker;

/// How often files are looked at. Kubernetes swaps a link when it updates a volume, so content is what counts.
const LOOK: Duration = Duration::from_millis(200);

/// Whose process this is.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    /// The pod's number in its StatefulSet.
    pub(super) ordinal: u16,
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
    live: Watched,
    record: Watched,
    assignment: Watched,
    heard: Heard,
}

impl Operated {
    /// `hash` is that of the live configuration which has been read already.
    pub(super) fn new(pod: &Pod, live: PathBuf, hash: &str, record: PathBuf, assignment: PathBuf) -> Self {
        Self {
            live: Watched::known(live, hash),
            record: Watched::new(record),
            assignment: Watched::new(assignment),
            heard: Heard::nothing(pod.ordinal, &pod.uid),
        }
    }

    /// Tells the route what the files say, for as long as it is polled.
    pub(super) async fn follow(&mut self, route: &Route) {
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match route {
                Route::ToKafka(worker) => self.look(worker),
                Route::ToMqtt(delivery) => self.look_for_delivery(delivery),
            }
        }
    }

    /// Lanes are nothing to it: its group says what it reads.
    fn look_for_delivery(&mut self, delivery: &Delivery) {
        if let Some((text, hash)) = self.live.changed() {
            match serde_json::from_str::<LiveToMqtt>(&text) {
                // A refusal is in the log and in the status.
                Ok(live) => drop(delivery.reload(&live, hash)),
                Err(error) => delivery.refuse_reload(&format!("{}: {error}", self.live.path().display())),
            }
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
        let record = self.record.changed_to::<LaneRecord>();
        let record = record.and_then(|record| self.heard.record(&record));
        let part = self.assignment.changed_to::<Assignment>();
        let part = part.and_then(|part| self.heard.part(part));
        // The newest: nothing is news that is older than what has been heard.
        let Some(assignment) = part.or(record) else { return };
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

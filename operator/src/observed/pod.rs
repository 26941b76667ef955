use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use millrace_contract::Assignment;

use super::annotation;
use crate::names;

/// The label by which the StatefulSet controller says which template a pod was made from.
const REVISION: &str = "controller-revision-hash";

/// What has been seen of a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSeen {
    /// One of [`names::component`].
    pub component: String,
    /// Its name.
    pub name: String,
    /// Where it is reached.
    pub ip: Option<String>,
    /// It passes its readiness probe.
    pub ready: bool,
    /// It has been told to go.
    pub deleting: bool,
    /// It has come to an end and will not run again.
    pub finished: bool,
    /// Which template of its StatefulSet it was made from.
    pub revision: String,
    /// The settings it was made for.
    pub settings: String,
    /// Where the sessions are that it reads, as a worker.
    pub whereabouts: Option<String>,
    /// Its part of the lane record, as it was last told.
    pub assignment: Option<Assignment>,
    /// The live configuration it was last told of.
    pub nudge: Option<String>,
    /// Probes that failed before this one.
    pub attempt: u32,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Why its container does not run: one word, and what the kubelet says.
    pub waiting: Option<(String, String)>,
    /// Why no node takes it.
    pub unschedulable: Option<String>,
    /// How its container ended.
    pub terminated: Option<Terminated>,
    /// How often its container was started again.
    pub restarts: i32,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terminated {
    /// 0 if all was well.
    pub exit_code: i32,
    /// What it said last.
    pub message: String,
    /// Why, in one word of the kubelet's.
    pub reason: String,
    /// When.
    pub at: Option<Timestamp>,
}

impl PodSeen {
    /// Whether it tries something for the first time, and will soon come to an end as far as one can see.
    pub(super) fn is_running_probe(&self) -> bool {
        self.component == names::component::PROBE
            && self.attempt == 0
            && !self.finished
            && !self.deleting
            && self.waiting.is_none()
            && self.unschedulable.is_none()
    }

    pub(super) fn of(pod: &Pod) -> Self {
        let (meta, empty) = (&pod.metadata, PodStatus::default());
        let status = pod.status.as_ref().unwrap_or(&empty);
        let label = |name: &str| {
            meta.labels
                .as_ref()
                .and_then(|labels| labels.get(name))
                .cloned()
                .unwrap_or_default()
        };
        let container = status.container_statuses.as_ref().and_then(|all| all.first());
        let condition = |kind: &str| {
            status
                .conditions
                .as_ref()
                .and_then(|all| all.iter().find(|one| one.type_ == kind))
        };
        Self {
            component: label(names::COMPONENT),
            name: meta.name.clone().unwrap_or_default(),
            ip: status.pod_ip.clone(),
            ready: condition("Ready").is_some_and(|ready| ready.status == "True"),
            deleting: meta.deletion_timestamp.is_some(),
            finished: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            revision: label(REVISION),
            settings: annotation(meta, names::SETTINGS).unwrap_or_default(),
            whereabouts: annotation(meta, names::WHEREABOUTS),
            assignment: annotation(meta, names::ASSIGNMENT).and_then(|json| serde_json::from_str(&json).ok()),
            nudge: annotation(meta, names::NUDGE),
            attempt: annotation(meta, names::ATTEMPT)
                .and_then(|text| text.parse().ok())
                .unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            waiting: container.and_then(waiting),
            unschedulable: condition("PodScheduled")
                .filter(|scheduled| scheduled.status == "False")
                .map(|scheduled| scheduled.message.clone().unwrap_or_default())
                // The scheduler ends its sentences; what is made of them goes on.
                .map(|message| message.trim_end_matches('.').to_owned()),
            terminated: container.and_then(terminated),
            restarts: container.map_or(0, |container| container.restart_count),
        }
    }

    /// Whether it is a worker.
    pub fn is_worker(&self) -> bool {
        self.component == names::component::WORKER
    }

    /// What a person does about a container that does not run.
    pub fn way_out(&self) -> String {
        match self.waiting.as_ref().map(|(word, _)| word.as_str()) {
            Some("CrashLoopBackOff") => format!("see `kubectl logs --previous {}`", self.name),
            Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
                "check worker.image and worker.imagePullSecrets in the values of the operator's chart"
                    .to_owned()
            }
            _ => format!("see `kubectl describe pod {}`", self.name),
        }
    }

    /// The number at the end of its name.
    pub fn ordinal(&self) -> Option<u16> {
        self.name.rsplit_once('-')?.1.parse().ok()
    }
}

fn waiting(container: &ContainerStatus) -> Option<(String, String)> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.clone()?;
    // On its way: nothing to say about it.
    if matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
        return None;
    }
    Some((reason, waiting.message.clone().unwrap_or_default()))
}

fn terminated(container: &ContainerStatus) -> Option<Terminated> {
    let now = container
        .state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let terminated = now.or(last)?;
    Some(Terminated {
        exit_code: terminated.exit_code,
        message: terminated.message.clone().unwrap_or_default(),
        reason: terminated.reason.clone().unwrap_or_default(),
        at: terminated.finished_at.as_ref().map(|time| time.0),
    })
}

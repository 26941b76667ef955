//! What was seen of routes at one moment: all that is shown is made from these values.

use millrace_contract::status::RouteStatus;
use millrace_contract::{LaneOwner, LaneRecord, Ownership};

/// A route.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RouteSeen {
    /// Where it is.
    pub(crate) namespace: String,
    /// What it is called.
    pub(crate) name: String,
    /// What the operator says of it. None where there is no operator.
    pub(crate) said: Option<Said>,
    /// Its workers. Empty until they have been asked.
    pub(crate) workers: Vec<WorkerSeen>,
    /// Who owns its lanes.
    pub(crate) record: Option<LaneRecord>,
}

/// What the status of a TopicRoute says. The operator writes rates once a minute at most.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// Whether the condition Ready holds, if that is known.
    pub(crate) ready: Option<bool>,
    /// Its reason.
    pub(crate) reason: String,
    /// Its message.
    pub(crate) message: String,
    /// Messages received per second.
    pub(crate) rate: i64,
}

/// A worker, or a pod that is to become one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct WorkerSeen {
    /// The pod's name, or the address that was asked.
    pub(crate) name: String,
    /// The number of the pod. None outside of Kubernetes.
    pub(crate) ordinal: Option<u16>,
    /// What it says, or why it says nothing.
    pub(crate) answer: Result<RouteStatus, String>,
}

impl RouteSeen {
    /// The lanes that are on their way from one worker to another, or to their end.
    pub(crate) fn moves(&self) -> impl Iterator<Item = &LaneOwner> {
        let lanes = self.record.iter().flat_map(|record| &record.lanes);
        lanes.filter(|lane| lane.state != Ownership::Owned)
    }

    /// The workers that have answered.
    pub(crate) fn answers(&self) -> impl Iterator<Item = &RouteStatus> {
        self.workers
            .iter()
            .filter_map(|worker| worker.answer.as_ref().ok())
    }

    /// Workers of which nothing is known, and why. One that owns lanes by the record and has no pod is among them.
    pub(crate) fn silent(&self) -> Vec<(String, String)> {
        let asked = self.workers.iter().filter_map(|worker| {
            let why = worker.answer.as_ref().err()?;
            Some((worker.name.clone(), why.clone()))
        });
        let mut silent: Vec<(String, String)> = asked.collect();
        for ordinal in self.without_pod() {
            silent.push((
                millrace_operator::names::workers(&self.name) + &format!("-{ordinal}"),
                "it owns lanes, and there is no such pod".to_owned(),
            ));
        }
        silent
    }

    /// Owners of lanes that have no pod.
    pub(crate) fn without_pod(&self) -> Vec<u16> {
        let lanes = self.record.iter().flat_map(|record| &record.lanes);
        let mut owners: Vec<u16> = lanes.map(|lane| lane.ordinal).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| self.workers.iter().all(|worker| worker.ordinal != Some(*owner)));
        owners
    }
}

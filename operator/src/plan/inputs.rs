use std::sync::Arc;

use jiff::Timestamp;
use millrace_contract::{LaneRecord, Live};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};

use super::Uptake;
use crate::observed::{self, Child, JobSeen, PodSeen, Seen, SetSeen};

/// What a decision about a route is made from.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The route.
    pub route: Arc<TopicRoute>,
    /// The broker it refers to, if it is there.
    pub broker: Option<Arc<MqttBroker>>,
    /// The sink it refers to, if it is there.
    pub sink: Option<Arc<KafkaSink>>,
    /// Other routes, with their brokers, that could use the same MQTT sessions.
    pub others: Vec<(Arc<TopicRoute>, Arc<MqttBroker>)>,
    /// The route's children.
    pub family: observed::Family,
    /// How far the lanes are with the configuration that was written last.
    pub uptake: Uptake,
    /// Other routes that are replacing their workers.
    pub rolling: usize,
    /// The time.
    pub now: Timestamp,
}

impl Inputs {
    /// The route's StatefulSet.
    pub fn set(&self) -> Option<&SetSeen> {
        self.family.values().find_map(|child| match &child.seen {
            Seen::Set(set) if !child.deleting => Some(set.as_ref()),
            _ => None,
        })
    }

    /// The route's leave Job.
    pub fn leave_job(&self) -> Option<(&Child, &JobSeen)> {
        self.family.values().find_map(|child| match &child.seen {
            Seen::Job(job) => Some((child, job)),
            _ => None,
        })
    }

    /// What workers take over while they run, as it was written last, and its hash.
    pub fn live(&self) -> Option<(&str, &Live)> {
        live(&self.family)
    }

    /// Who owns which lane.
    pub fn record(&self) -> Option<&LaneRecord> {
        record_of(&self.family)
    }

    /// The route's workers.
    pub fn workers(&self) -> impl Iterator<Item = (&Child, &PodSeen)> {
        workers(&self.family)
    }
}

/// What the workers of a route take over while they run, as it was written last, and its hash.
pub fn live(family: &observed::Family) -> Option<(&str, &Live)> {
    family.values().find_map(|child| match &child.seen {
        Seen::Live(hash, live) => Some((hash.as_str(), live.as_ref())),
        _ => None,
    })
}

/// Who owns which lane of a route.
pub fn record_of(family: &observed::Family) -> Option<&LaneRecord> {
    family.values().find_map(|child| match &child.seen {
        Seen::Lanes(record) => Some(record),
        _ => None,
    })
}

/// The workers among the children of a route.
pub fn workers(family: &observed::Family) -> impl Iterator<Item = (&Child, &PodSeen)> {
    family.values().filter_map(|child| match &child.seen {
        Seen::Pod(pod) if pod.is_worker() => Some((child, pod.as_ref())),
        _ => None,
    })
}

/// Pods that hold up a StatefulSet: of an older template and not ready, so the StatefulSet controller waits for them
/// for ever before it replaces the next. By name and uid.
pub fn blocking(family: &observed::Family) -> Vec<(String, String)> {
    let set = family.values().find_map(|child| match &child.seen {
        Seen::Set(set) if set.is_observed && !child.deleting => Some(set),
        _ => None,
    });
    let Some(set) = set else { return Vec::new() };
    workers(family)
        .filter(|(_, pod)| !pod.ready && !pod.deleting && pod.revision != set.update_revision)
        .filter(|(_, pod)| pod.waiting.is_some() || pod.unschedulable.is_some())
        .map(|(child, pod)| (pod.name.clone(), child.uid.clone()))
        .collect()
}

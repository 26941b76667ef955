use std::sync::Arc;

use jiff::Timestamp;
use millrace_contract::{LaneRecord, Live};
use millrace_crds::api::Labels;
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};

use super::{Uptake, Whereabouts};
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
    /// The labels of the route's namespace, if it refers to another and they are known.
    pub labels: Option<Labels>,
    /// Other routes, with their brokers, that could use the same MQTT sessions.
    pub others: Vec<(Arc<TopicRoute>, Arc<MqttBroker>)>,
    /// The route's children.
    pub family: observed::Family,
    /// How far the lanes are with the configuration that was written last.
    pub uptake: Uptake,
    /// Ending the sessions at the broker of before has taken too long.
    pub is_impatient: bool,
    /// Other routes that are replacing their workers.
    pub rolling: usize,
    /// Partitions of the topics that the route reads, as its workers say; none while none has said it.
    pub partitions: Option<u16>,
    /// Older routes through which what the route writes would come back to it, as `namespace/name`.
    pub fed_back_by: Vec<String>,
    /// A route that goes before this one and has the same consumer group, as `namespace/name`.
    pub in_group_of: Option<String>,
    /// The time.
    pub now: Timestamp,
}

impl Inputs {
    /// The route's StatefulSet.
    pub fn set(&self) -> Option<&SetSeen> {
        set_of(&self.family)
    }

    /// Where the sessions are that are to be ended before workers read others: none if they stay.
    pub fn leaves(&self) -> Option<Whereabouts> {
        leaves(&self.family, &self.route, self.broker.as_deref())
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

/// The StatefulSet of a route.
pub fn set_of(family: &observed::Family) -> Option<&SetSeen> {
    family.values().find_map(|child| match &child.seen {
        Seen::Set(set) if !child.deleting => Some(set.as_ref()),
        _ => None,
    })
}

/// Where the sessions of a route are that its workers read.
pub fn whereabouts_of(family: &observed::Family) -> Option<Whereabouts> {
    Whereabouts::parse(set_of(family)?.whereabouts.as_deref()?)
}

/// Where the sessions of a route are, if not at the broker that it refers to now.
pub fn leaves(
    family: &observed::Family,
    route: &TopicRoute,
    broker: Option<&MqttBroker>,
) -> Option<Whereabouts> {
    // What publishes has nothing at the broker that would have to be read to its end.
    if route.spec.from.kafka.is_some() {
        return None;
    }
    let before = whereabouts_of(family)?;
    let next = Whereabouts::of(route, broker?);
    (!before.is_same(&next)).then_some(before)
}

/// Whether a worker reads sessions elsewhere than its StatefulSet says: it is to be replaced, and owns nothing.
pub fn is_misplaced(pod: &PodSeen, set: Option<&SetSeen>) -> bool {
    let wanted = set.and_then(|set| set.whereabouts.as_deref());
    if pod.whereabouts.as_deref() == wanted {
        return false;
    }
    let (own, wanted) = (pod.whereabouts.as_deref(), wanted);
    let both = own
        .and_then(Whereabouts::parse)
        .zip(wanted.and_then(Whereabouts::parse));
    both.is_some_and(|(own, wanted)| !own.is_same(&wanted))
}

/// Workers that read sessions elsewhere than their StatefulSet says. They own nothing there any more, and need not be
/// replaced one by one.
pub fn misplaced(family: &observed::Family) -> Vec<(String, String)> {
    let set = set_of(family);
    workers(family)
        .filter(|(_, pod)| !pod.deleting && is_misplaced(pod, set))
        .map(|(child, pod)| (pod.name.clone(), child.uid.clone()))
        .collect()
}

/// What the workers of a route take over while they run, as it was written last, and its hash.
pub fn live(family: &observed::Family) -> Option<(&str, &Live)> {
    family.values().find_map(|child| match &child.seen {
        Seen::Live(hash, live) => Some((hash.as_str(), live.as_ref())),
        _ => None,
    })
}

/// The hash of what the workers of a route take over while they run, whichever way it goes.
pub fn live_hash(family: &observed::Family) -> Option<&str> {
    family.values().find_map(|child| match &child.seen {
        Seen::Live(hash, _) | Seen::LiveToMqtt(hash) => Some(hash.as_str()),
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

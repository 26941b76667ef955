//! What the operator has seen of its children: an index that watches feed and that decisions read. No I/O.
//!
//! It holds the few facts that decisions need, and not the objects: a pod is some hundred bytes here.

mod pod;
mod workers;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use millrace_contract::{LaneRecord, Live};
use tokio::sync::watch;

use crate::names;
pub use pod::{PodSeen, Terminated};
pub use workers::{COUNTS, News, WorkerSeen, Workers};

/// A rollout that takes longer keeps no others waiting.
const ROLLOUT_DEADLINE: SignedDuration = SignedDuration::from_mins(10);

/// A probe that takes longer keeps none waiting either.
const PROBE_DEADLINE: SignedDuration = SignedDuration::from_mins(2);

/// The kinds of children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChildKind {
    /// apps/v1
    StatefulSet,
    /// v1
    Pod,
    /// batch/v1
    Job,
    /// v1
    ConfigMap,
    /// v1
    Service,
    /// v1
    ServiceAccount,
    /// policy/v1
    PodDisruptionBudget,
    /// networking.k8s.io/v1
    NetworkPolicy,
    /// monitoring.coreos.com/v1
    PodMonitor,
}

/// A TopicRoute, MqttBroker or KafkaSink.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// One of [`names::kind`].
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Owner {
    /// An object, as the owner of its children.
    pub fn of<K: Resource<DynamicType = ()>>(kind: &'static str, object: &K) -> Self {
        let meta = object.meta();
        Self {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// What has been seen of a child.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// Tells it from another of the same name.
    pub uid: String,
    /// Changes with every write.
    pub resource_version: String,
    /// It is on its way out.
    pub deleting: bool,
    /// What is known of its content.
    pub seen: Seen,
}

/// What is known of a child's content.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// The workers.
    Set(Box<SetSeen>),
    /// A worker, a probe or a leave Job's pod.
    Pod(Box<PodSeen>),
    /// What ends the sessions of a deleted route.
    Job(JobSeen),
    /// Who owns the route's lanes.
    Lanes(LaneRecord),
    /// What workers take over while they run, and its hash.
    Live(String, Arc<Live>),
    /// The same of a route from Kafka: its hash.
    LiveToMqtt(String),
    /// That it is there.
    Plain,
}

impl Seen {
    /// Whether it shows that workers are being replaced, or are about to be.
    fn is_rolling(&self) -> bool {
        match self {
            Self::Set(set) => set.is_rolling(),
            Self::Pod(pod) => pod.is_running_probe(),
            _ => false,
        }
    }
}

/// What has been seen of a StatefulSet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetSeen {
    /// The settings that its template names.
    pub settings: String,
    /// Where the sessions are that its workers read.
    pub whereabouts: Option<String>,
    /// Workers wanted.
    pub replicas: i32,
    /// Workers there.
    pub current: i32,
    /// Workers of the newest template.
    pub updated: i32,
    /// Workers that are ready.
    pub ready: i32,
    /// The StatefulSet controller has seen the newest template.
    pub is_observed: bool,
    /// The revision of the newest template.
    pub update_revision: String,
    /// When that was first seen.
    pub revised: Timestamp,
    /// Who else has set the number of workers last, and when that was seen.
    pub scaled: Option<(String, Timestamp)>,
}

impl SetSeen {
    /// Takes over since when things are as they are.
    fn remember(&mut self, before: &Self) {
        if self.update_revision == before.update_revision {
            self.revised = before.revised;
        }
        let manager = |set: &Self| set.scaled.as_ref().map(|(manager, _)| manager.clone());
        // Of one that was set back the entry is gone.
        let is_known =
            manager(self).is_none() || manager(self) == manager(before) && self.replicas == before.replicas;
        if is_known {
            self.scaled.clone_from(&before.scaled);
        }
    }

    /// Whether workers are being replaced.
    pub fn is_rolling(&self) -> bool {
        !self.is_observed || self.updated < self.replicas || self.ready < self.replicas
    }
}

/// What has been seen of a Job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobSeen {
    /// It has done its work.
    pub succeeded: bool,
    /// It has given up.
    pub failed: bool,
}

/// The children of one owner.
pub type Family = BTreeMap<(ChildKind, String), Child>;

/// The index.
#[derive(Debug)]
pub struct Observed {
    families: Mutex<HashMap<Owner, Family>>,
    /// Those that replaced workers, or tried what those will be, when they were last looked at: there are few, and all that plan ask about them.
    rolling: Mutex<HashSet<Owner>>,
    /// Kinds of which all that exist have been seen.
    listed: watch::Sender<HashSet<ChildKind>>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            families: Mutex::default(),
            rolling: Mutex::default(),
            listed: watch::Sender::new(HashSet::new()),
        }
    }
}

impl Observed {
    /// A child is as it is now. Returns whose it is, if it is of one of ours.
    pub fn apply(&self, kind: ChildKind, meta: &ObjectMeta, seen: Seen) -> Option<Owner> {
        let owner = owner_of(meta)?;
        let mut child = Child {
            uid: meta.uid.clone().unwrap_or_default(),
            resource_version: meta.resource_version.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
            seen,
        };
        let key = (kind, meta.name.clone().unwrap_or_default());
        let mut families = self.lock();
        let family = families.entry(owner.clone()).or_default();
        let before = family.get(&key);
        if let (Seen::Set(set), Some(Seen::Set(old))) = (&mut child.seen, before.map(|child| &child.seen)) {
            set.remember(old);
        }
        // Events that say nothing new, like those of a watch that starts again, wake nobody.
        if before == Some(&child) {
            return None;
        }
        if owner.kind == names::kind::ROUTE && child.seen.is_rolling() {
            lock(&self.rolling).insert(owner.clone());
        }
        family.insert(key, child);
        Some(owner)
    }

    /// A child is gone.
    pub fn delete(&self, kind: ChildKind, meta: &ObjectMeta) -> Option<Owner> {
        let owner = owner_of(meta)?;
        let mut families = self.lock();
        let family = families.get_mut(&owner)?;
        family.remove(&(kind, meta.name.clone().unwrap_or_default()));
        if family.is_empty() {
            families.remove(&owner);
        }
        Some(owner)
    }

    /// Of a kind, only these are left: what a watch that starts again has listed.
    pub fn retain(&self, kind: ChildKind, uids: &HashSet<String>) -> Vec<Owner> {
        let mut changed = Vec::new();
        self.lock().retain(|owner, family| {
            let before = family.len();
            family.retain(|(of, _), child| *of != kind || uids.contains(&child.uid));
            if family.len() != before {
                changed.push(owner.clone());
            }
            !family.is_empty()
        });
        changed
    }

    /// All children of a kind that exist have been seen.
    pub fn mark_listed(&self, kind: ChildKind) {
        self.listed.send_modify(|listed| {
            listed.insert(kind);
        });
    }

    /// Nothing counts as seen any more: all watches start anew.
    pub fn mark_unlisted(&self) {
        self.listed.send_modify(HashSet::clear);
    }

    /// Waits until all children of these kinds have been seen.
    pub async fn listed(&self, kinds: &[ChildKind]) {
        let mut listed = self.listed.subscribe();
        // The sender is this index itself.
        listed
            .wait_for(|listed| kinds.iter().all(|kind| listed.contains(kind)))
            .await
            .ok();
    }

    /// The children of an owner.
    pub fn family(&self, owner: &Owner) -> Family {
        self.look(owner, Family::clone).unwrap_or_default()
    }

    /// Looks at the children of an owner, which are not copied; none if it has none.
    pub fn look<T>(&self, owner: &Owner, look: impl FnOnce(&Family) -> T) -> Option<T> {
        self.lock().get(owner).map(look)
    }

    /// The uids of an owner's workers.
    pub fn workers_of(&self, owner: &Owner) -> Vec<String> {
        let uids = |family: &Family| {
            let workers = family
                .values()
                .filter(|child| matches!(&child.seen, Seen::Pod(pod) if pod.is_worker()));
            workers.map(|child| child.uid.clone()).collect()
        };
        self.look(owner, uids).unwrap_or_default()
    }

    /// All families, by owner.
    pub fn visit(&self, mut see: impl FnMut(&Owner, &Family)) {
        for (owner, family) in self.lock().iter() {
            see(owner, family);
        }
    }

    /// How many routes are replacing workers at `now`, or trying what those will be, other than `except`. One that does not
    /// come to an end is no longer waited for: it may be broken for reasons of its own.
    pub fn rolling(&self, except: &Owner, now: Timestamp) -> usize {
        let families = self.lock();
        let children = |owner: &Owner| families.get(owner).into_iter().flat_map(BTreeMap::values);
        let is_under_way = |child: &Child| match &child.seen {
            Seen::Set(set) => {
                set.is_rolling() && (!set.is_observed || now.duration_since(set.revised) < ROLLOUT_DEADLINE)
            }
            Seen::Pod(pod) => {
                let is_new = |created| now.duration_since(created) < PROBE_DEADLINE;
                pod.is_running_probe() && pod.created.is_some_and(is_new)
            }
            _ => false,
        };
        let mut rolling = lock(&self.rolling);
        rolling.retain(|owner| children(owner).any(|child| child.seen.is_rolling()));
        let under_way = rolling
            .iter()
            .filter(|owner| *owner != except && children(owner).any(is_under_way));
        under_way.count()
    }

    /// Looks at all pods of workers that have an address: their routes, their uids and they. They are many, and are
    /// not copied.
    pub fn visit_workers(&self, mut visit: impl FnMut(&Owner, &str, &PodSeen)) {
        for (owner, family) in self.lock().iter() {
            for child in family.values() {
                match &child.seen {
                    Seen::Pod(pod) if pod.is_worker() && pod.ip.is_some() => visit(owner, &child.uid, pod),
                    _ => {}
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Family>> {
        lock(&self.families)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn owner_of(meta: &ObjectMeta) -> Option<Owner> {
    let labels = meta.labels.as_ref()?;
    let kind = match labels.get(names::OWNER_KIND)?.as_str() {
        names::kind::ROUTE => names::kind::ROUTE,
        names::kind::BROKER => names::kind::BROKER,
        names::kind::SINK => names::kind::SINK,
        _ => return None,
    };
    Some(Owner {
        kind,
        namespace: meta.namespace.clone()?,
        name: labels.get(names::INSTANCE)?.clone(),
    })
}

/// What is known of a StatefulSet.
pub fn set(set: &StatefulSet) -> Seen {
    let spec = set.spec.as_ref();
    let status = set.status.as_ref();
    let template = spec.and_then(|spec| spec.template.metadata.as_ref());
    Seen::Set(Box::new(SetSeen {
        settings: template
            .and_then(|meta| annotation(meta, names::SETTINGS))
            .unwrap_or_default(),
        whereabouts: template.and_then(|meta| annotation(meta, names::WHEREABOUTS)),
        replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        current: status.map_or(0, |status| status.replicas),
        updated: status
            .and_then(|status| status.updated_replicas)
            .unwrap_or_default(),
        ready: status
            .and_then(|status| status.ready_replicas)
            .unwrap_or_default(),
        is_observed: status.and_then(|status| status.observed_generation) >= set.metadata.generation,
        update_revision: status
            .and_then(|status| status.update_revision.clone())
            .unwrap_or_default(),
        revised: Timestamp::now(),
        scaled: other_scaler(&set.metadata).map(|manager| (manager, Timestamp::now())),
    }))
}

/// Who else owns the number of replicas.
fn other_scaler(meta: &ObjectMeta) -> Option<String> {
    let managers = meta.managed_fields.iter().flatten();
    let mut others = managers.filter(|entry| {
        let fields = entry.fields_v1.as_ref();
        entry.manager.as_deref() != Some(names::FIELD_MANAGER)
            && fields.is_some_and(|fields| fields.0.pointer("/f:spec/f:replicas").is_some())
    });
    others.next()?.manager.clone()
}

/// What is known of a pod.
pub fn pod(pod: &Pod) -> Seen {
    Seen::Pod(Box::new(PodSeen::of(pod)))
}

/// What is known of a Job.
pub fn job(job: &Job) -> Seen {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let has = |kind: &str| {
        conditions.is_some_and(|all| all.iter().any(|one| one.type_ == kind && one.status == "True"))
    };
    Seen::Job(JobSeen {
        succeeded: has("Complete") || has("SuccessCriteriaMet"),
        failed: has("Failed") || has("FailureTarget"),
    })
}

/// What is known of a ConfigMap.
pub fn config_map(map: &ConfigMap) -> Seen {
    let content = |key: &str| map.data.as_ref().and_then(|data| data.get(key));
    if let (Some(hash), Some(text)) = (
        annotation(&map.metadata, names::LIVE),
        content(crate::plan::LIVE_KEY),
    ) {
        return match serde_json::from_str(text) {
            Ok(live) => Seen::Live(hash, Arc::new(live)),
            Err(_) => Seen::LiveToMqtt(hash),
        };
    }
    match content(crate::plan::RECORD_KEY).and_then(|text| serde_json::from_str(text).ok()) {
        Some(record) => Seen::Lanes(record),
        None => Seen::Plain,
    }
}

fn annotation(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.annotations.as_ref()?.get(name).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn owner(route: &str) -> Owner {
        Owner {
            kind: names::kind::ROUTE,
            namespace: "plant".into(),
            name: route.into(),
        }
    }

    /// The watch shows a route's workers: so many of them are ready.
    fn show(observed: &Observed, route: &str, revision: &str, ready: i32) {
        let workers: StatefulSet = serde_json::from_value(json!({
            "metadata": {
                "name": route, "namespace": "plant", "generation": 1,
                "labels": {names::OWNER_KIND: names::kind::ROUTE, names::INSTANCE: route},
            },
            "spec": {"replicas": 2, "selector": {}, "template": {}, "serviceName": ""},
            "status": {
                "replicas": 2, "readyReplicas": ready, "updatedReplicas": 2, "observedGeneration": 1,
                "updateRevision": revision,
            },
        }))
        .unwrap();
        observed.apply(ChildKind::StatefulSet, &workers.metadata, set(&workers));
    }

    #[test]
    fn a_rollout_that_does_not_end_keeps_others_waiting_for_a_while_only() {
        let observed = Observed::default();
        let rolling = |at: Timestamp| observed.rolling(&owner("another"), at);
        show(&observed, "broken", "r1", 1);
        let (soon, late) = (Timestamp::now(), Timestamp::now() + ROLLOUT_DEADLINE);
        assert_eq!(rolling(soon), 1);
        assert_eq!(rolling(late), 0);
        // A worker that comes and goes is no new rollout, another template is.
        show(&observed, "broken", "r1", 2);
        assert_eq!(rolling(soon), 0);
        show(&observed, "broken", "r1", 1);
        assert_eq!(rolling(late), 0);
        show(&observed, "broken", "r2", 1);
        assert_eq!(rolling(soon), 1);
    }

    #[test]
    fn a_route_whose_probe_runs_keeps_others_waiting_for_a_while() {
        let observed = Observed::default();
        let began: Timestamp = "2026-03-01T03:00:00Z".parse().unwrap();
        let show = |phase: &str| {
            let probe: Pod = serde_json::from_value(json!({
                "metadata": {
                    "name": "probe", "namespace": "plant", "creationTimestamp": began,
                    "labels": {
                        names::OWNER_KIND: names::kind::ROUTE, names::INSTANCE: "route",
                        names::COMPONENT: names::component::PROBE,
                    },
                },
                "status": {"phase": phase},
            }))
            .unwrap();
            observed.apply(ChildKind::Pod, &probe.metadata, pod(&probe));
        };
        show("Pending");
        assert_eq!(observed.rolling(&owner("another"), began), 1);
        assert_eq!(observed.rolling(&owner("route"), began), 0);
        assert_eq!(observed.rolling(&owner("another"), began + PROBE_DEADLINE), 0);
        show("Succeeded");
        assert_eq!(observed.rolling(&owner("another"), began), 0);
    }
}

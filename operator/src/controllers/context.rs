use std::collections::BTreeSet;
use std::sync::Arc;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};

use super::backoff::Backoff;
use super::nudges::Nudges;
use super::pace::Pace;
use super::run::Stores;
use crate::cluster::Cluster;
use crate::metrics::Metrics;
use crate::names;
use crate::observed::{Family, Observed, Owner, PodSeen, WorkerSeen, Workers};
use crate::plan;
use crate::settings::Settings;

/// What all controllers work with.
pub struct Context {
    /// Writes.
    pub cluster: Cluster,
    /// What has been seen of children.
    pub observed: Arc<Observed>,
    /// What workers have said.
    pub workers: Arc<Workers>,
    /// The objects that users write.
    pub stores: Stores,
    /// What the operator was told.
    pub settings: Settings,
    /// How long to wait after failures.
    pub backoff: Backoff,
    /// When counts were last written into a status.
    pub ledger_pace: Pace,
    /// When pods were last nudged.
    pub nudges: Nudges,
    /// What is counted.
    pub metrics: Metrics,
}

impl Context {
    /// A broker.
    pub(super) fn broker(&self, namespace: &str, name: &str) -> Option<Arc<MqttBroker>> {
        get(&self.stores.brokers, namespace, name)
    }

    /// A sink.
    pub(super) fn sink(&self, namespace: &str, name: &str) -> Option<Arc<KafkaSink>> {
        get(&self.stores.sinks, namespace, name)
    }

    /// A route.
    pub(super) fn route(&self, namespace: &str, name: &str) -> Option<Arc<TopicRoute>> {
        get(&self.stores.routes, namespace, name)
    }

    /// Looks at all routes that can be read. There may be many: they are not copied.
    pub(super) fn visit_routes(&self, mut visit: impl FnMut(&TopicRoute)) {
        for guard in self.stores.routes.state() {
            if let Ok(route) = &guard.0 {
                visit(route);
            }
        }
    }

    /// The broker and the sink that a route names.
    pub(super) fn references(&self, route: &TopicRoute) -> (Option<Arc<MqttBroker>>, Option<Arc<KafkaSink>>) {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        let broker = route
            .spec
            .from
            .mqtt
            .as_ref()
            .and_then(|mqtt| self.broker(namespace, &mqtt.broker_ref.name));
        let sink = route
            .spec
            .to
            .kafka
            .as_ref()
            .and_then(|kafka| self.sink(namespace, &kafka.sink_ref.name));
        (broker, sink)
    }

    /// The workers in a family, with what they said last.
    pub(super) fn answers<'f>(&self, family: &'f Family) -> Vec<(&'f PodSeen, WorkerSeen)> {
        plan::workers(family)
            .map(|(child, pod)| (pod, self.workers.of(&child.uid)))
            .collect()
    }

    /// Filters that all workers of a route say have run dry.
    pub(super) fn dry(&self, family: &Family) -> BTreeSet<String> {
        let mut all: Option<BTreeSet<String>> = None;
        for (_, worker) in self.answers(family) {
            let retired = worker.status.map(|status| status.retired).unwrap_or_default();
            let retired: BTreeSet<String> = retired.into_iter().collect();
            all = Some(match all {
                Some(others) => others.intersection(&retired).cloned().collect(),
                None => retired,
            });
        }
        all.unwrap_or_default()
    }
}

/// An object that can be read. One that cannot is as good as absent: its own controller says what is wrong with it.
fn get<K>(store: &Store<DeserializeGuard<K>>, namespace: &str, name: &str) -> Option<Arc<K>>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let guard = store.get(&ObjectRef::new(name).within(namespace))?;
    guard.0.as_ref().ok().map(|object| Arc::new(object.clone()))
}

/// Whose children an object has.
pub(super) fn owner<K: Resource<DynamicType = ()>>(kind: &'static str, object: &K) -> Owner {
    let meta = object.meta();
    Owner {
        kind,
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

/// The owner that is a route.
pub(super) fn route_owner(route: &TopicRoute) -> Owner {
    owner(names::kind::ROUTE, route)
}

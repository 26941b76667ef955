use std::sync::Arc;
use std::time::Duration;

use kube::runtime::reflector::ObjectRef;
use millrace_crds::api::{Labels, Reference};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};

use super::backoff::Backoff;
use super::nudges::Nudges;
use super::pace::Pace;
use super::run::Stores;
use super::silences::AllSilences;
use crate::cluster::watch::NamespaceStore;
use crate::cluster::{Cluster, TopicOwnersSeen};
use crate::metrics::Metrics;
use crate::names;
use crate::observed::{Family, Observed, Owner, PodSeen, WorkerSeen, Workers};
use crate::plan::{self, Checks, Uptake};
use crate::settings::Settings;

/// `timeouts.failover` by default.
const FAILOVER: Duration = Duration::from_secs(15);

/// What all controllers work with.
pub struct Context {
    /// Writes.
    pub cluster: Cluster,
    /// Objects of all namespaces are seen.
    pub sees_all: bool,
    /// What has been seen of children.
    pub observed: Arc<Observed>,
    /// What workers have said.
    pub workers: Arc<Workers>,
    /// The objects that users write.
    pub stores: Stores,
    /// The labels of namespaces.
    pub namespaces: NamespaceStore,
    /// What the operator was told.
    pub settings: Settings,
    /// What objects were found to be like.
    pub checks: Checks,
    /// How long to wait after failures.
    pub backoff: Backoff,
    /// When counts were last written into a status.
    pub ledger_pace: Pace,
    /// Since when workers have not answered.
    pub silences: AllSilences,
    /// Which topics other operators own.
    pub topic_owners: TopicOwnersSeen,
    /// When pods were last nudged.
    pub nudges: Nudges,
    /// What is counted.
    pub metrics: Metrics,
}

impl Context {
    /// Forgets what was kept of an object that is gone.
    pub(super) fn forget(&self, owner: &Owner) {
        let (namespace, name) = (&owner.namespace, &owner.name);
        match owner.kind {
            names::kind::ROUTE => self.stores.routes.forget(namespace, name),
            names::kind::BROKER => self.stores.brokers.forget(namespace, name),
            _ => self.stores.sinks.forget(namespace, name),
        }
        self.backoff.gone(owner);
        self.ledger_pace.forget(owner);
        self.silences.forget(owner);
        self.cluster.forget(owner);
        self.checks.forget(owner);
    }

    /// The broker and the sink that a route refers to. One that does not admit the route is as good as absent: who may not
    /// refer to an object does not learn whether it is there.
    pub(super) fn references(&self, route: &TopicRoute) -> (Option<Arc<MqttBroker>>, Option<Arc<KafkaSink>>) {
        let broker = route.broker_ref();
        let sink = route.sink_ref();
        let broker = broker.and_then(|broker| self.stores.brokers.get(broker.namespace, broker.name));
        let sink = sink.and_then(|sink| self.stores.sinks.get(sink.namespace, sink.name));
        (
            broker.filter(|broker| self.uses_broker(route, broker)),
            sink.filter(|sink| self.uses_sink(route, sink)),
        )
    }

    /// Whether a route refers to something in another namespace that does not admit it, or is not there: what becomes of the
    /// route must not tell which. What is there and cannot be read, or in a namespace that is not watched, may admit it.
    pub(super) fn is_shut_out(&self, route: &TopicRoute) -> bool {
        if !self.sees_all || !refers_elsewhere(route) {
            return false;
        }
        let (broker, sink) = self.references(route);
        let lacks_broker = broker.is_none()
            && route.broker_ref().is_some_and(|broker| {
                is_elsewhere(route, &broker)
                    && !self.stores.brokers.is_unreadable(broker.namespace, broker.name)
            });
        let lacks_sink = sink.is_none()
            && route.sink_ref().is_some_and(|sink| {
                is_elsewhere(route, &sink) && !self.stores.sinks.is_unreadable(sink.namespace, sink.name)
            });
        lacks_broker || lacks_sink
    }

    /// Whether a route refers to a broker, and may.
    pub(super) fn uses_broker(&self, route: &TopicRoute, broker: &MqttBroker) -> bool {
        let refers = route
            .broker_ref()
            .is_some_and(|reference| reference.is_to(broker));
        refers && broker.admits(route, self.labels_for(route).as_ref()) == Some(true)
    }

    /// Whether a route refers to a sink, and may.
    pub(super) fn uses_sink(&self, route: &TopicRoute, sink: &KafkaSink) -> bool {
        let refers = route.sink_ref().is_some_and(|reference| reference.is_to(sink));
        refers && sink.admits(route, self.labels_for(route).as_ref()) == Some(true)
    }

    /// The labels of a route's namespace, if it refers to another.
    pub(super) fn labels_for(&self, route: &TopicRoute) -> Option<Labels> {
        if !refers_elsewhere(route) {
            return None;
        }
        let name = route.metadata.namespace.as_deref()?;
        let namespace = self.namespaces.get(&ObjectRef::new(name))?;
        Some(namespace.metadata.labels.clone().unwrap_or_default())
    }

    /// The workers in a family, with what they said last.
    pub(super) fn answers<'f>(&self, family: &'f Family) -> Vec<(&'f PodSeen, WorkerSeen)> {
        plan::workers(family)
            .map(|(child, pod)| (pod, self.workers.of(&child.uid)))
            .collect()
    }

    /// How far the lanes of a route are with the configuration that was written last.
    pub(super) fn uptake(&self, family: &Family) -> Uptake {
        let live = plan::live(family);
        // Nothing waits for it.
        if live.is_none_or(|(_, live)| live.retired.is_empty()) {
            return Uptake::default();
        }
        let answers = self.answers(family).into_iter().filter_map(|(pod, worker)| {
            let status = worker.status.filter(|_| worker.silent.is_none())?;
            Some((pod.ordinal()?, status))
        });
        Uptake::of(live, plan::record_of(family), &answers.collect())
    }
}

/// Whether a route refers to an object of another namespace.
pub(super) fn refers_elsewhere(route: &TopicRoute) -> bool {
    let references = [route.broker_ref(), route.sink_ref()];
    references
        .into_iter()
        .flatten()
        .any(|reference| is_elsewhere(route, &reference))
}

fn is_elsewhere(route: &TopicRoute, reference: &Reference<'_>) -> bool {
    Some(reference.namespace) != route.metadata.namespace.as_deref()
}

/// The owner that is a route.
pub(super) fn route_owner(route: &TopicRoute) -> Owner {
    Owner::of(names::kind::ROUTE, route)
}

/// How long a worker may say nothing before it is passed over. Where a route says nothing that can be read, as by
/// default.
pub(super) fn failover(route: &TopicRoute) -> Duration {
    route.spec.timeouts.failover.parse().unwrap_or(FAILOVER)
}

use std::sync::Arc;
use std::time::Duration;

use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};

use super::backoff::Backoff;
use super::nudges::Nudges;
use super::pace::Pace;
use super::run::Stores;
use super::silences::AllSilences;
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
    /// What has been seen of children.
    pub observed: Arc<Observed>,
    /// What workers have said.
    pub workers: Arc<Workers>,
    /// The objects that users write.
    pub stores: Stores,
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

    /// The broker and the sink that a route names.
    pub(super) fn references(&self, route: &TopicRoute) -> (Option<Arc<MqttBroker>>, Option<Arc<KafkaSink>>) {
        let namespace = route.metadata.namespace.as_deref().unwrap_or_default();
        let broker = route.spec.broker_ref();
        let sink = route.spec.sink_ref();
        (
            broker.and_then(|(_, named)| self.stores.brokers.get(namespace, &named.name)),
            sink.and_then(|(_, named)| self.stores.sinks.get(namespace, &named.name)),
        )
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

/// The owner that is a route.
pub(super) fn route_owner(route: &TopicRoute) -> Owner {
    Owner::of(names::kind::ROUTE, route)
}

/// How long a worker may say nothing before it is passed over. Where a route says nothing that can be read, as by
/// default.
pub(super) fn failover(route: &TopicRoute) -> Duration {
    route.spec.timeouts.failover.parse().unwrap_or(FAILOVER)
}

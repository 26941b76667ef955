//! Routes: from a TopicRoute to its workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use millrace_crds::api::{SKIP, TopicRouteStatus};
use millrace_crds::{TopicRoute, shares_group};

use super::context::{Context, failover, route_owner};
use super::leaving::patience;
use super::{Error, endpoint, leaving};
use crate::cluster::{ClusterError, Note, has_finalizer};
use crate::names;
use crate::observed::{COUNTS, Child, ChildKind, Family, PodSeen, Seen};
use crate::plan::{self, Inputs, Plan, Rejection, Rollout};
use crate::status::{self, Reason, RouteFacts};

/// A pass without a cause: what a lost event hid is found by then.
const RESYNC: Duration = Duration::from_secs(300);
/// How often it is looked after a worker that goes.
const GOING: Duration = Duration::from_secs(5);

/// How often it is looked whether a route is still fed what it writes.
const FED: Duration = Duration::from_secs(10);

/// One pass over a route.
pub(super) async fn reconcile(route: Arc<TopicRoute>, context: &Context) -> Result<Action, Error> {
    if route.metadata.deletion_timestamp.is_some() {
        return leaving::reconcile(&route, context).await;
    }
    let inputs = fetch(&route, context);
    let mut plan = plan::route(&inputs, &context.checks, &context.settings);
    let mut refused = None;
    if plan.is_err() && context.is_shut_out(&route) {
        shut_out(&route, &inputs.family, context).await?;
    }
    if let Ok(wanted) = &plan {
        tell_left(&route, wanted, &inputs, context).await;
        match apply(&route, wanted, &inputs.family, context).await {
            Ok(()) => {
                tell_skipped(&route, wanted, &inputs.family, context).await;
                prune(&route, wanted, &inputs.family, context).await?;
            }
            // The user's to change.
            Err(Error::Apply(error @ ClusterError::NameTaken { .. })) => {
                plan = Err(Rejection::new(Reason::NameConflict, error.to_string()));
            }
            Err(error) if error.cause().refusal().is_some() => refused = Some(error),
            // What the cluster cannot do just now is no news of the route.
            Err(error) => return Err(error),
        }
    }
    let why = refused.as_ref().and_then(|error| error.cause().refusal());
    let next = write_status(&route, plan.as_ref(), why, &inputs, context).await?;
    refused.map_or(Ok(next), Err)
}

/// Ends the workers of a route that has lost what it refers to in another namespace. Its sessions stay, as those of a route that
/// is paused.
async fn shut_out(route: &TopicRoute, family: &Family, context: &Context) -> Result<(), Error> {
    if plan::set_of(family).is_none_or(|set| set.replicas == 0) {
        return Ok(());
    }
    let owner = route_owner(route);
    let ended = context
        .cluster
        .scale(&owner, &names::workers(&owner.name), 0)
        .await;
    ended.map_err(Error::Apply)
}

/// What is known; nothing is asked of the API server.
pub(super) fn fetch(route: &Arc<TopicRoute>, context: &Context) -> Inputs {
    let now = Timestamp::now();
    let owner = route_owner(route);
    let (broker, sink) = context.references(route);
    let family = context.observed.family(&owner);
    let others = match &route.spec.session_id {
        Some(id) => others(route, id, context),
        None => Vec::new(),
    };
    Inputs {
        route: Arc::clone(route),
        broker,
        sink,
        labels: context.labels_for(route),
        others,
        uptake: context.uptake(&family),
        is_impatient: context
            .silences
            .leaving(&owner)
            .is_some_and(|since| since > patience(route)),
        partitions: partitions(&family, context),
        fed_back_by: fed_back_by(route, context),
        in_group_of: in_group_of(route, context),
        family,
        rolling: context.observed.rolling(&owner, now),
        now,
    }
}

/// Partitions of the topics that the workers of a route read, as they say.
fn partitions(family: &Family, context: &Context) -> Option<u16> {
    let answers = context.answers(family).into_iter();
    let counts =
        answers.filter_map(|(_, worker)| worker.status?.delivery.map(|delivery| delivery.partitions_in_all));
    counts
        .max()
        .filter(|count| *count > 0)
        .map(|count| u16::try_from(count).unwrap_or(u16::MAX))
}

/// Routes that go before a route, and through which what it writes would come back to it. Those that are shut out move
/// nothing.
fn fed_back_by(route: &Arc<TopicRoute>, context: &Context) -> Vec<String> {
    let seen = context.stores.routes.seen().state();
    let readable = || seen.iter().filter_map(|guard| guard.0.as_ref().ok());
    // Most clusters have routes of one direction only, and each pass over each route comes here.
    let is_other_way =
        |other: &TopicRoute| other.spec.from.kafka.is_some() != route.spec.from.kafka.is_some();
    if !readable().any(is_other_way) {
        return Vec::new();
    }
    let others: Vec<&TopicRoute> = readable()
        .filter(|other| is_another(other, route) && plan::goes_before(other, route))
        .filter(|other| !context.is_shut_out(other))
        .collect();
    let through = millrace_crds::cycle(route, &others).unwrap_or_default();
    through
        .into_iter()
        .map(|route| names::full(&route.metadata))
        .collect()
}

/// A route that goes before and reads the same Kafka with the same consumer group. One that is shut out takes it from nobody.
fn in_group_of(route: &TopicRoute, context: &Context) -> Option<String> {
    route.spec.from.kafka.as_ref()?;
    let mut found = None;
    context.stores.routes.visit(|other| {
        let is_first = is_another(other, route) && plan::goes_before(other, route);
        if is_first && shares_group(other, route) && !context.is_shut_out(other) {
            found = Some(names::full(&other.metadata));
        }
    });
    found
}

/// Not the same as it was shown a moment ago.
fn is_another(other: &TopicRoute, route: &TopicRoute) -> bool {
    other.metadata.uid != route.metadata.uid
}

/// Other routes that name the same session.
fn others(
    route: &TopicRoute,
    id: &str,
    context: &Context,
) -> Vec<(Arc<TopicRoute>, Arc<millrace_crds::MqttBroker>)> {
    let mut same = Vec::new();
    context.stores.routes.visit(|other| {
        if other.metadata.uid != route.metadata.uid && other.spec.session_id.as_deref() == Some(id) {
            same.push(Arc::new(other.clone()));
        }
    });
    same.into_iter()
        .filter_map(|other| {
            let broker = context.references(&other).0?;
            Some((other, broker))
        })
        .collect()
}

/// Names sessions at the broker of before that are given up.
async fn tell_left(route: &TopicRoute, plan: &Plan, inputs: &Inputs, context: &Context) {
    let Some(before) = inputs.leaves().filter(|_| plan.rollout == Rollout::Current) else {
        return;
    };
    let lanes = inputs.record().into_iter().flat_map(|record| &record.lanes);
    let left: Vec<String> = lanes
        .map(|owner| format!("{}-{}", before.client, owner.lane))
        .collect();
    if left.is_empty() {
        return;
    }
    let what = format!(
        "the route goes to another broker, and timeouts.leave is over; these MQTT sessions are left to expire at the \
         broker of MqttBroker {}, with what it holds for them: {}",
        before.broker,
        left.join(", ")
    );
    leaving::tell_left(route, "Replace", &what, context).await;
}

/// Says once which messages are discarded because somebody has asked for it.
async fn tell_skipped(route: &TopicRoute, plan: &Plan, family: &Family, context: &Context) {
    let names: Vec<&str> = route.skipped().collect();
    // Only when another configuration has been written, so that an Event is not tried in every pass.
    if names.is_empty() || plan::live_hash(family) == Some(&plan.live_hash) {
        return;
    }
    let note = Note {
        warning: true,
        reason: "MessageSkipped".into(),
        action: "Reload",
        text: format!(
            "discarded where they would stop the route, because annotation {SKIP} asks for it: {}",
            names.join(", ")
        ),
        once: true,
    };
    context.cluster.tell(route, &note).await;
}

/// Writes what is to be, in order: what pods mount before the pods.
async fn apply(route: &TopicRoute, plan: &Plan, family: &Family, context: &Context) -> Result<(), Error> {
    if !has_finalizer(&route.metadata) {
        let held = context.cluster.set_finalizer(&route.metadata, true).await;
        context.stores.routes.wrote(held.map_err(Error::Finalizer)?);
    }
    for desired in &plan.children {
        match context.cluster.apply(&plan.family.owner, desired, family).await {
            // Scraped or not, messages flow.
            Err(error) if desired.kind == ChildKind::PodMonitor && error.is_gone() => {
                tracing::warn!(%error, "the cluster does not know PodMonitors: install the Prometheus operator's definitions");
            }
            done => done.map_err(Error::Apply)?,
        }
    }
    if plan.rollout != Rollout::Current {
        scale(plan, family, context).await?;
    }
    Ok(())
}

/// While what is new is being tried, the number of workers follows all the same.
async fn scale(plan: &Plan, family: &Family, context: &Context) -> Result<(), Error> {
    let owner = &plan.family.owner;
    let name = names::workers(&owner.name);
    let set = family.get(&(ChildKind::StatefulSet, name.clone()));
    match set.map(|child| &child.seen) {
        Some(Seen::Set(set)) if set.replicas != i32::from(plan.pods) => context
            .cluster
            .scale(owner, &name, plan.pods)
            .await
            .map_err(Error::Apply),
        _ => Ok(()),
    }
}

/// Removes what is no longer wanted. Pods of the StatefulSet are its own business, but for one that blocks it.
async fn prune(route: &TopicRoute, plan: &Plan, family: &Family, context: &Context) -> Result<(), Error> {
    let owner = &plan.family.owner;
    let is_wanted = |kind: ChildKind, name: &str| {
        let planned = plan
            .children
            .iter()
            .any(|child| child.kind == kind && child.name == name);
        let is_worker = kind == ChildKind::Pod
            && family
                .get(&(kind, name.to_owned()))
                .is_some_and(|child| matches!(&child.seen, Seen::Pod(pod) if pod.is_worker()));
        planned || is_worker || plan.kept.iter().any(|kept| kept == name)
    };
    context
        .cluster
        .prune(owner, family, is_wanted)
        .await
        .map_err(Error::Prune)?;
    for (name, uid) in plan::blocking(family).into_iter().chain(plan::misplaced(family)) {
        context
            .cluster
            .delete(ChildKind::Pod, owner, &name, &uid)
            .await
            .map_err(Error::Prune)?;
    }
    for (child, pod) in stranded(route, family, context) {
        tracing::warn!(
            route = %format!("{}/{}", owner.namespace, owner.name),
            pod = pod.name,
            "the pod is to go, and its node does not answer: it is given up"
        );
        context
            .cluster
            .give_up(owner, &pod.name, &child.uid)
            .await
            .map_err(Error::Prune)?;
    }
    Ok(())
}

/// Workers that have been told to go and have not answered for `timeouts.failover`: the node is lost, and without it
/// nobody says that they are gone, so the StatefulSet waits for ever. Should one run on, the broker keeps it out: the
/// client ids of its sessions are those of the next.
///
/// One that has never answered may be out of this operator's reach, and well: it gets the time that it has to end.
fn stranded<'f>(
    route: &TopicRoute,
    family: &'f Family,
    context: &Context,
) -> impl Iterator<Item = (&'f Child, &'f PodSeen)> {
    let (failover, now) = (failover(route), Instant::now());
    let drain = route.spec.timeouts.drain.parse().unwrap_or_default();
    let grace = plan::grace(drain) + failover;
    plan::workers(family).filter(move |(child, pod)| {
        if !pod.deleting {
            return false;
        }
        let going = context.workers.going(&child.uid, now);
        let worker = context.workers.of(&child.uid);
        worker.is_silent_for(failover, now) && (worker.answered.is_some() || going >= grace)
    })
}

/// Writes the status if it says something new, and tells people what has changed.
async fn write_status(
    route: &TopicRoute,
    plan: Result<&Plan, &Rejection>,
    refused: Option<&str>,
    inputs: &Inputs,
    context: &Context,
) -> Result<Action, Error> {
    // What was just written has not been seen yet; the events about it bring the next pass.
    let settling = context.silences.settling(&route_owner(route), failover(route));
    let facts = RouteFacts {
        route,
        plan,
        refused,
        broker: inputs.broker.as_deref(),
        set: inputs.set(),
        workers: context.answers(&inputs.family),
        moving: settling.is_some(),
        now: inputs.now,
    };
    let new = status::route(&facts);
    let old = route.status.clone().unwrap_or_default();
    let soon = inputs.next_change(plan.ok()).into_iter().chain(settling).min();
    if same_but_counts(&old, &new) {
        if old.ledger == new.ledger {
            return Ok(Action::requeue(soon.unwrap_or(RESYNC)));
        }
        let wait = context.ledger_pace.wait(&route_owner(route), COUNTS);
        if !wait.is_zero() {
            return Ok(Action::requeue(soon.unwrap_or(wait).min(wait)));
        }
    }
    let written = context.cluster.patch_status(route, &new).await;
    context.stores.routes.wrote(written.map_err(Error::Status)?);
    context.ledger_pace.written(&route_owner(route));
    endpoint::tell(route, &old.conditions, &new.conditions, context).await;
    Ok(Action::requeue(soon.unwrap_or(RESYNC)))
}

fn same_but_counts(old: &TopicRouteStatus, new: &TopicRouteStatus) -> bool {
    without_counts(old.clone()) == without_counts(new.clone())
}

/// A status but for how many messages have been moved.
pub(super) fn without_counts(status: TopicRouteStatus) -> TopicRouteStatus {
    TopicRouteStatus {
        ledger: None,
        ..status
    }
}

impl Inputs {
    /// When something changes without an event of this route: a failed probe is tried again, a worker that goes is gone or
    /// given up, a route that fed this one has become another.
    fn next_change(&self, plan: Option<&Plan>) -> Option<Duration> {
        let going = self.workers().any(|(_, pod)| pod.deleting).then_some(GOING);
        let fed = (!self.fed_back_by.is_empty()).then_some(FED);
        going.into_iter().chain(fed).chain(self.next_attempt(plan)).min()
    }

    fn next_attempt(&self, plan: Option<&Plan>) -> Option<Duration> {
        let at = match &plan?.rollout {
            Rollout::Refused(verdict) => verdict.again_at,
            Rollout::Probing(_) => self.now.checked_add(SignedDuration::from_secs(30)).ok()?,
            Rollout::Waiting | Rollout::Leaving => self.now.checked_add(SignedDuration::from_secs(5)).ok()?,
            Rollout::Current => return None,
        };
        let wait = at.duration_since(self.now);
        Some(
            Duration::try_from(wait)
                .unwrap_or_default()
                .max(Duration::from_millis(100)),
        )
    }
}

//! Lanes: who owns which, and every worker told so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::runtime::controller::Action;
use millrace_contract::{Assignment, LaneRecord, Ownership};
use millrace_crds::TopicRoute;

use super::context::{Context, failover, route_owner};
use super::{Error, routes};
use crate::names;
use crate::observed::{Child, ChildKind, Family, Owner, PodSeen, Seen, WorkerSeen};
use crate::plan::lanes::{self, Goal, PodView, Said};
use crate::plan::{self, Rollout};

/// A pass without a cause.
const RESYNC: Duration = Duration::from_secs(300);
/// How long a worker may take to do what it was told before it is told again.
const AGAIN: Duration = Duration::from_secs(5);

/// One pass over the lanes of a route.
pub(super) async fn reconcile(route: Arc<TopicRoute>, context: &Context) -> Result<Action, Error> {
    let owner = route_owner(&route);
    let family = context.observed.family(&owner);
    if route.spec.from.kafka.is_some() {
        return nudge(&owner, &family, context).await;
    }
    let Some(record) = write_record(&route, &family, context).await? else {
        return Ok(Action::requeue(RESYNC));
    };
    context.silences.seen(&owner, record.generation);
    let (live, retired) = plan::live(&family)
        .map(|(hash, live)| (hash, !live.retired.is_empty()))
        .unwrap_or_default();
    // Something follows from what workers say next.
    let moving = retired || record.lanes.iter().any(|owner| owner.state != Ownership::Owned);
    let mut waiting = false;
    let mut told = Vec::new();
    for (child, pod) in plan::workers(&family) {
        if pod.deleting {
            continue;
        }
        let worker = context.workers.of(&child.uid);
        let settled = is_settled(&worker, pod, &record, live);
        context.workers.watch(&child.uid, moving || !settled);
        waiting |= !settled;
        let acts_by = worker.status.as_ref().map(|status| status.generation);
        let news = |ordinal| lanes::news(&record, ordinal, &child.uid, pod.assignment.as_ref(), acts_by);
        let part = pod.ordinal().and_then(news);
        let namespace = &owner.namespace;
        told.push(async move { tell(part.as_ref(), live, child, pod, namespace, context).await });
    }
    // All at once, because a lane that moves waits for the last of them; one that cannot be told keeps back no other.
    join_all(told).await.into_iter().collect::<Result<(), _>>()?;
    let next = if waiting || moving { AGAIN } else { RESYNC };
    let lost = context
        .silences
        .with(&owner, |silences| silences.next(Instant::now(), failover(&route)));
    Ok(Action::requeue(lost.unwrap_or(next).min(next)))
}

/// Tells the workers of a route without lanes that there is another configuration.
async fn nudge(owner: &Owner, family: &Family, context: &Context) -> Result<Action, Error> {
    let live = plan::live_hash(family).unwrap_or_default();
    let mut waiting = false;
    let mut told = Vec::new();
    for (child, pod) in plan::workers(family) {
        if pod.deleting {
            continue;
        }
        let worker = context.workers.of(&child.uid);
        let status = worker.status.as_ref().filter(|_| worker.silent.is_none());
        let settled = status.is_some_and(|status| status.live == live);
        context.workers.watch(&child.uid, !settled);
        waiting |= !settled;
        told.push(tell(None, live, child, pod, &owner.namespace, context));
    }
    join_all(told).await.into_iter().collect::<Result<(), _>>()?;
    Ok(Action::requeue(if waiting { AGAIN } else { RESYNC }))
}

/// The record as it is now, written anew if it has to change. None while there are no workers to own anything.
async fn write_record(
    route: &Arc<TopicRoute>,
    family: &Family,
    context: &Context,
) -> Result<Option<LaneRecord>, Error> {
    let owner = route_owner(route);
    let seen = family.get(&(ChildKind::ConfigMap, names::lanes(&owner.name)));
    let old = match seen.map(|child| &child.seen) {
        Some(Seen::Lanes(record)) => Some(record),
        _ => None,
    };
    let new = if route.metadata.deletion_timestamp.is_some() {
        let pods = views(family, old, context);
        let heard = pods.values().map(|pod| pod.heard).max().unwrap_or_default();
        lanes::leaving(old, heard)
    } else if family.values().any(|child| matches!(child.seen, Seen::Set(_))) {
        let mut goal = plan::goal(route, plan::live(family).map(|(_, live)| live));
        if leaves(route, family, goal, context) {
            goal.lanes = 0;
        }
        let now = Instant::now();
        let pods = views(family, old, context);
        let crew = context.silences.with(&owner, |silences| {
            silences.crew(&pods, old, goal, now, failover(route))
        });
        lanes::next(old, goal, &crew)
    } else {
        return Ok(old.cloned());
    };
    let Some(new) = new else { return Ok(old.cloned()) };
    let family_of = plan::Family::of(names::kind::ROUTE, route.as_ref());
    let version = seen
        .filter(|child| !child.deleting)
        .map(|child| child.resource_version.as_str());
    let map = plan::record(&family_of, &new, version);
    match context.cluster.write(&map).await {
        Ok(_) => Ok(Some(new)),
        // Somebody has written it meanwhile: what they wrote will be seen.
        Err(error) if error.is_conflict() => Ok(old.cloned()),
        Err(error) => Err(Error::Lanes(error)),
    }
}

/// Whether all lanes are to end their sessions, because the route goes to another broker.
fn leaves(route: &Arc<TopicRoute>, family: &Family, goal: Goal, context: &Context) -> bool {
    let owner = route_owner(route);
    let (broker, _) = context.references(route);
    if plan::leaves(family, route, broker.as_deref()).is_none() {
        context.silences.stay(&owner);
        // Nobody is to take one of them for those at the other broker.
        let set = plan::set_of(family);
        return plan::workers(family).any(|(_, pod)| plan::is_misplaced(pod, set));
    }
    let inputs = routes::fetch(route, context);
    let plan = plan::route(&inputs, &context.checks, &context.settings);
    let rollout = plan.map(|plan| plan.rollout);
    let is_on_its_way = context.silences.leaving(&owner).is_some();
    match rollout {
        Ok(Rollout::Leaving) => {
            // While there are no workers, nobody can.
            if goal.workers > 0 {
                context.silences.leave(&owner);
            }
            true
        }
        // The workers are about to be replaced.
        Ok(Rollout::Current) => is_on_its_way,
        _ => {
            context.silences.stay(&owner);
            false
        }
    }
}

/// The workers as they are seen, by ordinal. A pod that has come to an end is none.
fn views(family: &Family, record: Option<&LaneRecord>, context: &Context) -> BTreeMap<u16, PodView> {
    let pods = plan::workers(family).filter(|(_, pod)| !pod.finished);
    let view = |(child, pod): (&Child, &PodSeen)| {
        let worker = context.workers.of(&child.uid);
        let ordinal = pod.ordinal()?;
        let acts_by = worker.status.as_ref().map(|status| status.generation);
        let told = pod.assignment.as_ref().map(|told| told.generation);
        let view = PodView {
            said: worker
                .answers()
                .then(|| said(&worker, pod, ordinal, record))
                .flatten(),
            answered: worker.answered,
            going: pod.deleting,
            heard: acts_by.max(told).unwrap_or_default(),
        };
        Some((ordinal, view))
    };
    pods.filter_map(view).collect()
}

/// What a worker has said last, as of a record.
fn said(worker: &WorkerSeen, pod: &PodSeen, ordinal: u16, record: Option<&LaneRecord>) -> Option<Said> {
    let said = worker.status.as_ref().map(Said::of)?;
    Some(said.as_told(pod.assignment.as_ref(), record, ordinal))
}

/// Whether a worker has done all it was told.
fn is_settled(worker: &WorkerSeen, pod: &PodSeen, record: &LaneRecord, live: &str) -> bool {
    let said = pod
        .ordinal()
        .and_then(|ordinal| said(worker, pod, ordinal, Some(record)));
    worker.silent.is_none()
        && said.is_some_and(|said| said.generation >= record.generation)
        && worker.status.as_ref().is_some_and(|status| status.live == live)
}

/// Tells a worker its part, through annotations of its pod: it sees them within a second.
async fn tell(
    part: Option<&Assignment>,
    live: &str,
    child: &Child,
    pod: &PodSeen,
    namespace: &str,
    context: &Context,
) -> Result<(), Error> {
    let part = part.map(|part| serde_json::to_string(part).unwrap_or_default());
    let mut annotations = Vec::new();
    if let Some(part) = &part {
        annotations.push((names::ASSIGNMENT, part.as_str()));
    }
    let nudge = context.nudges.next(
        &child.uid,
        live,
        pod.nudge.as_deref(),
        &context.workers.of(&child.uid),
        AGAIN,
    );
    if let Some(nudge) = &nudge {
        annotations.push((names::NUDGE, nudge.as_str()));
    }
    if annotations.is_empty() {
        return Ok(());
    }
    context
        .cluster
        .annotate_pod(namespace, &pod.name, &child.uid, &annotations)
        .await
        .map_err(Error::Lanes)
}

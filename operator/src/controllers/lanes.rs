//! Lanes: who owns which, and every worker told so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kube::runtime::controller::Action;
use millrace_contract::{LaneRecord, Ownership};
use millrace_crds::TopicRoute;

use super::Error;
use super::context::{Context, failover, route_owner};
use crate::names;
use crate::observed::{Child, ChildKind, Family, PodSeen, Seen, WorkerSeen};
use crate::plan;
use crate::plan::lanes::{self, PodView, Said};

/// A pass without a cause.
const RESYNC: Duration = Duration::from_secs(300);
/// How long a worker may take to do what it was told before it is told again.
const AGAIN: Duration = Duration::from_secs(5);

/// One pass over the lanes of a route.
pub(super) async fn reconcile(route: Arc<TopicRoute>, context: &Context) -> Result<Action, Error> {
    let owner = route_owner(&route);
    let family = context.observed.family(&owner);
    let Some(record) = write_record(&route, &family, context).await? else {
        return Ok(Action::requeue(RESYNC));
    };
    context.silences.seen(&owner, record.generation);
    let live = plan::live(&family).map(|(hash, _)| hash).unwrap_or_default();
    let moving = record.lanes.iter().any(|owner| owner.state != Ownership::Owned);
    let mut waiting = false;
    for (child, pod) in plan::workers(&family) {
        if pod.deleting {
            continue;
        }
        let worker = context.workers.of(&child.uid);
        let settled = is_settled(&worker, &record, live);
        context.workers.watch(&child.uid, moving || !settled);
        waiting |= !settled;
        tell(&record, live, child, pod, &owner.namespace, context).await?;
    }
    let next = if waiting || moving { AGAIN } else { RESYNC };
    let lost = context
        .silences
        .with(&owner, |silences| silences.next(Instant::now(), failover(&route)));
    Ok(Action::requeue(lost.unwrap_or(next).min(next)))
}

/// The record as it is now, written anew if it has to change. None while there are no workers to own anything.
async fn write_record(
    route: &TopicRoute,
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
        lanes::leaving(old)
    } else if family.values().any(|child| matches!(child.seen, Seen::Set(_))) {
        let goal = plan::goal(route, plan::live(family).map(|(_, live)| live));
        let now = Instant::now();
        let pods = views(family, context);
        let crew = context.silences.with(&owner, |silences| {
            silences.crew(&pods, old, goal, now, failover(route))
        });
        lanes::next(old, goal, &crew)
    } else {
        return Ok(old.cloned());
    };
    let Some(new) = new else { return Ok(old.cloned()) };
    let family_of = plan::Family::of(names::kind::ROUTE, route);
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

/// The workers as they are seen, by ordinal. A pod that has come to an end is none.
fn views(family: &Family, context: &Context) -> BTreeMap<u16, PodView> {
    let pods = plan::workers(family).filter(|(_, pod)| !pod.finished);
    let view = |(child, pod): (&Child, &PodSeen)| {
        let worker = context.workers.of(&child.uid);
        let said = worker.status.as_ref().filter(|_| worker.answers()).map(Said::of);
        let view = PodView {
            said,
            answered: worker.answered,
            going: pod.deleting,
        };
        Some((pod.ordinal()?, view))
    };
    pods.filter_map(view).collect()
}

/// Whether a worker has done all it was told.
fn is_settled(worker: &WorkerSeen, record: &LaneRecord, live: &str) -> bool {
    worker.silent.is_none()
        && worker
            .status
            .as_ref()
            .is_some_and(|status| status.generation >= record.generation && status.live == live)
}

/// Tells a worker its part, through annotations of its pod: it sees them within a second.
async fn tell(
    record: &LaneRecord,
    live: &str,
    child: &Child,
    pod: &PodSeen,
    namespace: &str,
    context: &Context,
) -> Result<(), Error> {
    let Some(ordinal) = pod.ordinal() else {
        return Ok(());
    };
    let part = serde_json::to_string(&record.part_of(ordinal, Some(&child.uid))).unwrap_or_default();
    let mut annotations = Vec::new();
    if pod.assignment.as_deref() != Some(&part) {
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

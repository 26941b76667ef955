//! What brokers and sinks have in common: a probe asks them, workers that use them know better.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::controller::Action;
use millrace_contract::probe::Request;
use millrace_contract::status::{ConnectionState, LaneState, Reason as WorkerReason, RouteStatus};
use millrace_crds::{Place, TopicRoute};

use super::Error;
use super::context::{Context, route_owner};
use crate::cluster::Note;
use crate::names;
use crate::observed::{self, ChildKind};
use crate::plan::Family;
use crate::plan::probe::{self, Standing};
use crate::status::{Workers, changes};

/// A pass without a cause.
const RESYNC: Duration = Duration::from_secs(300);

/// The probe that answers a request: made when it is due, removed when it is about something else.
pub(super) async fn ask(
    family: &Family,
    request: &Request,
    places: Vec<Place<'_>>,
    seen: &observed::Family,
    needless: bool,
    context: &Context,
) -> Result<Standing, Error> {
    let json = serde_json::to_string(request).unwrap_or_default();
    // Names of pods have room for the beginning of an owner's name.
    let asks = format!("{}{json}{}", family.owner.name, context.settings.worker_image);
    let key = names::hash(asks.as_bytes());
    let standing = probe::standing(seen, &key, Timestamp::now());
    let mut kept = probe::kept(seen, &key);
    if let Standing::Due { attempt, .. } = &standing
        && !(needless && *attempt > 0)
    {
        let pod = probe::pod(family, &key, *attempt, request, places, None, &context.settings);
        let applied = context.cluster.apply(&family.owner, &pod, seen).await;
        applied.map_err(Error::Apply)?;
        kept.push(pod.name);
    }
    let is_wanted =
        |kind: ChildKind, name: &str| kind != ChildKind::Pod || kept.iter().any(|kept| kept == name);
    context
        .cluster
        .prune(&family.owner, seen, is_wanted)
        .await
        .map_err(Error::Prune)?;
    Ok(standing)
}

/// When to look again.
pub(super) fn next(standing: &Standing) -> Action {
    match standing {
        Standing::Failed(verdict) => {
            let wait =
                Duration::try_from(verdict.again_at.duration_since(Timestamp::now())).unwrap_or_default();
            Action::requeue(wait.max(Duration::from_millis(100)))
        }
        Standing::Running { .. } => Action::requeue(Duration::from_secs(30)),
        _ => Action::requeue(RESYNC),
    }
}

/// What the workers of the routes that `uses` selects say about `reasons`.
pub(super) fn hear(
    uses: impl Fn(&TopicRoute) -> bool,
    is_connected: impl Fn(&RouteStatus) -> bool,
    reasons: &[WorkerReason],
    context: &Context,
) -> Workers {
    let mut owners = Vec::new();
    context.stores.routes.visit(|route| {
        if uses(route) {
            owners.push(route_owner(route));
        }
    });
    let pods = owners.iter().flat_map(|owner| context.observed.workers_of(owner));
    let answers: Vec<RouteStatus> = pods.filter_map(|uid| context.workers.of(&uid).status).collect();
    Workers::hear(
        answers
            .iter()
            .map(|status| (is_connected(status), status.problems.as_slice())),
        reasons,
    )
}

/// Whether a worker has a connection to the broker.
pub(super) fn is_connected_to_broker(status: &RouteStatus) -> bool {
    let publishes = status
        .delivery
        .as_ref()
        .is_some_and(|delivery| delivery.connection.state == ConnectionState::Up);
    publishes || status.lanes.iter().any(|lane| lane.state == LaneState::Up)
}

/// Tells people about conditions that have changed.
pub(super) async fn tell<K: kube::Resource<DynamicType = ()>>(
    object: &K,
    old: &[Condition],
    new: &[Condition],
    context: &Context,
) {
    for condition in changes(old, new) {
        if let Some(note) = note(condition, old) {
            context.cluster.tell(object, &note).await;
        }
    }
}

/// What is said about a condition that has changed. Progress is no news; trouble and its end are.
pub(super) fn note(condition: &Condition, old: &[Condition]) -> Option<Note> {
    let was = old.iter().find(|one| one.type_ == condition.type_);
    let is_bad = match condition.type_.as_str() {
        "Ready" | "Accepted" | "ConfigurationApplied" | "CredentialsApplied" | "Delivering" => {
            condition.status != "True"
        }
        "PartitionsSufficient" | "ConsumersKeepUp" => condition.status == "False",
        "Warning" | "WindowLimited" | "SinkSaturated" => condition.status == "True",
        _ => return None,
    };
    // All is well from the beginning: nothing to tell, but that it works now.
    if !is_bad && was.is_none() && condition.type_ != "Ready" {
        return None;
    }
    let under_way = [
        "Probing",
        "WorkersStarting",
        "RollingOut",
        "Changing",
        "Connecting",
        "WaitingForTurn",
        "PartitionsGrowing",
        "PartitionsRecommended",
    ];
    let is_progress = under_way.contains(&condition.reason.as_str());
    Some(Note {
        warning: is_bad && !is_progress,
        reason: condition.reason.clone(),
        action: "Reconcile",
        text: format!("{}: {}", condition.type_, condition.message),
        once: false,
    })
}

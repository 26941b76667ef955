//! A deleted route: its MQTT sessions are ended before it goes.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::PartialObjectMetaExt as _;
use kube::runtime::controller::Action;
use millrace_contract::AnyDocument;
use millrace_crds::{MqttBroker, TopicRoute};

use super::Error;
use super::context::{Context, route_owner};
use crate::cluster::{Note, has_finalizer};
use crate::names;
use crate::observed::{ChildKind, Family, Owner, Seen};
use crate::plan;
use crate::plan::leave::{self, Situation, Step};

/// How soon it is looked again.
const SOON: Duration = Duration::from_secs(1);
/// How long it may take where a route says nothing that can be read.
const PATIENCE: Duration = Duration::from_secs(45);

/// One pass over a route that is being deleted.
pub(super) async fn reconcile(route: &Arc<TopicRoute>, context: &Context) -> Result<Action, Error> {
    if !has_finalizer(&route.metadata) {
        return Ok(Action::await_change());
    }
    let owner = route_owner(route);
    let family = context.observed.family(&owner);
    if route.spec.from.kafka.is_some() {
        // A worker that ends takes its session with it, and one that was killed has left nothing in it.
        return release(
            route,
            &family,
            &[],
            "it has no session that holds messages",
            context,
        )
        .await;
    }
    let mut step = leave::step(&situation(route, &family, context, false));
    if step == Step::Job {
        step = match start_job(route, &family, context).await? {
            Started::Yes => Step::Wait,
            Started::NamespaceTerminating => leave::step(&situation(route, &family, context, true)),
        };
    }
    match step {
        Step::Release { left, why } => release(route, &family, &left, why, context).await,
        Step::Workers | Step::Job | Step::Wait => {
            for (child, _) in plan::workers(&family) {
                context.workers.watch(&child.uid, true);
            }
            Ok(Action::requeue(SOON))
        }
    }
}

fn situation<'f>(
    route: &TopicRoute,
    family: &'f Family,
    context: &Context,
    namespace_terminating: bool,
) -> Situation<'f> {
    let (broker, sink) = context.references(route);
    let document = broker
        .as_deref()
        .zip(sink.as_deref())
        .and_then(|(broker, sink)| plan::render(route, broker, sink).ok());
    let alive = plan::workers(family).filter(|(_, pod)| !pod.deleting && pod.ip.is_some() && pod.ready);
    Situation {
        sessions: sessions(route, family, broker.as_deref()),
        workers: alive.map(|(child, _)| context.workers.of(&child.uid)).collect(),
        job: family.values().find_map(|child| match &child.seen {
            Seen::Job(job) => Some(job),
            _ => None,
        }),
        forced: route
            .metadata
            .annotations
            .iter()
            .flatten()
            .any(|(name, _)| name == names::FORCE_DELETE),
        namespace_terminating,
        // With foreground deletion the children may be gone already; what a worker once said is not.
        never_ran: route.status.as_ref().is_none_or(|status| status.lanes.is_none())
            && !family
                .keys()
                .any(|(kind, _)| matches!(kind, ChildKind::StatefulSet | ChildKind::Job)),
        // The route may refer to another broker than the one that its sessions are at.
        unknown_broker: document.is_none() || plan::leaves(family, route, broker.as_deref()).is_some(),
        waited: context.silences.deleted(&route_owner(route)),
        patience: patience(route),
    }
}

/// Client ids of the route's sessions, as far as they can be known without its broker.
fn sessions(route: &TopicRoute, family: &Family, broker: Option<&MqttBroker>) -> Vec<String> {
    let client = plan::whereabouts_of(family)
        .map(|at| at.client)
        .unwrap_or_else(|| {
            let prefix = broker.map_or("millrace", |broker| broker.spec.session.client_id_prefix.as_str());
            plan::client(route, prefix)
        });
    let lanes = 0..lanes(route, family);
    lanes.map(|lane| format!("{client}-{lane}")).collect()
}

/// Lanes that may have a session.
fn lanes(route: &TopicRoute, family: &Family) -> u16 {
    leave::lanes(plan::record_of(family), plan::goal(route, None).lanes)
}

enum Started {
    Yes,
    NamespaceTerminating,
}

async fn start_job(route: &Arc<TopicRoute>, family: &Family, context: &Context) -> Result<Started, Error> {
    let (broker, sink) = context.references(route);
    let (Some(broker), Some(sink)) = (broker, sink) else {
        return Ok(Started::NamespaceTerminating);
    };
    let Ok(AnyDocument::ToKafka(mut document)) = plan::render(route, &broker, &sink) else {
        return Ok(Started::NamespaceTerminating);
    };
    // What its sessions are subscribed to is what was written last.
    if let Some((_, live)) = plan::live(family) {
        document.live = live.clone();
    }
    let patience = patience(route).as_secs();
    let family_of = plan::Family::of(names::kind::ROUTE, route.as_ref());
    let job = leave::job(
        &family_of,
        &document,
        lanes(route, family),
        route,
        (&broker, &sink),
        patience,
        &context.settings,
    );
    match context.cluster.apply(&family_of.owner, &job, family).await {
        Ok(()) => Ok(Started::Yes),
        Err(error) if error.is_namespace_terminating() => Ok(Started::NamespaceTerminating),
        Err(error) => Err(Error::Apply(error)),
    }
}

/// How long a route's lanes may take to end their sessions.
pub(super) fn patience(route: &TopicRoute) -> Duration {
    route.spec.timeouts.leave.parse().unwrap_or(PATIENCE)
}

/// Says, in an Event and in the log, which sessions are left behind.
pub(super) async fn tell_left<K: Resource<DynamicType = ()>>(
    route: &K,
    action: &'static str,
    what: &str,
    context: &Context,
) {
    let name = names::full(route.meta());
    let note = Note {
        warning: true,
        reason: "SessionsLeft".into(),
        action,
        text: format!("TopicRoute {name}: {what}"),
        // The route is seen once more before it is seen to be gone, or as it is written.
        once: true,
    };
    if context.cluster.tell(route, &note).await {
        tracing::warn!(route = %name, "{}", note.text);
    }
}

/// Lets a route go that cannot be read: nothing can be done for it.
pub(super) async fn release_unread(meta: &ObjectMeta, context: &Context) -> Result<(), Error> {
    let route = meta.clone().into_response_partial::<TopicRoute>();
    let what = "this operator cannot read it, so its MQTT sessions are left to expire at the broker, with what it holds for them";
    tell_left(&route, "Delete", what, context).await;
    let owner = Owner::of(names::kind::ROUTE, &route);
    end_jobs(&owner, &context.observed.family(&owner), context).await?;
    let released = context.cluster.set_finalizer(meta, false).await;
    context.silences.forget(&owner);
    released.map(drop).map_err(Error::Finalizer)
}

/// What has no owner does not go by itself.
async fn end_jobs(owner: &Owner, family: &Family, context: &Context) -> Result<(), Error> {
    for ((kind, name), child) in family {
        if *kind == ChildKind::Job && !child.deleting {
            let ended = context.cluster.delete(*kind, owner, name, &child.uid).await;
            ended.map_err(Error::Prune)?;
        }
    }
    Ok(())
}

/// Lets the route go, and says what is left behind.
async fn release(
    route: &Arc<TopicRoute>,
    family: &Family,
    left: &[String],
    why: &str,
    context: &Context,
) -> Result<Action, Error> {
    let owner = route_owner(route);
    if !left.is_empty() {
        let what = format!(
            "{why}; these MQTT sessions are left to expire at the broker, with what it holds for them: {}",
            left.join(", ")
        );
        tell_left(route.as_ref(), "Delete", &what, context).await;
    }
    end_jobs(&owner, family, context).await?;
    context
        .cluster
        .set_finalizer(&route.metadata, false)
        .await
        .map_err(Error::Finalizer)?;
    // A watch shows it once more, perhaps when its Job is gone already: another would outlive it.
    context.stores.routes.let_go(route);
    // The next of its name begins anew.
    context.silences.forget(&owner);
    Ok(Action::await_change())
}

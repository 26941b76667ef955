//! Sinks: whether they can be reached, and the topics that routes name.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use millrace_contract::probe::{Request, SinkRequest};
use millrace_contract::status::Reason as WorkerReason;
use millrace_contract::survey::Surveyed;
use millrace_crds::api::{GrowthPolicy, KafkaSinkStatus, TopicPolicy};
use millrace_crds::{
    KafkaSink, RenderOptions, SessionSource, TopicRoute, known_topics, name_at, sink_document, sink_places,
};

use super::context::Context;
use super::{Error, endpoint};
use crate::cluster::TopicOwners;
use crate::names;
use crate::observed::{COUNTS, Owner};
use crate::plan::{Family, Rejection};
use crate::status::{self, Asked, Reason, SinkFacts, Watched, Workers};

/// As many topics as one probe is asked about: its answer has little room.
const MAX_TOPICS: usize = 40;
/// How often it is looked at what workers see of Kafka.
const LOOK: Duration = Duration::from_secs(15);

/// One pass over a sink.
pub(super) async fn reconcile(sink: Arc<KafkaSink>, context: &Context) -> Result<Action, Error> {
    if sink.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let is_connected = |status: &millrace_contract::status::RouteStatus| status.ready;
    let workers = endpoint::hear(
        |route| context.uses_sink(route, &sink),
        is_connected,
        &[
            WorkerReason::KafkaUnreachable,
            WorkerReason::KafkaRefused,
            WorkerReason::KafkaTlsFailed,
            WorkerReason::TokenUnavailable,
        ],
        context,
    );
    let asked = match request(&sink, context) {
        Ok(request) => {
            let family = Family::of(names::kind::SINK, sink.as_ref());
            let seen = context
                .observed
                .family(&Owner::of(names::kind::SINK, sink.as_ref()));
            let needless = workers == Workers::Connected;
            Ok(endpoint::ask(&family, &request, sink_places(&sink), &seen, needless, context).await?)
        }
        Err(rejection) => Err(rejection),
    };
    let routes = routes(&sink, context);
    let watched = Watched {
        routes: routes
            .iter()
            .filter_map(|(route, seen)| Some((route.0.as_ref().ok()?, seen.clone())))
            .collect(),
        owners: owners(&sink, context).await,
    };
    let watched_by = watcher(&sink, &watched);
    let is_looked_at = watched.routes.iter().any(|(_, seen)| seen.is_some());
    let facts = SinkFacts {
        watched,
        watched_by,
        sink: &sink,
        asked: asked.as_ref().map_err(Clone::clone).map(|standing| Asked {
            standing,
            workers: workers.clone(),
        }),
        now: Timestamp::now(),
    };
    let new = status::sink(&facts);
    let wait = write_status(&sink, &new, context).await?;
    let next = asked
        .as_ref()
        .map_or_else(|_| Action::await_change(), endpoint::next);
    // Rates and lags change without an event.
    Ok(match wait.or(is_looked_at.then_some(LOOK)) {
        Some(wait) => Action::requeue(wait.min(LOOK)),
        None => next,
    })
}

/// Writes a status that has changed; if only counts have, not too often. Returns how long to wait with those.
async fn write_status(
    sink: &KafkaSink,
    new: &KafkaSinkStatus,
    context: &Context,
) -> Result<Option<Duration>, Error> {
    let old = sink.status.clone().unwrap_or_default();
    if sink.status.as_ref() == Some(new) {
        return Ok(None);
    }
    let owner = Owner::of(names::kind::SINK, sink);
    if without_counts(&old) == without_counts(new) {
        let wait = context.ledger_pace.wait(&owner, COUNTS);
        if !wait.is_zero() {
            return Ok(Some(wait));
        }
    }
    let written = context.cluster.patch_status(sink, new).await;
    context.stores.sinks.wrote(written.map_err(Error::Status)?);
    context.ledger_pace.written(&owner);
    endpoint::tell(sink, &old.conditions, &new.conditions, context).await;
    Ok(None)
}

/// A status without what changes all the time while all is well.
fn without_counts(status: &KafkaSinkStatus) -> KafkaSinkStatus {
    let mut status = status.clone();
    for topic in &mut status.topics {
        topic.peak_records_per_second = None;
    }
    for group in &mut status.watched_groups {
        group.lag = group.lag.map(|_| 0);
        for topic in &mut group.topics {
            topic.lag = topic.lag.map(|_| 0);
        }
    }
    status
}

type Seen = Arc<DeserializeGuard<TopicRoute>>;

/// The routes of a sink, in the order of their names, with what a worker of each sees of Kafka.
fn routes(sink: &KafkaSink, context: &Context) -> Vec<(Seen, Option<Surveyed>)> {
    let mut routes: Vec<Seen> = context.stores.routes.seen().state();
    routes.retain(|guard| guard.0.as_ref().is_ok_and(|route| context.uses_sink(route, sink)));
    routes.sort_by_key(|guard| (guard.name_any(), guard.namespace()));
    let seen = |guard: Seen| {
        let owner = Owner::of(names::kind::ROUTE, guard.as_ref());
        let pods = context.observed.workers_of(&owner);
        let survey = pods.iter().find_map(|uid| context.workers.survey(uid));
        (guard, survey)
    };
    routes.into_iter().map(seen).collect()
}

/// Which topics other operators own. Asked where partitions are to be added at all.
async fn owners(sink: &KafkaSink, context: &Context) -> TopicOwners {
    let grows = |policy: &TopicPolicy| policy.growth.policy == GrowthPolicy::Grow;
    match sink.spec.topics.iter().any(grows) {
        true => context.topic_owners.get(&context.cluster).await,
        false => TopicOwners::default(),
    }
}

/// The route whose workers are to watch consumer groups: the one that does, as long as it runs.
fn watcher(sink: &KafkaSink, watched: &Watched<'_>) -> Option<String> {
    if sink.spec.watched_groups.is_empty() {
        return None;
    }
    let routes = watched.routes.iter().map(|(route, _)| *route);
    let able = routes.filter(|route| status::can_look(route));
    let able: Vec<String> = able.map(|route| name_at(route, sink)).collect();
    let now = sink.status.as_ref().and_then(|status| status.watched_by.clone());
    let stays = now.filter(|now| able.contains(now));
    stays.or(able.into_iter().next())
}

fn request(sink: &KafkaSink, context: &Context) -> Result<Request, Rejection> {
    context.checks.sink(sink)?;
    let options = RenderOptions {
        session: SessionSource::Uid,
        places: &crate::plan::file,
    };
    let document = sink_document(sink, &options)
        .map_err(|error| Rejection::new(Reason::Invalid, format!("{}: {}", error.field, error.message)))?;
    let mut topics = BTreeSet::new();
    context.stores.routes.visit(|route| {
        if context.uses_sink(route, sink) {
            topics.extend(known_topics(route));
        }
    });
    Ok(Request {
        broker: None,
        sink: Some(SinkRequest {
            sink: document,
            topics: topics.into_iter().take(MAX_TOPICS).collect(),
        }),
    })
}

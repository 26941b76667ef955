//! Sinks: whether they can be reached, and the topics that routes name.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use millrace_contract::probe::{Request, SinkRequest};
use millrace_contract::status::Reason as WorkerReason;
use millrace_crds::{KafkaSink, TopicRoute, known_topics, sink_document};

use super::context::Context;
use super::{Error, endpoint};
use crate::names;
use crate::observed::Owner;
use crate::plan::{Family, Rejection};
use crate::status::{self, Asked, Reason, SinkFacts, Workers};

/// As many topics as one probe is asked about: its answer has little room.
const MAX_TOPICS: usize = 40;

/// One pass over a sink.
pub(super) async fn reconcile(sink: Arc<KafkaSink>, context: &Context) -> Result<Action, Error> {
    if sink.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let is_connected = |status: &millrace_contract::status::RouteStatus| status.ready;
    let workers = endpoint::hear(
        |route| uses(route, &sink),
        is_connected,
        &[WorkerReason::KafkaUnreachable],
        context,
    );
    let asked = match request(&sink, context) {
        Ok(request) => {
            let family = Family::of(names::kind::SINK, sink.as_ref());
            let seen = context
                .observed
                .family(&Owner::of(names::kind::SINK, sink.as_ref()));
            let needless = workers == Workers::Connected;
            Ok(endpoint::ask(&family, &request, None, &seen, needless, context).await?)
        }
        Err(rejection) => Err(rejection),
    };
    let facts = SinkFacts {
        sink: &sink,
        asked: asked.as_ref().map_err(Clone::clone).map(|standing| Asked {
            standing,
            workers: workers.clone(),
        }),
        now: Timestamp::now(),
    };
    let new = status::sink(&facts);
    if sink.status.as_ref() != Some(&new) {
        let written = context.cluster.patch_status(sink.as_ref(), &new).await;
        context.stores.sinks.wrote(written.map_err(Error::Status)?);
        let old = sink.status.clone().unwrap_or_default();
        endpoint::tell(sink.as_ref(), &old.conditions, &new.conditions, context).await;
    }
    Ok(asked
        .as_ref()
        .map_or_else(|_| Action::await_change(), endpoint::next))
}

fn uses(route: &TopicRoute, sink: &KafkaSink) -> bool {
    let refers = route.spec.sink_ref().map(|(_, named)| named.name.as_str());
    route.metadata.namespace == sink.metadata.namespace && refers == sink.metadata.name.as_deref()
}

fn request(sink: &KafkaSink, context: &Context) -> Result<Request, Rejection> {
    context.checks.sink(sink)?;
    let document = sink_document(sink)
        .map_err(|error| Rejection::new(Reason::Invalid, format!("{}: {}", error.field, error.message)))?;
    let mut topics = BTreeSet::new();
    context.stores.routes.visit(|route| {
        if uses(route, sink) {
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

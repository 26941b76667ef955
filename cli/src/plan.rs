//! From valid manifests to the documents that workers run.

use std::cell::RefCell;
use std::collections::BTreeSet;

use millrace_contract::{AnyDocument, Value};
use millrace_crds::{Objects, Place, RenderError, RenderOptions, SessionSource, TopicRoute, document};

use crate::secrets::{Missing, Secrets};

/// What to run, and what not.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// One document per route.
    pub(crate) documents: Vec<AnyDocument>,
    /// Routes that are left out because `spec.paused` is true, as `namespace/name`.
    pub(crate) paused: Vec<String>,
}

/// Why manifests cannot be run here though they are valid.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// Secret values that are nowhere.
    #[error("{}", list(.0))]
    Secrets(BTreeSet<Missing>),
    /// A route refers to an object that is not among the manifests. Validation reports it before.
    #[error("TopicRoute {0}: the MqttBroker or KafkaSink that it refers to is missing")]
    Reference(String),
    /// An object cannot be rendered. Validation reports it before.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// There is nothing to do.
    #[error("no TopicRoute to run: {0}")]
    Nothing(&'static str),
}

fn list(missing: &BTreeSet<Missing>) -> String {
    missing
        .iter()
        .map(Missing::to_string)
        .collect::<Vec<_>>()
        .join("\n       ")
}

/// Renders every route of `objects` that is not paused. `instance` tells the sessions of two machines apart that run
/// the same manifests; `is_set` says whether an environment variable is.
pub(crate) fn plan(
    objects: &Objects,
    instance: &str,
    secrets: &Secrets,
    is_set: &dyn Fn(&str) -> bool,
) -> Result<Plan, PlanError> {
    let missing = RefCell::new(BTreeSet::new());
    let resolve = |place: &Place<'_>| {
        secrets.find(place, is_set).unwrap_or_else(|absent| {
            missing.borrow_mut().insert(absent);
            // Never read: a plan with something missing is an error.
            Value::Literal(String::new())
        })
    };
    let options = RenderOptions {
        session: SessionSource::Instance(instance),
        places: &resolve,
    };

    let mut plan = Plan::default();
    for route in &objects.routes {
        if route.spec.paused {
            plan.paused.push(id(route));
            continue;
        }
        let (Some(broker), Some(sink)) = (objects.broker_of(route), objects.sink_of(route)) else {
            return Err(PlanError::Reference(id(route)));
        };
        plan.documents.push(document(route, broker, sink, &options)?);
    }
    let missing = missing.into_inner();
    if !missing.is_empty() {
        return Err(PlanError::Secrets(missing));
    }
    match (plan.documents.is_empty(), plan.paused.is_empty()) {
        (true, true) => Err(PlanError::Nothing("the manifests contain none")),
        (true, false) => Err(PlanError::Nothing("all are paused")),
        _ => Ok(plan),
    }
}

fn id(route: &TopicRoute) -> String {
    let metadata = &route.metadata;
    let part = |text: &Option<String>, absent: &str| text.as_deref().unwrap_or(absent).to_owned();
    format!(
        "{}/{}",
        part(&metadata.namespace, "default"),
        part(&metadata.name, "")
    )
}

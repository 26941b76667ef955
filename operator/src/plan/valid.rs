//! The same checks as `millrace validate`: what it says of a manifest holds in the cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Namespace;
use kube::Resource;
use kube::api::ObjectMeta;
use millrace_crds::api::Labels;
use millrace_crds::{KafkaSink, ManifestFile, MqttBroker, Severity, TopicRoute, validate};
use serde::Serialize;

use super::Rejection;
use crate::names;
use crate::observed::Owner;
use crate::status::Reason;

/// Checks objects as their users wrote them. A check takes some milliseconds, most of them for the rules of the
/// definitions: what was checked is not checked again before somebody writes something else.
#[derive(Debug, Default)]
pub struct Checks {
    checked: Mutex<HashMap<Owner, Checked>>,
}

#[derive(Debug)]
struct Checked {
    objects: Objects,
    result: Result<(), Rejection>,
}

/// What a check depends on.
#[derive(Debug, PartialEq)]
struct Objects {
    written: Vec<Written>,
    labels: Option<Labels>,
}

impl Objects {
    fn alone<K: Resource>(object: &K) -> Self {
        Self {
            written: vec![written(object)],
            labels: None,
        }
    }
}

/// What an object is and how its user has written it: uid and generation.
type Written = (Option<String>, Option<i64>);

fn written<K: Resource>(object: &K) -> Written {
    (object.meta().uid.clone(), object.meta().generation)
}

impl Checks {
    /// Checks a broker by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn broker(&self, broker: &MqttBroker) -> Result<(), Rejection> {
        self.remember(names::kind::BROKER, broker, Objects::alone(broker), || {
            check("MqttBroker", &[manifest(broker)])
        })
    }

    /// Checks a sink by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn sink(&self, sink: &KafkaSink) -> Result<(), Rejection> {
        self.remember(names::kind::SINK, sink, Objects::alone(sink), || {
            check("KafkaSink", &[manifest(sink)])
        })
    }

    /// Checks a route with what it refers to, and the labels of its namespace if that is another.
    pub(super) fn route(
        &self,
        route: &TopicRoute,
        broker: &MqttBroker,
        sink: &KafkaSink,
        labels: Option<&Labels>,
    ) -> Result<(), Rejection> {
        let objects = Objects {
            written: vec![written(route), written(broker), written(sink)],
            labels: labels.cloned(),
        };
        self.remember(names::kind::ROUTE, route, objects, || {
            let namespace = Namespace {
                metadata: ObjectMeta {
                    name: route.metadata.namespace.clone(),
                    labels: labels.cloned(),
                    ..ObjectMeta::default()
                },
                ..Namespace::default()
            };
            let manifests = [
                manifest(route),
                manifest(broker),
                manifest(sink),
                manifest(&namespace),
            ];
            check("TopicRoute", &manifests)
        })
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, owner: &Owner) {
        self.checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner);
    }

    fn remember<K: Resource<DynamicType = ()>>(
        &self,
        kind: &'static str,
        object: &K,
        objects: Objects,
        check: impl FnOnce() -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        let owner = Owner::of(kind, object);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = checked.get(&owner)
            && before.objects == objects
        {
            return before.result.clone();
        }
        let result = check();
        let now = Checked {
            objects,
            result: result.clone(),
        };
        checked.insert(owner, now);
        result
    }
}

/// An object as its user has written it: the status is written by others.
fn manifest(object: &impl Serialize) -> ManifestFile {
    // Objects that were read as JSON can be written as JSON.
    let mut object = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    ManifestFile {
        path: String::new(),
        text: object.to_string(),
    }
}

/// Whose kind is not `kind` is named in the message.
fn check(kind: &str, manifests: &[ManifestFile]) -> Result<(), Rejection> {
    let report = validate(manifests);
    let errors: Vec<String> = report
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| {
            let object = if finding.object.starts_with(kind) {
                String::new()
            } else {
                format!("{}: ", finding.object)
            };
            format!("{object}{}: {}", finding.field, finding.message)
        })
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Rejection::new(Reason::Invalid, errors.join("; ")))
}

//! The same checks as `millrace validate`: what it says of a manifest holds in the cluster.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use kube::Resource;
use millrace_crds::{KafkaSink, ManifestFile, MqttBroker, Severity, TopicRoute, validate};
use serde::Serialize;

use super::Rejection;
use crate::names::{self, Digest};
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
    text: Digest,
    result: Result<(), Rejection>,
}

impl Checks {
    /// Checks a broker by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn broker(&self, broker: &MqttBroker) -> Result<(), Rejection> {
        self.check(names::kind::BROKER, broker, [manifest(broker)])
    }

    /// Checks a sink by itself.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn sink(&self, sink: &KafkaSink) -> Result<(), Rejection> {
        self.check(names::kind::SINK, sink, [manifest(sink)])
    }

    /// Checks a route with what it refers to.
    pub(super) fn route(
        &self,
        route: &TopicRoute,
        broker: &MqttBroker,
        sink: &KafkaSink,
    ) -> Result<(), Rejection> {
        let manifests = [manifest(route), manifest(broker), manifest(sink)];
        self.check(names::kind::ROUTE, route, manifests)
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, owner: &Owner) {
        self.checked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(owner);
    }

    fn check<K, const N: usize>(
        &self,
        kind: &'static str,
        object: &K,
        manifests: [ManifestFile; N],
    ) -> Result<(), Rejection>
    where
        K: Resource<DynamicType = ()>,
    {
        let owner = Owner::of(kind, object);
        let texts: Vec<&str> = manifests.iter().map(|manifest| manifest.text.as_str()).collect();
        let text = names::digest(texts.join("\n").as_bytes());
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = checked.get(&owner)
            && before.text == text
        {
            return before.result.clone();
        }
        let result = check(&K::kind(&()), manifests);
        let now = Checked {
            text,
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
        if let Some(meta) = fields.get_mut("metadata").and_then(|meta| meta.as_object_mut()) {
            meta.remove("resourceVersion");
        }
    }
    ManifestFile {
        path: String::new(),
        text: object.to_string(),
    }
}

/// Whose kind is not `kind` is named in the message.
fn check<const N: usize>(kind: &str, manifests: [ManifestFile; N]) -> Result<(), Rejection> {
    let report = validate(&manifests);
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

//! The same checks as `millrace validate`: what it says of a manifest holds in the cluster.

use millrace_crds::{KafkaSink, ManifestFile, MqttBroker, Severity, TopicRoute, validate};
use serde::Serialize;

use super::Rejection;
use crate::status::Reason;

/// Checks a broker by itself.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_broker(broker: &MqttBroker) -> Result<(), Rejection> {
    check("MqttBroker", [manifest(broker)])
}

/// Checks a sink by itself.
///
/// # Errors
/// Everything that is wrong with it.
pub fn check_sink(sink: &KafkaSink) -> Result<(), Rejection> {
    check("KafkaSink", [manifest(sink)])
}

/// Checks a route with what it refers to.
pub(super) fn check_route(
    route: &TopicRoute,
    broker: &MqttBroker,
    sink: &KafkaSink,
) -> Result<(), Rejection> {
    check("TopicRoute", [manifest(route), manifest(broker), manifest(sink)])
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

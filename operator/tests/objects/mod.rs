//! What tests read of objects that are JSON.

#![allow(dead_code, reason = "each of the tests that share it uses a part")]

use jiff::Timestamp;
use serde_json::Value;

/// What tells an object from another of its name.
pub(crate) fn uid(object: &Value) -> Option<&str> {
    object["metadata"]["uid"].as_str()
}

/// The value of an annotation.
pub(crate) fn annotation<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][name].as_str()
}

/// Whether an object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !object["metadata"]["deletionTimestamp"].is_null()
}

/// The conditions of an object.
pub(crate) fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"].as_array().into_iter().flatten()
}

/// A condition of an object, if it is about its newest generation.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let generation = &object["metadata"]["generation"];
    conditions(object).find(|one| one["type"] == kind && one["observedGeneration"] == *generation)
}

/// Whether a condition about the newest generation has a status.
pub(crate) fn is(object: &Value, kind: &str, status: &str) -> bool {
    condition(object, kind).is_some_and(|one| one["status"] == status)
}

/// The plural of one of our kinds, from a manifest.
pub(crate) fn plural_of(object: &Value) -> &'static str {
    match object["kind"].as_str() {
        Some("MqttBroker") => "mqttbrokers",
        Some("KafkaSink") => "kafkasinks",
        Some("Namespace") => "namespaces",
        _ => "topicroutes",
    }
}

/// The time, as objects have it.
pub(crate) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

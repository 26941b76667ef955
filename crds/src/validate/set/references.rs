//! From routes to brokers and sinks, from brokers to Secrets.

use serde_json::Value;

use crate::api::{MqttBroker, Named, ObjectRef, Ordering, ProtocolVersion, SharedSubscriptions, TopicRoute};
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object, suggest};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let notes = manifests.iter().enumerate().flat_map(|(index, manifest)| {
        let notes = match &manifest.object {
            Object::Route(route) => route_references(route, manifests),
            Object::Broker(broker) => secret(broker, manifests),
            Object::Sink(_) | Object::Secret(_) | Object::Unknown => Vec::new(),
        };
        notes.into_iter().map(move |note| (index, note))
    });
    notes.collect()
}

fn route_references(route: &TopicRoute, manifests: &[Manifest<'_>]) -> Vec<Note> {
    let broker = route
        .spec
        .broker_ref()
        .map(|(field, named)| ("MqttBroker", field, named));
    let sink = route
        .spec
        .sink_ref()
        .map(|(field, named)| ("KafkaSink", field, named));
    let references = broker.into_iter().chain(sink);
    references
        .filter_map(|(kind, field, reference)| missing(kind, field, reference, route.namespace(), manifests))
        .chain(ordering(route, manifests))
        .collect()
}

/// A reference to an object that is not in the set. One with errors of its own counts as there.
fn missing(
    kind: &str,
    field: &str,
    reference: &ObjectRef,
    namespace: &str,
    manifests: &[Manifest<'_>],
) -> Option<Note> {
    let path = FieldPath::parse(field).key("name");
    let name = reference.name.as_str();
    let of_kind = || {
        manifests
            .iter()
            .map(|manifest| &manifest.identity)
            .filter(|identity| identity.kind == kind)
    };
    if of_kind().any(|identity| identity.name == name && identity.namespace == namespace) {
        return None;
    }
    if of_kind().next().is_none() {
        let message = format!(
            "there is no {kind} in these files, so it is not known whether {name} exists: add its file"
        );
        return Some(Note::warning(path, message));
    }
    let advice = match of_kind().find(|identity| identity.name == name) {
        Some(other) => format!(
            "the one of this name is in namespace {}, and a route refers to its own, {namespace}: move one of the two",
            other.namespace
        ),
        None => {
            let here: Vec<&str> = of_kind()
                .filter(|identity| identity.namespace == namespace)
                .map(|i| i.name.as_str())
                .collect();
            match suggest::closest(name, here.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None if here.is_empty() => format!("add one to namespace {namespace}"),
                None => format!("write one of {}, or add it", here.join(", ")),
            }
        }
    };
    Some(Note::error(
        path,
        format!("there is no {kind} {name} in namespace {namespace}; {advice}"),
    ))
}

/// Unordered routes share their subscriptions between lanes.
fn ordering(route: &TopicRoute, manifests: &[Manifest<'_>]) -> Option<Note> {
    let mqtt = route.spec.from.mqtt.as_ref()?;
    let broker = manifests.iter().find_map(|manifest| match &manifest.object {
        Object::Broker(broker) if is_referred(broker, &mqtt.broker_ref, route.namespace()) => Some(broker),
        _ => None,
    })?;
    let path = FieldPath::parse("spec.from.mqtt.ordering");
    let name = broker.name();
    match (
        mqtt.ordering,
        broker.spec.shared_subscriptions,
        broker.spec.protocol_version,
    ) {
        (Ordering::Unordered, SharedSubscriptions::Unsupported, _) => Some(Note::error(
            path,
            format!(
                "Unordered needs shared subscriptions, and MqttBroker {name} has sharedSubscriptions: Unsupported; write \
                 ordering: PerTopic"
            ),
        )),
        (Ordering::Unordered, SharedSubscriptions::Auto, ProtocolVersion::V311) => Some(Note::warning(
            path,
            format!(
                "Unordered needs shared subscriptions, and with MQTT 3.1.1 MqttBroker {name} cannot say whether it has \
                 them; write ordering: PerTopic here, or sharedSubscriptions: Supported there if it has"
            ),
        )),
        _ => None,
    }
}

fn is_referred(broker: &MqttBroker, reference: &ObjectRef, namespace: &str) -> bool {
    broker.name() == reference.name && broker.namespace() == namespace
}

/// A Secret of the set that lacks a key. Whether a Secret exists elsewhere is not known here.
fn secret(broker: &MqttBroker, manifests: &[Manifest<'_>]) -> Vec<Note> {
    let Some(basic) = broker.spec.auth.as_ref().and_then(|auth| auth.basic.as_ref()) else {
        return Vec::new();
    };
    let path = FieldPath::parse("spec.auth.basic");
    let name = basic.secret_ref.name.as_str();
    let found = manifests.iter().find_map(|manifest| match &manifest.object {
        Object::Secret(secret)
            if manifest.identity.name == name && manifest.identity.namespace == broker.namespace() =>
        {
            Some(secret)
        }
        _ => None,
    });
    let Some(found) = found else { return Vec::new() };
    let keys = keys(found);
    let username = basic
        .username
        .is_none()
        .then(|| ("usernameKey", basic.username_key()));
    let wanted = username
        .into_iter()
        .chain([("passwordKey", basic.password_key.as_str())]);
    wanted
        .filter(|(_, key)| !keys.contains(key))
        .map(|(field, key)| {
            let message = format!(
                "Secret {name} has no key {key}; write one that it has: {}",
                keys.join(", ")
            );
            Note::error(path.key(field), message)
        })
        .collect()
}

fn keys(secret: &Value) -> Vec<&str> {
    let maps = [&secret["data"], &secret["stringData"]];
    maps.into_iter()
        .filter_map(Value::as_object)
        .flat_map(|map| map.keys().map(String::as_str))
        .collect()
}

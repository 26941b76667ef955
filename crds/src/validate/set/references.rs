//! From routes to brokers and sinks, from brokers to Secrets.

use serde_json::Value;

use crate::api::{MqttBroker, Named, ObjectRef, Ordering, ProtocolVersion, SharedSubscriptions, TopicRoute};
use crate::places::{self, Place};
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object, suggest};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let notes = manifests.iter().enumerate().flat_map(|(index, manifest)| {
        let notes = match &manifest.object {
            Object::Route(route) => route_references(route, manifests),
            Object::Broker(broker) => keys_of(places::of_broker(broker), manifests),
            Object::Sink(sink) => keys_of(places::of_sink(sink), manifests),
            Object::Keys(_) | Object::Unknown => Vec::new(),
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

/// Secrets and ConfigMaps of the set that lack a key. Whether one exists elsewhere is not known here.
fn keys_of(places: Vec<(String, Place<'_>)>, manifests: &[Manifest<'_>]) -> Vec<Note> {
    let notes = places.into_iter().filter_map(|(field, place)| {
        let (kind, key) = match place {
            Place::Secret(key) => ("Secret", key),
            Place::ConfigMap(key) => ("ConfigMap", key),
            Place::Token { .. } => return None,
        };
        let found = manifests.iter().find_map(|manifest| match &manifest.object {
            Object::Keys(object)
                if manifest.identity.kind == kind
                    && manifest.identity.name == key.name
                    && manifest.identity.namespace == key.namespace =>
            {
                Some(object)
            }
            _ => None,
        });
        let keys = keys(found?);
        if keys.contains(&key.key) {
            return None;
        }
        let message = format!(
            "{kind} {} has no key {}; write one that it has: {}",
            key.name,
            key.key,
            keys.join(", ")
        );
        Some(Note::error(FieldPath::parse(&field), message))
    });
    notes.collect()
}

fn keys(object: &Value) -> Vec<&str> {
    let maps = [&object["data"], &object["stringData"], &object["binaryData"]];
    maps.into_iter()
        .filter_map(Value::as_object)
        .flat_map(|map| map.keys().map(String::as_str))
        .collect()
}

//! From routes to brokers and sinks, from brokers to Secrets.

use serde_json::Value;

use crate::api::{
    NAMESPACE_NAME_LABEL, Named, Ordering, ProtocolVersion, Reference, SharedSubscriptions, TopicRoute,
};
use crate::places::{self, Place, broker_places, sink_places};
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object, suggest};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let notes = manifests.iter().enumerate().flat_map(|(index, manifest)| {
        let notes = match &manifest.object {
            Object::Route(route) => route_references(route, manifests),
            Object::Broker(broker) => keys_of(places::of_broker(broker), None, manifests),
            Object::Sink(sink) => keys_of(places::of_sink(sink), None, manifests),
            Object::Keys(_) | Object::Namespace(_) | Object::Unknown => Vec::new(),
        };
        notes.into_iter().map(move |note| (index, note))
    });
    notes.collect()
}

fn route_references(route: &TopicRoute, manifests: &[Manifest<'_>]) -> Vec<Note> {
    let broker = route.broker_ref().map(|reference| ("MqttBroker", reference));
    let sink = route.sink_ref().map(|reference| ("KafkaSink", reference));
    let references = broker.into_iter().chain(sink);
    references
        .filter_map(|(kind, reference)| {
            missing(kind, reference, route.namespace(), manifests)
                .or_else(|| not_granted(kind, reference, route, manifests))
        })
        .chain(ordering(route, manifests))
        .chain(keys_of_route(route, manifests))
        .collect()
}

/// A reference to an object that is not in the set. One with errors of its own counts as there.
fn missing(
    kind: &str,
    reference: Reference<'_>,
    own_namespace: &str,
    manifests: &[Manifest<'_>],
) -> Option<Note> {
    let path = FieldPath::parse(reference.field).key("name");
    let Reference { namespace, name, .. } = reference;
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
        Some(other) if namespace == own_namespace => format!(
            "the one of this name is in namespace {0}: write namespace: {0} beside the name, and let its allowedRoutes admit \
             namespace {own_namespace}, or move one of the two",
            other.namespace
        ),
        Some(other) => format!("the one of this name is in namespace {}", other.namespace),
        None => {
            let there: Vec<&str> = of_kind()
                .filter(|identity| identity.namespace == namespace)
                .map(|i| i.name.as_str())
                .collect();
            match suggest::closest(name, there.iter().copied()) {
                Some(close) => format!("did you mean {close}?"),
                None if there.is_empty() => format!("add one to namespace {namespace}"),
                None => format!("write one of {}, or add it", there.join(", ")),
            }
        }
    };
    Some(Note::error(
        path,
        format!("there is no {kind} {name} in namespace {namespace}; {advice}"),
    ))
}

/// A reference to an object of another namespace that does not admit the route.
fn not_granted(
    kind: &str,
    reference: Reference<'_>,
    route: &TopicRoute,
    manifests: &[Manifest<'_>],
) -> Option<Note> {
    let own_namespace = route.namespace();
    let labels = manifests.iter().find_map(|manifest| match &manifest.object {
        Object::Namespace(labels) if manifest.identity.name == own_namespace => Some(labels),
        _ => None,
    });
    let admitted = manifests.iter().find_map(|manifest| match &manifest.object {
        Object::Broker(broker) if kind == "MqttBroker" && reference.is_to(broker.as_ref()) => {
            Some(broker.admits(route, labels))
        }
        Object::Sink(sink) if kind == "KafkaSink" && reference.is_to(sink.as_ref()) => {
            Some(sink.admits(route, labels))
        }
        _ => None,
    })?;
    let path = FieldPath::parse(reference.field).key("namespace");
    let Reference { namespace, name, .. } = reference;
    match admitted {
        Some(true) => None,
        Some(false) => Some(Note::error(
            path,
            format!(
                "{kind} {namespace}/{name} does not admit routes of namespace {own_namespace}: write there spec.allowedRoutes: \
                 {{namespaces: {{from: Selector, selector: {{matchLabels: {{{NAMESPACE_NAME_LABEL}: {own_namespace}}}}}}}}}"
            ),
        )),
        None => Some(Note::warning(
            path,
            format!(
                "whether {kind} {namespace}/{name} admits routes of namespace {own_namespace} depends on the labels of that \
                 Namespace: add its manifest"
            ),
        )),
    }
}

/// Workers of a route are given what is in its own namespace: keys that objects of another namespace name.
fn keys_of_route(route: &TopicRoute, manifests: &[Manifest<'_>]) -> Vec<Note> {
    let own = route.namespace();
    let references = [route.broker_ref(), route.sink_ref()].into_iter().flatten();
    let elsewhere: Vec<Reference<'_>> = references.filter(|it| it.namespace != own).collect();
    let notes = manifests.iter().flat_map(|manifest| {
        let referred = |object: &dyn Fn(&Reference<'_>) -> bool| elsewhere.iter().find(|it| object(it));
        let (reference, places) = match &manifest.object {
            Object::Broker(it) => (referred(&|one| one.is_to(it.as_ref())), broker_places(it)),
            Object::Sink(it) => (referred(&|one| one.is_to(it.as_ref())), sink_places(it)),
            _ => (None, Vec::new()),
        };
        let Some(reference) = reference else {
            return Vec::new();
        };
        let places = places.into_iter().map(|place| place.within(own));
        let places = places.map(|place| (reference.field.to_owned(), place));
        keys_of(places.collect(), Some(&manifest.identity.title()), manifests)
    });
    notes.collect()
}

/// Unordered routes share their subscriptions between lanes.
fn ordering(route: &TopicRoute, manifests: &[Manifest<'_>]) -> Option<Note> {
    let mqtt = route.spec.from.mqtt.as_ref()?;
    let reference = route.broker_ref()?;
    let broker = manifests.iter().find_map(|manifest| match &manifest.object {
        Object::Broker(broker) if reference.is_to(broker.as_ref()) => Some(broker),
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

/// Secrets and ConfigMaps of the set that lack a key. Whether one exists elsewhere is not known here. The object that names
/// them, if that is another than the one which the notes are about.
fn keys_of(
    places: Vec<(String, Place<'_>)>,
    named_by: Option<&str>,
    manifests: &[Manifest<'_>],
) -> Vec<Note> {
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
        let (name, wanted) = (key.name, key.key);
        let has = keys.join(", ");
        let message = match named_by {
            None => format!("{kind} {name} has no key {wanted}; write one that it has: {has}"),
            Some(object) => format!(
                "{kind} {name} of namespace {} has no key {wanted}, which {object} names; it has: {has}: add the key",
                key.namespace
            ),
        };
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

//! What one TopicRoute says.

mod filters;
mod publishing;
mod topics;

use millrace_contract as contract;
use millrace_mapping::{Mapper, MappingError, Part};

use super::path::FieldPath;
use super::{Note, bounds};
use crate::api::{KafkaDestination, MAX_SKIPPED, MqttSource, SKIP, TopicRoute, TopicRouteSpec};
use crate::units::{GepDuration, Quantity};

/// Longest name of a record header, in bytes. Kafka has no bound, and map keys cannot have one in a schema.
const MAX_HEADER_NAME: usize = 255;

pub(super) fn check(route: &TopicRoute) -> Vec<Note> {
    let spec = &route.spec;
    let mut notes = limits(spec);
    notes.extend(skipped(route));
    let mqtt = spec.from.mqtt.as_ref();
    let kafka = spec.to.kafka.as_ref();
    if let Some(mqtt) = mqtt {
        notes.extend(quality(mqtt));
        let (filters, problems) = filters::check(&mqtt.subscriptions);
        let filters_can_be_read = problems.is_empty();
        notes.extend(problems);
        // Without all filters it is not known which names they give.
        if let (true, Some(kafka)) = (filters_can_be_read, kafka) {
            notes.extend(filters::overlaps(&filters));
            notes.extend(mapping(spec, mqtt, kafka, &filters));
        }
    }
    if let (Some(from), Some(to)) = (&spec.from.kafka, &spec.to.mqtt) {
        notes.extend(publishing::check(spec, from, to));
    }
    if let Some(kafka) = kafka {
        notes.extend(header_names(kafka));
        notes.extend(topics::check(spec, kafka));
    }
    notes
}

fn limits(spec: &TopicRouteSpec) -> Vec<Note> {
    let bound = |field, text, least, most| {
        bounds::duration(field, text, &GepDuration::new(least), &GepDuration::new(most))
    };
    let expiry = spec
        .to
        .mqtt
        .as_ref()
        .and_then(|mqtt| mqtt.message_expiry_interval.as_ref());
    let linger = spec.to.kafka.as_ref().map(|kafka| &kafka.producer.linger);
    let notes = [
        bound("spec.timeouts.drain", &spec.timeouts.drain, "1s", "1h"),
        bound("spec.timeouts.failover", &spec.timeouts.failover, "1s", "1h"),
        bound("spec.timeouts.leave", &spec.timeouts.leave, "1s", "1h"),
        linger.and_then(|linger| bound("spec.to.kafka.producer.linger", linger, "0s", "10s")),
        expiry.and_then(|expiry| bound("spec.to.mqtt.messageExpiryInterval", expiry, "1s", "8760h")),
        // A message must fit into the 64 MiB that a producer buffers, with room for others.
        bounds::size(
            "spec.maxMessageBytes",
            &spec.max_message_bytes,
            &Quantity::new("32Mi"),
        ),
    ];
    notes.into_iter().flatten().collect()
}

/// What the annotation names that no message of the route can be called, and that it names too many.
fn skipped(route: &TopicRoute) -> Vec<Note> {
    let form = match route.spec.from.kafka {
        Some(_) => "topic[partition]@offset",
        None => "16 hexadecimal digits, in lower case",
    };
    let field = || FieldPath::parse("metadata.annotations");
    let wrong = route.named_to_skip().filter(|name| !route.is_name(name));
    let mut notes: Vec<Note> = wrong
        .take(MAX_SKIPPED)
        .map(|name| {
            let message = format!(
                "{SKIP}: no message of this route is called {name:?}: write what its condition Delivering names, {form}"
            );
            Note::warning(field(), message)
        })
        .collect();
    let names = route.named_to_skip().filter(|name| route.is_name(name)).count();
    if names > MAX_SKIPPED {
        let message = format!(
            "{SKIP}: of {names} messages only the first {MAX_SKIPPED} are skipped: remove those that have been"
        );
        notes.push(Note::warning(field(), message));
    }
    notes
}

fn quality(mqtt: &MqttSource) -> Option<Note> {
    (mqtt.qos == 0).then(|| {
        let message = "with QoS 0 the broker sends nothing again, so messages are lost whenever a connection is: write \
                       qos: 1 if that matters";
        Note::warning(FieldPath::parse("spec.from.mqtt.qos"), message)
    })
}

fn header_names(kafka: &KafkaDestination) -> Vec<Note> {
    let headers = FieldPath::parse("spec.to.kafka.headers");
    let too_long = kafka.headers.keys().filter(|name| name.len() > MAX_HEADER_NAME);
    let message = |name: &str| {
        format!(
            "the header's name has {} bytes, at most {MAX_HEADER_NAME} are allowed: shorten it",
            name.len()
        )
    };
    too_long
        .map(|name| Note::error(headers.clone(), message(name)))
        .collect()
}

/// Compiles filters, templates and expressions, as the worker will.
fn mapping(
    spec: &TopicRouteSpec,
    mqtt: &MqttSource,
    kafka: &KafkaDestination,
    filters: &[millrace_mapping::Filter],
) -> Vec<Note> {
    let mapping = contract::Mapping {
        when: spec.when.clone(),
        topic: kafka.topic.clone(),
        allowed_topics: kafka.allowed_topics.clone(),
        key: kafka.key.clone(),
        headers: kafka.headers.clone(),
        propagate: kafka.propagate.iter().copied().map(Into::into).collect(),
        value: kafka.value.clone(),
    };
    let compiled = Mapper::compile(&mapping, filters, mqtt.payload.format.into());
    mistakes(compiled, "spec.to.kafka")
}

/// What is wrong with the mapping of a route to `to`.
fn mistakes<T>(compiled: Result<T, Vec<MappingError>>, to: &str) -> Vec<Note> {
    let errors = compiled.err().unwrap_or_default().into_iter();
    errors
        .map(|error| Note::error(path_of(&error.part, to), error.message))
        .collect()
}

fn path_of(part: &Part, to: &str) -> FieldPath {
    let to = FieldPath::parse(to);
    match part {
        Part::Subscription(index) => filters::path(*index),
        Part::When => FieldPath::parse("spec.when"),
        Part::Header(name) => to.key("headers").key(name),
        Part::UserProperty(name) => to.key("userProperties").key(name),
        part => to.key(part.to_string()),
    }
}

//! From Kafka to MQTT.

use millrace_mapping::{RecordMapper, Template, check_kafka_topic};

use super::mistakes;
use crate::api::{ErrorAction, KafkaSource, MqttDestination, NoMatchingSubscribers, Retain, TopicRouteSpec};
use crate::render::publishing_document;
use crate::validate::Note;
use crate::validate::path::FieldPath;

pub(super) fn check(spec: &TopicRouteSpec, from: &KafkaSource, to: &MqttDestination) -> Vec<Note> {
    let mut notes = mapping(spec, from, to);
    notes.extend(topics(from));
    notes.extend(dead_letters(spec, from));
    notes.extend(everywhere(to));
    if to.qos == 0 {
        let message = "with QoS 0 the broker confirms nothing, so messages are lost with a connection: write qos: 1 if that \
                       matters";
        notes.push(Note::warning(FieldPath::parse("spec.to.mqtt.qos"), message));
    }
    if to.qos == 0 && to.no_matching_subscribers != NoMatchingSubscribers::Ignore {
        let message = "with QoS 0 the broker does not say whether somebody is subscribed: write qos: 1";
        notes.push(Note::error(
            FieldPath::parse("spec.to.mqtt.noMatchingSubscribers"),
            message,
        ));
    }
    notes.extend(kept(to));
    notes
}

/// Of a message that is kept for those who subscribe later it means nothing that nobody has yet.
fn kept(to: &MqttDestination) -> Option<Note> {
    let is_at_odds =
        to.retain == Retain::Always && to.no_matching_subscribers != NoMatchingSubscribers::Ignore;
    is_at_odds.then(|| {
        let message = "the broker keeps the message for those who subscribe later, so it has arrived if nobody has yet: write \
                       retain: Never, or leave this out";
        Note::error(
            FieldPath::parse("spec.to.mqtt.noMatchingSubscribers"),
            message,
        )
    })
}

/// Compiles templates and expressions, as the worker will.
fn mapping(spec: &TopicRouteSpec, from: &KafkaSource, to: &MqttDestination) -> Vec<Note> {
    let publishing = publishing_document(spec, to, None);
    let compiled = RecordMapper::compile(&publishing, from.payload.format.into());
    mistakes(compiled, "spec.to.mqtt")
}

fn topics(from: &KafkaSource) -> Vec<Note> {
    let path = FieldPath::parse("spec.from.kafka.topics");
    let topics = from.topics.iter().enumerate();
    topics
        .filter_map(|(index, topic)| {
            let error = check_kafka_topic(topic).err()?;
            Some(Note::error(path.index(index), error.to_string()))
        })
        .collect()
}

/// A dead letter that is read again becomes another one, for ever.
fn dead_letters(spec: &TopicRouteSpec, from: &KafkaSource) -> Option<Note> {
    let path = FieldPath::parse("spec.onError.deadLetter.topic");
    let topic = &spec.on_error.dead_letter.as_ref()?.topic;
    if let Err(error) = check_kafka_topic(topic) {
        return Some(Note::error(path, error.to_string()));
    }
    (spec.on_error.action == ErrorAction::DeadLetter && from.topics.contains(topic)).then(|| {
        let message = format!(
            "{topic:?} is a topic that the route reads, so its dead letters would come back for ever: write another one"
        );
        Note::error(path, message)
    })
}

fn everywhere(to: &MqttDestination) -> Vec<Note> {
    let is_literal = Template::parse(&to.topic).is_ok_and(|template| template.is_literal());
    let path = FieldPath::parse("spec.to.mqtt.allowedTopics");
    let filters = to.allowed_topics.iter().enumerate();
    filters
        .filter(|(_, filter)| *filter == "#" && !is_literal)
        .map(|(index, _)| {
            let message = "\"#\" lets a record choose any topic of the broker: write the topics meant, like plants/+/cmd";
            Note::warning(path.index(index), message)
        })
        .collect()
}

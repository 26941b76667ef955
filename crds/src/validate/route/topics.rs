//! The Kafka topics of a route.

use millrace_mapping::{Template, TopicPattern, check_kafka_topic};

use crate::api::{KafkaDestination, TopicRouteSpec};
use crate::validate::Note;
use crate::validate::path::FieldPath;

pub(super) fn check(spec: &TopicRouteSpec, kafka: &KafkaDestination) -> Vec<Note> {
    let allowed = FieldPath::parse("spec.to.kafka.allowedTopics");
    let mut notes = Vec::new();
    let template = Template::parse(&kafka.topic).ok();
    let is_literal = template.as_ref().is_some_and(Template::is_literal);
    for (index, pattern) in kafka.allowed_topics.iter().enumerate() {
        if let Err(error) = TopicPattern::parse(pattern) {
            notes.push(Note::error(allowed.index(index), format!("{pattern:?}: {error}")));
        } else if pattern == "*" && !is_literal {
            let message = "\"*\" lets a device choose any topic of the cluster: write how the topics meant begin, like \
                           telemetry.*";
            notes.push(Note::warning(allowed.index(index), message));
        }
    }
    notes.extend(template.and_then(|template| dead_letter(spec, kafka, &template)));
    notes
}

/// The topic of dead letters should hold nothing else, or nobody can tell them apart.
fn dead_letter(spec: &TopicRouteSpec, kafka: &KafkaDestination, template: &Template) -> Option<Note> {
    let path = FieldPath::parse("spec.onError.deadLetter.topic");
    let topic = spec.on_error.dead_letter.as_ref()?.topic.as_str();
    if let Err(error) = check_kafka_topic(topic) {
        return Some(Note::error(path, error.to_string()));
    }
    if template.is_literal() {
        return (template.literal_prefix() == topic).then(|| {
            Note::warning(
                path,
                format!("{topic:?} is the topic of the records too: write another one for dead letters"),
            )
        });
    }
    let allowed: Vec<TopicPattern> = kafka
        .allowed_topics
        .iter()
        .filter_map(|p| TopicPattern::parse(p).ok())
        .collect();
    let is_allowed = kafka.allowed_topics.is_empty() || allowed.iter().any(|pattern| pattern.matches(topic));
    (topic.starts_with(template.literal_prefix()) && is_allowed).then(|| {
        let message = format!(
            "{topic:?} is a topic that records may be written to as well: write one that spec.to.kafka.topic, {:?}, \
             cannot become",
            kafka.topic
        );
        Note::warning(path, message)
    })
}

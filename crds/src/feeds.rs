//! Which routes read what others write.

use millrace_mapping::{Filter, Template, TopicPattern};

use crate::api::{Reference, TopicRoute};

/// The other routes of a cycle that `route` closes: what it writes is read by the first, and so on, and what the last one
/// writes is read by `route`. `None` if it closes none.
pub fn cycle<'r>(route: &'r TopicRoute, others: &[&'r TopicRoute]) -> Option<Vec<&'r TopicRoute>> {
    // The way to each route that has been reached: found breadth first, so the cycle is a shortest one.
    let mut ways: Vec<Vec<&TopicRoute>> = vec![Vec::new()];
    let mut reached: Vec<bool> = vec![false; others.len()];
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        next += 1;
        let last = way.last().copied().unwrap_or(route);
        if !way.is_empty() && feeds(last, route) {
            return Some(way);
        }
        for (other, reached) in others.iter().zip(&mut reached) {
            if !*reached && feeds(last, other) {
                *reached = true;
                let mut way = way.clone();
                way.push(other);
                ways.push(way);
            }
        }
    }
    None
}

/// Whether `reader` may read what `writer` writes: they meet at one MqttBroker or KafkaSink, and topics overlap.
fn feeds(writer: &TopicRoute, reader: &TopicRoute) -> bool {
    feeds_through_kafka(writer, reader) || feeds_through_mqtt(writer, reader)
}

fn meet(one: Option<Reference<'_>>, other: Option<Reference<'_>>) -> bool {
    one.zip(other).is_some_and(|(one, other)| one.is_as(&other))
}

/// Dead letters count: they are as good as any record to the route that reads them.
fn feeds_through_kafka(writer: &TopicRoute, reader: &TopicRoute) -> bool {
    let Some(from) = &reader.spec.from.kafka else {
        return false;
    };
    // Most do not, and topics take longer to compare.
    if !meet(writer.sink_ref(), reader.sink_ref()) {
        return false;
    }
    let to = writer.spec.to.kafka.as_ref();
    let mut written = to.map_or_else(Vec::new, |to| kafka_topics(&to.topic, &to.allowed_topics));
    let dead_letter = writer.spec.on_error.dead_letter.as_ref();
    written.extend(dead_letter.and_then(|letter| TopicPattern::parse(&letter.topic).ok()));
    let is_read = |pattern: &TopicPattern| from.topics.iter().any(|topic| pattern.matches(topic));
    written.iter().any(is_read)
}

fn feeds_through_mqtt(writer: &TopicRoute, reader: &TopicRoute) -> bool {
    let (Some(to), Some(from)) = (&writer.spec.to.mqtt, &reader.spec.from.mqtt) else {
        return false;
    };
    if !meet(writer.broker_ref(), reader.broker_ref()) {
        return false;
    }
    let written = mqtt_topics(&to.topic, &to.allowed_topics);
    let filters = from.subscriptions.iter();
    let mut read = filters.filter_map(|subscription| Filter::parse(&subscription.filter).ok());
    read.any(|read| written.iter().any(|written| written.overlaps(&read)))
}

/// The Kafka topics that a template can become.
fn kafka_topics(template: &str, allowed: &[String]) -> Vec<TopicPattern> {
    let Ok(template) = Template::parse(template) else {
        return Vec::new();
    };
    let literal = template.literal_prefix();
    let patterns: Vec<String> = match template.is_literal() {
        true => vec![literal.to_owned()],
        false if allowed.is_empty() => vec![format!("{literal}*")],
        false => allowed.to_vec(),
    };
    patterns
        .iter()
        .filter_map(|pattern| TopicPattern::parse(pattern).ok())
        .collect()
}

/// The MQTT topics that a template can become.
fn mqtt_topics(template: &str, allowed: &[String]) -> Vec<Filter> {
    let Ok(template) = Template::parse(template) else {
        return Vec::new();
    };
    let filters = match template.is_literal() {
        true => vec![template.literal_prefix().to_owned()],
        false => allowed.to_vec(),
    };
    filters
        .iter()
        .filter_map(|filter| Filter::parse(filter).ok())
        .collect()
}

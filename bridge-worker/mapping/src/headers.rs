//! What of a message travels as record headers. The names are part of the API.

use std::collections::BTreeMap;

use millrace_contract::Propagate;

use crate::error::{MappingError, Part};
use crate::message::Message;
use crate::record::Headers;
use crate::source_record::SourceRecord;

/// Prefix of the header of a user property.
pub(crate) const USER_PREFIX: &str = "mqtt.user.";

/// How often a message has gone from Kafka to MQTT, in headers of records and in user properties of messages.
const HOPS_HEADER: &str = "millrace.hops";
pub(crate) const HOPS_PROPERTY: &str = "millrace-hops";
/// Why a route has neither of them of its own.
pub(crate) const HOPS_ARE_OURS: &str =
    "Millrace itself says in it how often the message has come from Kafka; choose another name";
/// More often than any message has a reason to.
pub(crate) const MAX_HOPS: u32 = 8;

/// How often a record has gone to MQTT already. What cannot be read was not written by a route.
pub(crate) fn hops(record: &SourceRecord<'_>) -> u32 {
    let text = record
        .header(HOPS_HEADER)
        .and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Adds how often a message has come from Kafka, if it has.
pub(crate) fn write_hops(message: &Message<'_>, headers: &mut Headers) {
    let user = message.properties.map_or(&[][..], |p| &p.user);
    if let Some((_, hops)) = user.iter().find(|(name, _)| name == HOPS_PROPERTY) {
        headers.push("", HOPS_HEADER, hops.as_bytes());
    }
}

/// The header's name; of user properties, what each name begins with.
pub(crate) fn name(what: Propagate) -> &'static str {
    match what {
        Propagate::Topic => "mqtt.topic",
        Propagate::Qos => "mqtt.qos",
        Propagate::Retain => "mqtt.retain",
        Propagate::ContentType => "mqtt.contentType",
        Propagate::ResponseTopic => "mqtt.responseTopic",
        Propagate::CorrelationData => "mqtt.correlationData",
        Propagate::UserProperties => USER_PREFIX,
    }
}

/// Finds headers that a record would have twice.
pub(crate) fn check(
    headers: &BTreeMap<String, String>,
    propagate: &[Propagate],
    errors: &mut Vec<MappingError>,
) {
    for (index, what) in propagate.iter().enumerate() {
        if propagate[..index].contains(what) {
            let message = format!("{what:?} is listed twice; remove one");
            errors.push(MappingError::new(Part::Propagate, message));
        }
    }
    for header in headers.keys() {
        if header.is_empty() {
            errors.push(MappingError::new(
                Part::Header(header.clone()),
                "a header needs a name",
            ));
        }
        if header == HOPS_HEADER {
            errors.push(MappingError::new(Part::Header(header.clone()), HOPS_ARE_OURS));
        }
        let clashes = |what: &&Propagate| match what {
            Propagate::UserProperties => header.starts_with(USER_PREFIX),
            what => header == name(**what),
        };
        if let Some(what) = propagate.iter().find(clashes) {
            let message = format!(
                "`propagate: [{what:?}]` writes headers of this name; choose another name or do not propagate {what:?}"
            );
            errors.push(MappingError::new(Part::Header(header.clone()), message));
        }
    }
}

/// Adds the headers of what a message has.
pub(crate) fn write(propagate: &[Propagate], message: &Message<'_>, headers: &mut Headers) {
    let properties = message.properties;
    for what in propagate {
        let value = match what {
            Propagate::Topic => Some(message.topic.as_bytes()),
            Propagate::Qos => Some(match message.qos {
                0 => &b"0"[..],
                1 => b"1",
                _ => b"2",
            }),
            Propagate::Retain => Some(if message.retain { &b"true"[..] } else { b"false" }),
            Propagate::ContentType => properties
                .and_then(|p| p.content_type.as_deref())
                .map(str::as_bytes),
            Propagate::ResponseTopic => properties
                .and_then(|p| p.response_topic.as_deref())
                .map(str::as_bytes),
            Propagate::CorrelationData => properties.and_then(|p| p.correlation_data.as_deref()),
            Propagate::UserProperties => {
                let own = |name: &str| name == HOPS_PROPERTY;
                for (name, value) in properties.map_or(&[][..], |p| &p.user) {
                    if own(name) {
                        continue;
                    }
                    // MQTT forbids U+0000 in a text, but not every broker checks; Kafka clients end a name there.
                    if name.contains('\0') {
                        headers.push(USER_PREFIX, &name.replace('\0', "\u{fffd}"), value.as_bytes());
                    } else {
                        headers.push(USER_PREFIX, name, value.as_bytes());
                    }
                }
                None
            }
        };
        if let Some(value) = value {
            headers.push("", name(*what), value);
        }
    }
}

//! The variables of one message or record.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;

use super::steps::{LEFT, Steps};
use crate::message::{Message, Properties};
use crate::source_record::SourceRecord;

/// Fields of `message`.
pub(super) const MESSAGE_FIELDS: [&str; 9] = [
    "contentType",
    "correlationData",
    "levels",
    "qos",
    "receivedAt",
    "responseTopic",
    "retain",
    "topic",
    "user",
];

/// Fields of `record`.
pub(super) const RECORD_FIELDS: [&str; 6] = ["headers", "key", "offset", "partition", "timestamp", "topic"];

/// What the variables are of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'m> {
    Message {
        message: &'m Message<'m>,
        names: &'m [String],
        /// What the names stand for, as ranges of the topic.
        captured: &'m [Range<usize>],
    },
    Record(&'m SourceRecord<'m>),
}

/// Gives CEL the variables of one message or record as it asks for them, so that only what an expression names is made.
#[derive(Debug)]
pub(crate) struct Scope<'m> {
    about: About<'m>,
    payload: Option<Box<dyn Val + 'm>>,
    /// Made when the first loop asks for it.
    steps: OnceLock<Steps>,
}

impl<'m> Scope<'m> {
    pub(crate) fn new(about: About<'m>) -> Self {
        Self {
            about,
            payload: None,
            steps: OnceLock::new(),
        }
    }

    pub(crate) fn has_payload(&self) -> bool {
        self.payload.is_some()
    }

    pub(crate) fn set_payload(&mut self, payload: Box<dyn Val + 'm>) {
        self.payload = Some(payload);
    }

    /// The part of the topic that the name at this position stands for.
    pub(crate) fn name(&self, position: usize) -> &'m str {
        match self.about {
            About::Message {
                message, captured, ..
            } => captured
                .get(position)
                .and_then(|range| message.topic.get(range.clone()))
                .unwrap_or_default(),
            About::Record(_) => "",
        }
    }

    pub(crate) fn topic(&self) -> &'m str {
        match self.about {
            About::Message { message, .. } => message.topic,
            About::Record(record) => record.topic,
        }
    }

    /// The key of a record that has one.
    pub(crate) fn key(&self) -> Option<&'m [u8]> {
        match self.about {
            About::Message { .. } => None,
            About::Record(record) => record.key,
        }
    }

    /// The variable that stands for all of it, and its fields.
    fn whole(&self) -> (&'static str, &'static [&'static str]) {
        match self.about {
            About::Message { .. } => ("message", &MESSAGE_FIELDS),
            About::Record(_) => ("record", &RECORD_FIELDS),
        }
    }

    fn field(&self, field: &str) -> Option<Box<dyn Val + 'm>> {
        match self.about {
            About::Message { message, .. } => message_field(message, field),
            About::Record(record) => record_field(record, field),
        }
    }

    fn payload_bytes(&self) -> usize {
        match self.about {
            About::Message { message, .. } => message.payload.len(),
            About::Record(record) => record.value.unwrap_or_default().len(),
        }
    }
}

fn message_field<'m>(message: &'m Message<'m>, field: &str) -> Option<Box<dyn Val + 'm>> {
    let properties = message.properties;
    let text = |get: fn(&Properties) -> Option<&String>| -> Box<dyn Val + 'm> {
        Box::new(CelString::from(
            properties.and_then(get).map_or("", String::as_str),
        ))
    };
    Some(match field {
        "topic" => Box::new(CelString::from(message.topic)),
        "levels" => {
            let levels = message.topic.split('/');
            let levels: Vec<Box<dyn Val + 'm>> = levels
                .map(|level| -> Box<dyn Val + 'm> { Box::new(CelString::from(level)) })
                .collect();
            Box::new(CelList::from(levels))
        }
        "qos" => Box::new(CelInt::from(i64::from(message.qos))),
        "retain" => Box::new(CelBool::from(message.retain)),
        "receivedAt" => Box::new(CelInt::from(message.received_at_ms)),
        "contentType" => text(|p| p.content_type.as_ref()),
        "responseTopic" => text(|p| p.response_topic.as_ref()),
        "correlationData" => {
            let data = properties
                .and_then(|p| p.correlation_data.as_deref())
                .unwrap_or_default();
            Box::new(CelBytes::from(data))
        }
        "user" => {
            let user = properties.map_or(&[][..], |p| p.user.as_slice());
            let entry = |(name, value): &'m (String, String)| -> (CelMapKey<'m>, Box<dyn Val + 'm>) {
                (
                    CelMapKey::from(name.as_str()),
                    Box::new(CelString::from(value.as_str())),
                )
            };
            let entries: HashMap<_, _> = user.iter().map(entry).collect();
            Box::new(CelMap::from(entries))
        }
        _ => return None,
    })
}

fn record_field<'m>(record: &'m SourceRecord<'m>, field: &str) -> Option<Box<dyn Val + 'm>> {
    Some(match field {
        "topic" => Box::new(CelString::from(record.topic)),
        "partition" => Box::new(CelInt::from(i64::from(record.partition))),
        "offset" => Box::new(CelInt::from(record.offset)),
        "timestamp" => Box::new(CelInt::from(record.timestamp_ms)),
        "key" => text_or_bytes(record.key),
        "headers" => {
            let headers = record.headers.iter();
            let entries: HashMap<CelMapKey<'m>, Box<dyn Val + 'm>> = headers
                .map(|(name, value)| (CelMapKey::from(*name), text_or_bytes(*value)))
                .collect();
            Box::new(CelMap::from(entries))
        }
        _ => return None,
    })
}

/// Kafka knows bytes only. Almost all keys and headers are texts, and expressions are about texts.
fn text_or_bytes<'m>(bytes: Option<&'m [u8]>) -> Box<dyn Val + 'm> {
    match bytes.map(std::str::from_utf8) {
        Some(Ok(text)) => Box::new(CelString::from(text)),
        Some(Err(_)) => Box::new(CelBytes::from(bytes.unwrap_or_default())),
        None => Box::new(CelNull),
    }
}

impl VariableResolver for Scope<'_> {
    /// CEL asks for the longest name first: `message.topic` before `message`, so the map is rarely needed.
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let (whole, fields) = self.whole();
        if let Some(rest) = variable.strip_prefix(whole) {
            if let Some(field) = rest.strip_prefix('.') {
                return self.field(field).map(CowVal::Owned);
            }
            if rest.is_empty() {
                let entries: HashMap<_, _> = fields
                    .iter()
                    .filter_map(|field| Some((CelMapKey::from(*field), self.field(field)?)))
                    .collect();
                return Some(CowVal::owned(CelMap::from(entries)));
            }
        }
        match (variable, self.about) {
            ("payload", _) => self.payload.as_deref().map(CowVal::Borrowed),
            (LEFT, _) => {
                let steps = self
                    .steps
                    .get_or_init(|| Steps::for_payload(self.payload_bytes()));
                Some(CowVal::Borrowed(steps))
            }
            (name, About::Message { names, .. }) => {
                let position = names.iter().position(|known| known == name)?;
                Some(CowVal::owned(CelString::from(self.name(position))))
            }
            (_, About::Record(_)) => None,
        }
    }
}

//! The variables of one message.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::OnceLock;

use cel::common::types::{CelBool, CelBytes, CelInt, CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;

use super::steps::{LEFT, Steps};
use crate::message::{Message, Properties};

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

/// Gives CEL the variables of one message as it asks for them, so that only what an expression names is made.
#[derive(Debug)]
pub(crate) struct Scope<'m> {
    message: &'m Message<'m>,
    names: &'m [String],
    /// What the names stand for, as ranges of the topic.
    captured: &'m [Range<usize>],
    payload: Option<Box<dyn Val + 'm>>,
    /// Made when the first loop asks for it.
    steps: OnceLock<Steps>,
}

impl<'m> Scope<'m> {
    pub(crate) fn new(message: &'m Message<'m>, names: &'m [String], captured: &'m [Range<usize>]) -> Self {
        Self {
            message,
            names,
            captured,
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
        self.captured
            .get(position)
            .and_then(|range| self.message.topic.get(range.clone()))
            .unwrap_or_default()
    }

    pub(crate) fn topic(&self) -> &'m str {
        self.message.topic
    }

    fn field(&self, field: &str) -> Option<Box<dyn Val + 'm>> {
        let properties = self.message.properties;
        let text = |get: fn(&Properties) -> Option<&String>| -> Box<dyn Val + 'm> {
            Box::new(CelString::from(
                properties.and_then(get).map_or("", String::as_str),
            ))
        };
        Some(match field {
            "topic" => Box::new(CelString::from(self.message.topic)),
            "levels" => {
                let levels = self.message.topic.split('/');
                let levels: Vec<Box<dyn Val + 'm>> = levels
                    .map(|level| -> Box<dyn Val + 'm> { Box::new(CelString::from(level)) })
                    .collect();
                Box::new(CelList::from(levels))
            }
            "qos" => Box::new(CelInt::from(i64::from(self.message.qos))),
            "retain" => Box::new(CelBool::from(self.message.retain)),
            "receivedAt" => Box::new(CelInt::from(self.message.received_at_ms)),
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

    fn whole_message(&self) -> CelMap<'m> {
        let fields = MESSAGE_FIELDS.iter();
        let entries: HashMap<_, _> = fields
            .filter_map(|field| Some((CelMapKey::from(*field), self.field(field)?)))
            .collect();
        CelMap::from(entries)
    }
}

impl VariableResolver for Scope<'_> {
    /// CEL asks for the longest name first: `message.topic` before `message`, so the map is rarely needed.
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        if let Some(field) = variable.strip_prefix("message.") {
            return self.field(field).map(CowVal::Owned);
        }
        match variable {
            "payload" => self.payload.as_deref().map(CowVal::Borrowed),
            "message" => Some(CowVal::owned(self.whole_message())),
            LEFT => {
                let steps = self
                    .steps
                    .get_or_init(|| Steps::for_payload(self.message.payload.len()));
                Some(CowVal::Borrowed(steps))
            }
            name => {
                let position = self.names.iter().position(|known| known == name)?;
                Some(CowVal::owned(CelString::from(self.name(position))))
            }
        }
    }
}

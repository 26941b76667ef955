//! A dead letter, and what it can be made of again. Pure.

use millrace_contract::AnyDocument;
use rdkafka::message::{BorrowedMessage, Message as _};

/// The headers that say what is to be known of a failure begin so.
const OF_FAILURE: [&str; 4] = [
    "millrace.error.",
    "millrace.route",
    "millrace.source.",
    "millrace.payload",
];

/// A dead letter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Letter {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: i64,
    pub(super) key: Option<Vec<u8>>,
    /// None for a tombstone.
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// What a dead letter was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Original {
    /// A message of MQTT.
    Message { topic: String, payload: Vec<u8> },
    /// A record of Kafka.
    Record {
        topic: String,
        partition: i32,
        offset: i64,
        /// Without what was added to them.
        headers: Vec<(String, Vec<u8>)>,
    },
}

impl Letter {
    /// Copies a record of a topic of dead letters.
    pub(super) fn of(record: &BorrowedMessage<'_>) -> Self {
        let headers = millrace_librdkafka::headers(record);
        let headers = headers.map(|(name, value)| {
            let name = name.to_string_lossy().into_owned();
            (name, value.unwrap_or_default().to_vec())
        });
        Self {
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp().to_millis().unwrap_or_default(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.payload().map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }

    /// The value of a header as text; of a name that occurs twice, the last.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().rev().find(|(known, _)| known == name)?;
        std::str::from_utf8(value).ok()
    }

    /// Whether it is a letter of a route, named `namespace/name`.
    pub(super) fn is_of(&self, route: &str) -> bool {
        self.header("millrace.route") == Some(route)
    }

    /// Why it became one.
    pub(super) fn reason(&self) -> &str {
        self.header("millrace.error.reason").unwrap_or("Unknown")
    }

    /// What it was. The error says why that is not known any more.
    pub(super) fn original(&self, document: &AnyDocument) -> Result<Original, String> {
        match document {
            AnyDocument::ToKafka(document) => self.message(document.live.mapping.value.is_some()),
            AnyDocument::ToMqtt(_) => self.record(),
        }
    }

    fn message(&self, has_value: bool) -> Result<Original, String> {
        match self.header("millrace.payload") {
            Some("head") => return Err("it has only the beginning of a payload that was too large".into()),
            Some("record") if has_value => {
                return Err(
                    "it has the record that was made of the message, and not the message itself".into(),
                );
            }
            _ => {}
        }
        let topic = self
            .header("mqtt.topic")
            .ok_or("it does not say on which topic the message came")?;
        Ok(Original::Message {
            topic: topic.to_owned(),
            payload: self.value.clone().unwrap_or_default(),
        })
    }

    fn record(&self) -> Result<Original, String> {
        let number = |name: &str| self.header(name).and_then(|text| text.parse().ok());
        let said = "it does not say where the record was";
        let is_of_failure = |name: &str| OF_FAILURE.iter().any(|prefix| name.starts_with(prefix));
        let headers = self.headers.iter().filter(|(name, _)| !is_of_failure(name));
        Ok(Original::Record {
            topic: self.header("millrace.source.topic").ok_or(said)?.to_owned(),
            partition: number("millrace.source.partition").ok_or(said)? as i32,
            offset: number("millrace.source.offset").ok_or(said)?,
            headers: headers.cloned().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(headers: &[(&str, &str)]) -> Letter {
        Letter {
            value: Some(b"payload".to_vec()),
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()))
                .collect(),
            ..Letter::default()
        }
    }

    #[test]
    fn a_letter_says_whose_it_is_and_why() {
        let letter = letter(&[("millrace.route", "a/b"), ("millrace.error.reason", "NotJson")]);
        assert!(letter.is_of("a/b") && !letter.is_of("a/c"));
        assert_eq!(letter.reason(), "NotJson");
    }

    #[test]
    fn a_message_comes_back_if_its_payload_is_there() {
        let topic = ("mqtt.topic", "plants/a");
        let original = |kind, has_value| letter(&[topic, ("millrace.payload", kind)]).message(has_value);
        let message = Ok(Original::Message {
            topic: "plants/a".into(),
            payload: b"payload".to_vec(),
        });
        assert_eq!(original("original", true), message);
        // Without a `value` the record's value is the payload.
        assert_eq!(original("record", false), message);
        assert!(original("record", true).is_err());
        assert!(original("head", false).is_err());
        assert!(letter(&[]).message(false).is_err());
    }

    #[test]
    fn a_record_comes_back_without_what_was_added() {
        let letter = letter(&[
            ("tenant", "acme"),
            ("millrace.hops", "1"),
            ("millrace.error.reason", "TopicInvalid"),
            ("millrace.error.message", "m"),
            ("millrace.route", "a/b"),
            ("millrace.source.topic", "commands"),
            ("millrace.source.partition", "3"),
            ("millrace.source.offset", "17"),
        ]);
        let Ok(Original::Record {
            topic,
            partition,
            offset,
            headers,
        }) = letter.record()
        else {
            panic!("{:?}", letter.record())
        };
        assert_eq!((topic.as_str(), partition, offset), ("commands", 3, 17));
        let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["tenant", "millrace.hops"]);
    }
}

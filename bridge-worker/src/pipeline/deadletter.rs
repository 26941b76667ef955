use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::kafka::OwnedRecord;

/// How much of a payload travels in a dead letter that cannot carry all of it, in bytes.
pub(crate) const HEAD_BYTES: usize = 1024;

/// A message that cannot be delivered.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    /// One word, from a closed set.
    pub(crate) reason: &'static str,
    /// What went wrong, for people.
    pub(crate) message: String,
    /// The MQTT topic it came on.
    pub(crate) topic: String,
    /// What is left of it.
    pub(crate) payload: Payload,
    /// When it was received, in milliseconds since the epoch.
    pub(crate) received_at_ms: i64,
}

/// What is left of a message that cannot be delivered.
#[derive(Clone, Debug)]
pub(crate) enum Payload {
    /// The payload as it came.
    Original(Vec<u8>),
    /// The value of the record that Kafka refused, and the Kafka topic it was for.
    Record { value: Vec<u8>, kafka_topic: String },
    /// The message was larger than the route takes: its first bytes, and size and SHA-256 of the whole payload.
    Head {
        head: Vec<u8>,
        size: u64,
        sha256: String,
    },
}

impl Failed {
    /// Builds the dead letter. `whole` is false when a dead letter with the whole payload was refused as too
    /// large: this one carries the head, size and SHA-256.
    pub(crate) fn dead_letter(&self, topic: &str, route: &str, lane: u16, whole: bool) -> OwnedRecord {
        let mut headers = vec![
            header("millrace.error.reason", self.reason),
            header("millrace.error.message", &self.message),
            header("millrace.route", route),
            header("millrace.lane", &lane.to_string()),
            header("mqtt.topic", &self.topic),
        ];
        let mut head = |kind: &str, bytes: &[u8], size: u64, sha256: &str| {
            headers.push(header("millrace.payload", kind));
            headers.push(header("millrace.payload.size", &size.to_string()));
            headers.push(header("millrace.payload.sha256", sha256));
            bytes[..bytes.len().min(HEAD_BYTES)].to_vec()
        };
        let value = match &self.payload {
            Payload::Head {
                head: bytes,
                size,
                sha256,
            } => head("head", bytes, *size, sha256),
            Payload::Original(bytes) | Payload::Record { value: bytes, .. } if !whole => {
                head("head", bytes, bytes.len() as u64, &sha256(bytes))
            }
            Payload::Original(bytes) => {
                headers.push(header("millrace.payload", "original"));
                bytes.clone()
            }
            Payload::Record { value, .. } => {
                headers.push(header("millrace.payload", "record"));
                value.clone()
            }
        };
        if let Payload::Record { kafka_topic, .. } = &self.payload {
            headers.push(header("millrace.kafka.topic", kafka_topic));
        }
        OwnedRecord {
            topic: topic.to_owned(),
            key: Some(self.topic.clone().into_bytes()),
            value: Some(value),
            headers,
            timestamp_ms: self.received_at_ms,
        }
    }

    /// The size of the payload, in bytes.
    pub(crate) fn size(&self) -> u64 {
        match &self.payload {
            Payload::Original(bytes) | Payload::Record { value: bytes, .. } => bytes.len() as u64,
            Payload::Head { size, .. } => *size,
        }
    }
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            write!(text, "{byte:02x}").ok();
            text
        })
}

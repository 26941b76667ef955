//! Names of Kafka topics, and patterns of them.

use thiserror::Error;

/// Longest name of a Kafka topic, in bytes (`org.apache.kafka.common.internals.Topic`).
pub(crate) const MAX_LENGTH: usize = 249;

/// Why a text is not the name of a Kafka topic that records may be written to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicNameError {
    /// Nothing is written.
    #[error("the name of a Kafka topic cannot be empty")]
    Empty,
    /// `.` and `..`
    #[error("`{0}` cannot be the name of a Kafka topic; choose another name")]
    Dots(String),
    /// Longer than Kafka allows.
    #[error("the name of a Kafka topic has at most 249 characters, this one has {0}")]
    TooLong(usize),
    /// Has a character Kafka does not allow.
    #[error("a Kafka topic is named with the characters a-z, A-Z, 0-9, `.`, `_` and `-`, not with `{0}`")]
    Character(char),
    /// Begins like the topics Kafka keeps for itself.
    #[error("topics that begin with `__` are Kafka's own; choose another name")]
    Internal,
}

/// Whether `name` can be the name of a Kafka topic that records are written to.
///
/// # Errors
/// Says which rule it breaks.
pub fn check_kafka_topic(name: &str) -> Result<(), TopicNameError> {
    if let Some(at) = name.bytes().position(|b| !is_topic_byte(b)) {
        // Bytes before `at` are ASCII, so a character starts there.
        let character = name[at..].chars().next().unwrap_or_default();
        return Err(TopicNameError::Character(character));
    }
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots(name.to_owned())),
        _ if name.len() > MAX_LENGTH => Err(TopicNameError::TooLong(name.len())),
        _ if name.starts_with("__") => Err(TopicNameError::Internal),
        _ => Ok(()),
    }
}

pub(crate) fn is_topic_byte(byte: u8) -> bool {
    TOPIC_BYTES[usize::from(byte)]
}

/// Looked up for every byte of every topic that is made from a message.
const TOPIC_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < bytes.len() {
        let character = byte as u8;
        bytes[byte] = character.is_ascii_alphanumeric() || matches!(character, b'.' | b'_' | b'-');
        byte += 1;
    }
    bytes
};

/// Kafka topics: a name, or a prefix followed by `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPattern {
    stem: String,
    is_prefix: bool,
}

/// Why a text is not a pattern of Kafka topics.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TopicPatternError {
    /// `*` stands elsewhere than at the end.
    #[error("`*` must be the last character: a pattern is a name, or a prefix followed by `*`")]
    StarNotLast,
    /// The name cannot be one of a topic.
    #[error(transparent)]
    Name(#[from] TopicNameError),
}

impl TopicPattern {
    /// Reads a pattern. `*` alone stands for every topic.
    ///
    /// # Errors
    /// Says what is wrong: no topic can match such a pattern.
    pub fn parse(text: &str) -> Result<Self, TopicPatternError> {
        let (stem, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        if stem.contains('*') {
            return Err(TopicPatternError::StarNotLast);
        }
        match check_kafka_topic(stem) {
            // A prefix may be empty or dots: something follows.
            Err(TopicNameError::Empty | TopicNameError::Dots(_)) if is_prefix => {}
            other => other?,
        }
        Ok(Self {
            stem: stem.to_owned(),
            is_prefix,
        })
    }

    /// Topics that begin with `prefix`.
    pub(crate) fn prefix(prefix: &str) -> Self {
        Self {
            stem: prefix.to_owned(),
            is_prefix: true,
        }
    }

    /// Whether `topic` is one of the topics this pattern stands for.
    pub fn matches(&self, topic: &str) -> bool {
        if self.is_prefix {
            topic.starts_with(&self.stem)
        } else {
            topic == self.stem
        }
    }

    /// Whether a topic that begins with `prefix` can match.
    pub(crate) fn can_match_prefix(&self, prefix: &str) -> bool {
        self.stem.starts_with(prefix) || (self.is_prefix && prefix.starts_with(&self.stem))
    }

    /// Length of the name or prefix, in bytes: of several patterns that match, the longest wins, and a name
    /// before a prefix.
    pub fn specificity(&self) -> (bool, usize) {
        (!self.is_prefix, self.stem.len())
    }
}

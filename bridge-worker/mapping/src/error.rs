//! What can be wrong with a mapping, and with a message.

use std::fmt;

use thiserror::Error;

use crate::mqtt_topic::MqttTopicError;
use crate::topic::TopicNameError;

/// A part of a mapping, so that whoever wrote it can be shown the field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A filter, by its position in the list.
    Subscription(usize),
    /// `when`
    When,
    /// `topic`
    Topic,
    /// `allowedTopics`
    AllowedTopics,
    /// `key`
    Key,
    /// One of `headers`, by its name.
    Header(String),
    /// `propagate`
    Propagate,
    /// `value`
    Value,
    /// `contentType`
    ContentType,
    /// `responseTopic`
    ResponseTopic,
    /// `correlationData`
    CorrelationData,
    /// One of `userProperties`, by its name.
    UserProperty(String),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subscription(index) => write!(f, "subscriptions[{index}].filter"),
            Self::When => f.write_str("when"),
            Self::Topic => f.write_str("topic"),
            Self::AllowedTopics => f.write_str("allowedTopics"),
            Self::Key => f.write_str("key"),
            Self::Header(name) => write!(f, "headers[{name}]"),
            Self::Propagate => f.write_str("propagate"),
            Self::Value => f.write_str("value"),
            Self::ContentType => f.write_str("contentType"),
            Self::ResponseTopic => f.write_str("responseTopic"),
            Self::CorrelationData => f.write_str("correlationData"),
            Self::UserProperty(name) => write!(f, "userProperties[{name}]"),
        }
    }
}

/// What is wrong with a mapping, found before any message is mapped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{part}: {message}")]
pub struct MappingError {
    /// Where.
    pub part: Part,
    /// What, and what to write instead.
    pub message: String,
}

impl MappingError {
    pub(crate) fn new(part: Part, message: impl fmt::Display) -> Self {
        Self {
            part,
            message: message.to_string(),
        }
    }
}

/// Why one message cannot be mapped. The message goes the way of the route's `onError`; others are not affected.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// No filter matches: the broker delivered a topic that was not subscribed to, or no longer is.
    #[error("no filter of the route matches the topic")]
    NoFilter,
    /// An expression uses `payload`, the format is Text, and the payload is not UTF-8.
    #[error("the payload is not UTF-8: {0}")]
    PayloadNotUtf8(String),
    /// An expression uses `payload`, the format is JSON, and the payload is not JSON.
    #[error("the payload is not JSON: {0}")]
    PayloadNotJson(String),
    /// An expression cannot be computed for this message: a missing key, say, or a text compared with a number.
    #[error("{part}: {message}")]
    ExpressionFailed {
        /// Where the expression is.
        part: Part,
        /// What CEL says.
        message: String,
    },
    /// An expression gives a value its place cannot take.
    #[error("{part}: the expression gives a value of type {found}, where {wanted} is needed")]
    ResultType {
        /// Where the expression is.
        part: Part,
        /// CEL's name of the type it gives.
        found: String,
        /// What would do.
        wanted: &'static str,
    },
    /// A number is infinite or not a number, which neither text nor JSON can say.
    #[error("{part}: the number is infinite or not a number")]
    NumberNotFinite {
        /// Where the expression is.
        part: Part,
    },
    /// The rendered topic is not a name Kafka allows.
    #[error("topic `{topic}`: {problem}")]
    TopicInvalid {
        /// What was rendered, shortened.
        topic: String,
        /// Which rule it breaks.
        problem: TopicNameError,
    },
    /// The record has come back again and again: routes feed each other.
    #[error(
        "the record has gone from Kafka to MQTT {hops} times: routes feed each other; choose topics that none of them reads"
    )]
    Loop {
        /// How often.
        hops: u32,
    },
    /// A template names the key of a record that has none.
    #[error("{part}: the record has no key")]
    NoKey {
        /// Where the template is.
        part: Part,
    },
    /// The rendered topic is not a name MQTT allows in a message.
    #[error("{part} `{topic}`: {problem}")]
    MqttTopicInvalid {
        /// Which topic: the message's or that for responses.
        part: Part,
        /// What was rendered, shortened.
        topic: String,
        /// Which rule it breaks.
        problem: MqttTopicError,
    },
    /// A property of the message would not be what MQTT allows.
    #[error("{part}: {problem}")]
    PropertyInvalid {
        /// Which property.
        part: Part,
        /// Which rule it breaks.
        problem: &'static str,
    },
    /// The rendered topic is not one of those the route may write to.
    #[error("topic `{topic}` is not one of the route's allowedTopics")]
    TopicNotAllowed {
        /// What was rendered, shortened.
        topic: String,
    },
}

impl MapError {
    /// A word that never changes, for the header of a dead letter and the label of a metric.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoFilter => "NoFilter",
            Self::PayloadNotUtf8(_) => "PayloadNotUtf8",
            Self::PayloadNotJson(_) => "PayloadNotJson",
            Self::ExpressionFailed { .. } => "ExpressionFailed",
            Self::ResultType { .. } => "ResultType",
            Self::NumberNotFinite { .. } => "NumberNotFinite",
            Self::Loop { .. } => "Loop",
            Self::NoKey { .. } => "NoKey",
            Self::TopicInvalid { .. } | Self::MqttTopicInvalid { .. } => "TopicInvalid",
            Self::PropertyInvalid { .. } => "PropertyInvalid",
            Self::TopicNotAllowed { .. } => "TopicNotAllowed",
        }
    }
}

/// Shortens text that came with a message, so that a message cannot flood logs and headers.
pub(crate) fn shorten(text: &str) -> String {
    const MAX: usize = 200;
    if text.len() <= MAX {
        return text.to_owned();
    }
    let kept: String = text.chars().take(MAX).collect();
    format!("{kept}...")
}

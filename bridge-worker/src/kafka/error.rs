use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;

/// What to do about a record that Kafka or librdkafka did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureClass {
    /// Nothing is wrong with the record: send it again.
    Retry,
    /// It, or another record of its batch, was refused: send it in a batch of its own before judging it.
    Batch,
    /// Its topic does not exist.
    TopicMissing,
    /// The client may not write to its topic.
    NotAuthorized,
    /// Kafka will never take it.
    Record,
}

impl FailureClass {
    /// The word that dead letters, logs and metrics use.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Retry => "KafkaUnavailable",
            Self::Batch => "RecordTooLarge",
            Self::TopicMissing => "TopicMissing",
            Self::NotAuthorized => "TopicNotAuthorized",
            Self::Record => "RecordRefused",
        }
    }

    /// The error, and where a person can do something about it, what.
    pub(crate) fn told(self, error: &KafkaError, topic: &str) -> String {
        match self {
            Self::NotAuthorized => format!(
                "Kafka does not let this client write topic {topic:?}: {error}; grant its user Write and Describe on it"
            ),
            _ => error.to_string(),
        }
    }

    /// What an error code of the producer means for the record. Whatever is not known to be about the record is
    /// taken to be about the way to Kafka, and the record is sent again: a repeat is better than a loss.
    pub(crate) fn of(code: Code) -> Self {
        match code {
            Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidMessage
            | Code::InvalidRecord => Self::Batch,
            Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition => Self::TopicMissing,
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::PolicyViolation => {
                Self::NotAuthorized
            }
            Code::InvalidTopic
            | Code::InvalidTimestamp
            | Code::UnsupportedForMessageFormat
            | Code::InvalidArgument
            | Code::BadMessage => Self::Record,
            _ => Self::Retry,
        }
    }
}

//! Topics that messages are published to.

use thiserror::Error;

/// Longest topic, in bytes: an MQTT string has a 16-bit length [MQTT-1.5.4].
pub(crate) const MAX_LENGTH: usize = 65_535;

/// Why a text is not a topic that a route may publish to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MqttTopicError {
    /// Nothing is written.
    #[error("an MQTT topic cannot be empty")]
    Empty,
    /// Longer than an MQTT string can be.
    #[error("an MQTT topic has at most 65535 bytes, this one has {0}")]
    TooLong(usize),
    /// Not a text.
    #[error("an MQTT topic is a UTF-8 text, this one is not")]
    NotUtf8,
    /// MQTT strings have no U+0000 [MQTT-1.5.4-2].
    #[error("an MQTT topic cannot contain the character U+0000")]
    Nul,
    /// Wildcards are for subscribers [MQTT-3.3.2-2].
    #[error(
        "an MQTT topic that is published to cannot contain `{0}`, a wildcard; write an expression in braces where a topic varies"
    )]
    Wildcard(char),
    /// Topics of the broker itself, and shared subscriptions.
    #[error("topics that begin with `$` are the broker's own; choose another one")]
    Reserved,
}

/// Whether `topic` can be published to.
///
/// # Errors
/// Says which rule it breaks.
pub fn check_mqtt_topic(topic: &str) -> Result<(), MqttTopicError> {
    if topic.is_empty() {
        return Err(MqttTopicError::Empty);
    }
    if topic.len() > MAX_LENGTH {
        return Err(MqttTopicError::TooLong(topic.len()));
    }
    if topic.starts_with('$') {
        return Err(MqttTopicError::Reserved);
    }
    match topic.bytes().find(|byte| matches!(byte, 0 | b'+' | b'#')) {
        None => Ok(()),
        Some(0) => Err(MqttTopicError::Nul),
        Some(wildcard) => Err(MqttTopicError::Wildcard(wildcard.into())),
    }
}

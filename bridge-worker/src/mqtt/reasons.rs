//! The reason codes of DISCONNECT [MQTT-3.14.2.1], as a person is told them.

use millrace_contract::status::Reason;

use super::connection::Ended;

/// What follows where nothing is known to be wrong with what this client asked for.
pub(super) const AGAIN: &str = "a new connection is made: if none lasts, see the broker's log";

/// What a code means, in the words of the standard.
pub(super) fn meaning(code: u8) -> &'static str {
    match code {
        0x00 => "normal disconnection",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x87 => "not authorized",
        0x89 => "server busy",
        0x8B => "server shutting down",
        0x8D => "keep alive timeout",
        0x8E => "session taken over",
        0x8F => "topic filter invalid",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        0xA2 => "wildcard subscriptions not supported",
        _ => "unspecified error",
    }
}

/// What to do about it.
pub(super) fn advice(code: u8) -> &'static str {
    match code {
        0x87 => "check the broker's access rules for this client",
        0x9C | 0x9D => "write the other server into spec.urls of the MqttBroker",
        _ => AGAIN,
    }
}

/// Why the broker does not take a message [MQTT-3.4.2.1], [MQTT-3.5.2.1], and what to do about it.
pub(crate) fn refusal(code: u8) -> String {
    let (meaning, advice) = match code {
        0x83 => ("implementation specific error", LOG),
        0x87 => (
            "not authorized",
            "let the client publish to the topic, by the broker's access rules",
        ),
        0x90 => (
            "topic name invalid",
            "the broker has rules of its own for topics: correct spec.to.mqtt.topic",
        ),
        0x91 => ("packet identifier in use", LOG),
        0x99 => ("payload format invalid", LOG),
        _ => ("unspecified error", LOG),
    };
    format!("the broker does not take it: {meaning} ({code:#04x}); {advice}")
}

const LOG: &str = "see the broker's log";

impl Ended {
    /// The word for it in status.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Disconnected { reason: 0x87, .. } => Reason::BrokerRefused,
            // Busy, shutting down, no answer to its own pings, told to by an administrator, moved, connected too long.
            Self::Disconnected {
                reason: 0 | 0x89 | 0x8B | 0x8D | 0x98 | 0x9C | 0x9D | 0x9F | 0xA0,
                ..
            } => Reason::BrokerUnreachable,
            Self::Protocol(_) | Self::Disconnected { .. } => Reason::ProtocolError,
            Self::SubscriptionRefused { .. } => Reason::SubscriptionRefused,
            Self::SharedUnsupported { .. } => Reason::SharedSubscriptionsUnsupported,
            _ => Reason::BrokerUnreachable,
        }
    }
}

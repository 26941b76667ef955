//! The reason codes of DISCONNECT [MQTT-3.14.2.1], as a person is told them.

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

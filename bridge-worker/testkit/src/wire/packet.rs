//! Packets, in both directions.

use super::{Properties, Version};
use bytes::Bytes;

/// A CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// From the protocol level: 4 or 5.
    pub version: Version,
    /// The client id.
    pub client_id: String,
    /// Clean start (5) or clean session (3.1.1).
    pub clean_start: bool,
    /// In seconds.
    pub keep_alive: u16,
    /// User name, when there is one.
    pub username: Option<String>,
    /// Password, when there is one.
    pub password: Option<Bytes>,
    /// Whether there is a will; it is read over.
    pub has_will: bool,
    /// None in 3.1.1.
    pub properties: Properties,
}

/// A PUBLISH.
///
/// ```
/// use millrace_testkit::wire::Publish;
///
/// let publish = Publish::new("plants/north", "payload").qos(1, 42).dup();
/// assert_eq!((publish.qos, publish.packet_id, publish.dup), (1, 42, true));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// 0, 1 or 2; nothing stops a scripted broker from sending 3.
    pub qos: u8,
    /// Not sent with QoS 0.
    pub packet_id: u16,
    /// Marks a message that was sent before.
    pub dup: bool,
    /// Marks a retained message.
    pub retain: bool,
    /// The topic's name.
    pub topic: String,
    /// The application message.
    pub payload: Bytes,
    /// None in 3.1.1.
    pub properties: Properties,
}

impl Publish {
    /// A message with QoS 0.
    pub fn new(topic: &str, payload: impl Into<Bytes>) -> Publish {
        Publish {
            qos: 0,
            packet_id: 0,
            dup: false,
            retain: false,
            topic: topic.into(),
            payload: payload.into(),
            properties: Properties::new(),
        }
    }

    /// With a QoS and a packet id.
    pub fn qos(mut self, qos: u8, packet_id: u16) -> Publish {
        (self.qos, self.packet_id) = (qos, packet_id);
        self
    }

    /// Marked as sent before.
    pub fn dup(mut self) -> Publish {
        self.dup = true;
        self
    }

    /// Marked as retained.
    pub fn retain(mut self) -> Publish {
        self.retain = true;
        self
    }

    /// With properties (MQTT 5).
    pub fn properties(mut self, properties: Properties) -> Publish {
        self.properties = properties;
        self
    }
}

/// What PUBACK, PUBREC, PUBREL and PUBCOMP carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Which message.
    pub packet_id: u16,
    /// 0 in 3.1.1.
    pub reason: u8,
}

/// A filter of a SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// With `$share/<name>/`, when the subscription is shared.
    pub filter: String,
    /// The most the client wants.
    pub qos: u8,
    /// 0, 1 or 2; 0 in 3.1.1.
    pub retain_handling: u8,
    /// Whether retained messages keep their flag.
    pub retain_as_published: bool,
    /// Whether the client's own messages do not come back.
    pub no_local: bool,
}

/// A SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// To be named in the SUBACK.
    pub packet_id: u16,
    /// At least one.
    pub filters: Vec<Filter>,
    /// None in 3.1.1.
    pub properties: Properties,
}

/// Any packet the kit reads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the specification's")]
pub enum Packet {
    Connect(Connect),
    Connack {
        session_present: bool,
        reason: u8,
        properties: Properties,
    },
    Publish(Publish),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Subscribe(Subscribe),
    Suback {
        packet_id: u16,
        reasons: Bytes,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    Pingreq,
    Pingresp,
    Disconnect {
        reason: u8,
        properties: Properties,
    },
}

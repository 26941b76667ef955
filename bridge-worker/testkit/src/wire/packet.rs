//! Packets, in both directions.

use super::reader::Reader;
use super::{Frame, Malformed, Properties, Version, put_data, put_varint};
use bytes::{BufMut, Bytes, BytesMut};

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

impl Packet {
    /// Takes the first whole packet off `buffer`; `None` when there is none yet.
    ///
    /// # Errors
    /// When the bytes are not MQTT of that version.
    pub fn take(version: Version, buffer: &mut BytesMut) -> Result<Option<Packet>, Malformed> {
        Frame::split(buffer)?
            .map(|frame| Packet::decode(version, &frame))
            .transpose()
    }

    pub(crate) fn decode(version: Version, frame: &Frame) -> Result<Packet, Malformed> {
        let mut reader = Reader(frame.body.clone());
        let packet = match frame.first >> 4 {
            1 => Packet::Connect(connect(&mut reader)?),
            2 => Packet::Connack {
                session_present: reader.u8("flags")? & 1 != 0,
                reason: reader.u8("a reason")?,
                properties: properties(version, &mut reader)?,
            },
            3 => Packet::Publish(publish(version, frame.first, &mut reader)?),
            4 => Packet::Puback(ack(&mut reader)?),
            5 => Packet::Pubrec(ack(&mut reader)?),
            6 => Packet::Pubrel(ack(&mut reader)?),
            7 => Packet::Pubcomp(ack(&mut reader)?),
            8 => Packet::Subscribe(subscribe(version, &mut reader)?),
            10 => {
                let packet_id = reader.u16("a packet id")?;
                properties(version, &mut reader)?;
                let mut filters = Vec::new();
                while !reader.is_empty() {
                    filters.push(reader.text("a filter")?);
                }
                Packet::Unsubscribe { packet_id, filters }
            }
            12 => Packet::Pingreq,
            13 => Packet::Pingresp,
            14 if reader.is_empty() => Packet::Disconnect {
                reason: 0,
                properties: Properties::new(),
            },
            14 => {
                let reason = reader.u8("a reason")?;
                let properties = if reader.is_empty() {
                    Properties::new()
                } else {
                    Properties::read(&mut reader)?
                };
                Packet::Disconnect { reason, properties }
            }
            other => {
                return Err(Malformed(format!(
                    "the kit does not read packets of type {other}"
                )));
            }
        };
        if reader.is_empty() {
            return Ok(packet);
        }
        Err(Malformed(format!(
            "{} bytes too many in {packet:?}",
            reader.0.len()
        )))
    }
}

/// Appends a packet with that first byte and body.
pub(crate) fn put_packet(buffer: &mut BytesMut, first: u8, body: &[u8]) {
    buffer.put_u8(first);
    put_varint(buffer, body.len());
    buffer.put_slice(body);
}

/// Appends a PUBLISH.
pub(crate) fn put_publish(buffer: &mut BytesMut, version: Version, publish: &Publish) {
    let Publish {
        qos,
        packet_id,
        dup,
        retain,
        topic,
        payload,
        properties,
    } = publish;
    let mut head = BytesMut::with_capacity(topic.len() + 8);
    put_data(&mut head, topic.as_bytes());
    if *qos > 0 {
        head.put_u16(*packet_id);
    }
    if version == Version::V5 {
        properties.write(&mut head);
    }
    buffer.reserve(head.len() + payload.len() + 5);
    buffer.put_u8(0x30 | u8::from(*dup) << 3 | qos << 1 | u8::from(*retain));
    put_varint(buffer, head.len() + payload.len());
    buffer.put_slice(&head);
    buffer.put_slice(payload);
}

/// Appends a CONNECT of MQTT 5.
pub(crate) fn put_connect(buffer: &mut BytesMut, connect: &Connect) {
    let Connect {
        client_id,
        clean_start,
        keep_alive,
        username,
        password,
        properties,
        ..
    } = connect;
    let mut body = BytesMut::new();
    put_data(&mut body, b"MQTT");
    body.put_u8(5);
    let flags =
        u8::from(*clean_start) << 1 | u8::from(password.is_some()) << 6 | u8::from(username.is_some()) << 7;
    body.put_u8(flags);
    body.put_u16(*keep_alive);
    properties.write(&mut body);
    put_data(&mut body, client_id.as_bytes());
    if let Some(username) = username {
        put_data(&mut body, username.as_bytes());
    }
    if let Some(password) = password {
        put_data(&mut body, password);
    }
    put_packet(buffer, 0x10, &body);
}

fn properties(version: Version, reader: &mut Reader) -> Result<Properties, Malformed> {
    match version {
        Version::V311 => Ok(Properties::new()),
        Version::V5 => Properties::read(reader),
    }
}

fn connect(reader: &mut Reader) -> Result<Connect, Malformed> {
    let protocol = reader.text("the protocol's name")?;
    let level = reader.u8("the protocol's level")?;
    let version = match (protocol.as_str(), level) {
        ("MQTT", 4) => Version::V311,
        ("MQTT", 5) => Version::V5,
        _ => return Err(Malformed(format!("unknown protocol {protocol} {level}"))),
    };
    let flags = reader.u8("flags")?;
    let keep_alive = reader.u16("the keep-alive")?;
    let own = properties(version, reader)?;
    let client_id = reader.text("the client id")?;
    let has_will = flags & 4 != 0;
    if has_will {
        properties(version, reader)?;
        reader.text("the will's topic")?;
        reader.data("the will's payload")?;
    }
    let username = if flags & 0x80 != 0 {
        Some(reader.text("the user name")?)
    } else {
        None
    };
    let password = if flags & 0x40 != 0 {
        Some(reader.data("the password")?)
    } else {
        None
    };
    let clean_start = flags & 2 != 0;
    Ok(Connect {
        version,
        client_id,
        clean_start,
        keep_alive,
        username,
        password,
        has_will,
        properties: own,
    })
}

fn publish(version: Version, first: u8, reader: &mut Reader) -> Result<Publish, Malformed> {
    let qos = first >> 1 & 3;
    let topic = reader.text("the topic")?;
    let packet_id = if qos > 0 { reader.u16("a packet id")? } else { 0 };
    let properties = properties(version, reader)?;
    let payload = reader.take(reader.0.len(), "the payload")?;
    Ok(Publish {
        qos,
        packet_id,
        dup: first & 8 != 0,
        retain: first & 1 != 0,
        topic,
        payload,
        properties,
    })
}

/// A reason may be left out, and properties after it are of no interest.
fn ack(reader: &mut Reader) -> Result<Ack, Malformed> {
    let packet_id = reader.u16("a packet id")?;
    let reason = if reader.is_empty() {
        0
    } else {
        reader.u8("a reason")?
    };
    if !reader.is_empty() {
        Properties::read(reader)?;
    }
    Ok(Ack { packet_id, reason })
}

fn subscribe(version: Version, reader: &mut Reader) -> Result<Subscribe, Malformed> {
    let packet_id = reader.u16("a packet id")?;
    let properties = properties(version, reader)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        let filter = reader.text("a filter")?;
        let options = reader.u8("options")?;
        filters.push(Filter {
            filter,
            qos: options & 3,
            retain_handling: options >> 4 & 3,
            retain_as_published: options & 8 != 0,
            no_local: options & 4 != 0,
        });
    }
    Ok(Subscribe {
        packet_id,
        filters,
        properties,
    })
}

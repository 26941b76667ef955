//! Bytes to packets.

use super::reader::Reader;
use super::{Ack, Connect, Filter, Frame, Malformed, Packet, Properties, Publish, Subscribe, Version};
use bytes::BytesMut;

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
            9 => {
                let packet_id = reader.u16("a packet id")?;
                properties(version, &mut reader)?;
                let reasons = std::mem::take(&mut reader.0);
                Packet::Suback { packet_id, reasons }
            }
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

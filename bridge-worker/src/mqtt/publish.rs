//! PUBLISH as it is sent, and the answers to it.

use bytes::{BufMut, BytesMut};

use super::packet::Version;
use super::wire::FixedHeader;

/// Message Expiry Interval [MQTT-3.3.2.3.3].
const EXPIRY: u8 = 0x02;

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outbound<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// Properties of MQTT 5, as they are written.
    pub(crate) properties: &'a [u8],
    /// How long it may still take, in seconds.
    pub(crate) expiry_seconds: Option<u32>,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
}

impl Outbound<'_> {
    /// What follows the fixed header, in bytes.
    fn remaining(&self, version: Version) -> usize {
        let id = if self.qos > 0 { 2 } else { 0 };
        let properties = match version {
            Version::V5 => {
                let length = self.properties_length();
                length + length_of(length)
            }
            Version::V311 => 0,
        };
        2 + self.topic.len() + id + properties + self.payload.len()
    }

    fn properties_length(&self) -> usize {
        self.properties.len() + if self.expiry_seconds.is_some() { 5 } else { 0 }
    }

    /// The whole packet, in bytes.
    pub(crate) fn packet_length(&self, version: Version) -> usize {
        let remaining = self.remaining(version);
        1 + length_of(remaining) + remaining
    }

    /// Appends the packet.
    pub(crate) fn write(&self, version: Version, id: u16, dup: bool, out: &mut BytesMut) {
        out.reserve(self.packet_length(version));
        out.put_u8(0x30 | u8::from(dup) << 3 | self.qos << 1 | u8::from(self.retain));
        put_length(out, self.remaining(version));
        out.put_u16(self.topic.len() as u16);
        out.put_slice(self.topic);
        if self.qos > 0 {
            out.put_u16(id);
        }
        if version == Version::V5 {
            put_length(out, self.properties_length());
            out.put_slice(self.properties);
            if let Some(seconds) = self.expiry_seconds {
                out.put_u8(EXPIRY);
                out.put_u32(seconds);
            }
        }
        out.put_slice(self.payload);
    }
}

/// Appends PUBREL.
pub(crate) fn pubrel(out: &mut BytesMut, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.put_slice(&[0x62, 2, high, low]);
}

/// Appends a property that is a text or bytes: its identifier, its length and itself.
pub(crate) fn put_property(out: &mut BytesMut, identifier: Property, bytes: &[u8]) {
    out.put_u8(identifier as u8);
    put_bytes(out, bytes);
}

/// Appends a user property.
pub(crate) fn put_user_property(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_u8(0x26);
    put_bytes(out, name);
    put_bytes(out, value);
}

/// Properties of a PUBLISH [MQTT-3.3.2.3].
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(crate) enum Property {
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
}

/// The mapping has seen to it that none is longer than 65,535.
fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

/// Appends a variable byte integer.
fn put_length(out: &mut BytesMut, mut length: usize) {
    while length > 0x7F {
        out.put_u8(length as u8 & 0x7F | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

fn length_of(length: usize) -> usize {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// What a broker answers to a PUBLISH, or to the PUBREL that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "the packets are called so")]
pub(crate) enum Answer {
    PubAck { id: u16, code: u8 },
    PubRec { id: u16, code: u8 },
    PubComp { id: u16, code: u8 },
}

impl Answer {
    /// Reads a complete packet, if it is one of these. A reason string and user properties are of no use here.
    pub(super) fn read(header: FixedHeader, packet: &[u8]) -> Option<Self> {
        if !matches!(header.first, 0x40 | 0x50 | 0x70) {
            return None;
        }
        let mut rest = packet.get(header.length..header.packet_length())?.iter().copied();
        let id = u16::from_be_bytes([rest.next()?, rest.next()?]);
        let code = rest.next().unwrap_or_default();
        match header.first {
            0x40 => Some(Self::PubAck { id, code }),
            0x50 => Some(Self::PubRec { id, code }),
            _ => Some(Self::PubComp { id, code }),
        }
    }

    /// The type of the packet [MQTT-2.1.2].
    pub(crate) fn packet_type(self) -> u8 {
        match self {
            Self::PubAck { .. } => 4,
            Self::PubRec { .. } => 5,
            Self::PubComp { .. } => 7,
        }
    }

    /// The packet identifier.
    pub(crate) fn id(self) -> u16 {
        match self {
            Self::PubAck { id, .. } | Self::PubRec { id, .. } | Self::PubComp { id, .. } => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rumqttc::mqttbytes::v4;
    use rumqttc::v5::mqttbytes::v5;

    use super::super::wire::Peek;
    use super::*;

    proptest! {
        /// What is written is read as it was meant by another codec.
        #[test]
        fn another_codec_reads_it(
            topic in "[a-zA-Z0-9/]{1,300}",
            payload in prop::collection::vec(any::<u8>(), 0..20_000),
            expiry in prop::option::of(any::<u32>()),
            user in prop::collection::vec(("[a-z]{0,20}", "[a-z]{0,200}"), 0..5),
            correlation in prop::option::of(prop::collection::vec(any::<u8>(), 0..100)),
            (qos, retain, dup, id) in (0_u8..3, any::<bool>(), any::<bool>(), 1_u16..),
        ) {
            let dup = dup && qos > 0;
            let mut properties = BytesMut::new();
            put_property(&mut properties, Property::ContentType, b"text/plain");
            put_property(&mut properties, Property::ResponseTopic, b"answers");
            if let Some(data) = &correlation {
                put_property(&mut properties, Property::CorrelationData, data);
            }
            for (name, value) in &user {
                put_user_property(&mut properties, name.as_bytes(), value.as_bytes());
            }
            let message = Outbound {
                topic: topic.as_bytes(),
                payload: &payload,
                properties: &properties,
                expiry_seconds: expiry,
                qos,
                retain,
            };
            let mut out = BytesMut::new();
            message.write(Version::V5, id, dup, &mut out);
            prop_assert_eq!(out.len(), message.packet_length(Version::V5));
            let Ok(v5::Packet::Publish(read)) = v5::Packet::read(&mut out, None) else {
                return Err(TestCaseError::fail("no PUBLISH"));
            };
            prop_assert!(out.is_empty());
            prop_assert_eq!((read.qos as u8, read.retain, read.dup), (qos, retain, dup));
            prop_assert_eq!(read.pkid, if qos > 0 { id } else { 0 });
            prop_assert_eq!((&read.topic[..], &read.payload[..]), (topic.as_bytes(), &payload[..]));
            let read = read.properties.expect("properties");
            prop_assert_eq!(read.message_expiry_interval, expiry);
            prop_assert_eq!(read.content_type.as_deref(), Some("text/plain"));
            prop_assert_eq!(read.response_topic.as_deref(), Some("answers"));
            prop_assert_eq!(read.correlation_data.as_deref(), correlation.as_deref());
            prop_assert_eq!(read.user_properties, user);

            message.write(Version::V311, id, dup, &mut out);
            prop_assert_eq!(out.len(), message.packet_length(Version::V311));
            let Ok(v4::Packet::Publish(read)) = v4::Packet::read(&mut out, usize::MAX) else {
                return Err(TestCaseError::fail("no PUBLISH"));
            };
            prop_assert!(out.is_empty());
            prop_assert_eq!((read.topic.as_bytes(), &read.payload[..]), (topic.as_bytes(), &payload[..]));
        }
    }

    #[test]
    fn answers_are_read_with_and_without_a_reason() {
        let read = |packet: &[u8]| match FixedHeader::peek(packet) {
            Peek::Header(header) => Answer::read(header, packet),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            read(&[0x40, 2, 1, 2]),
            Some(Answer::PubAck { id: 0x102, code: 0 })
        );
        assert_eq!(
            read(&[0x50, 3, 0, 7, 0x97]),
            Some(Answer::PubRec { id: 7, code: 0x97 })
        );
        // With a reason string.
        assert_eq!(
            read(&[0x70, 8, 0, 7, 0x92, 4, 0x1F, 0, 1, b'x']),
            Some(Answer::PubComp { id: 7, code: 0x92 })
        );
        assert_eq!(read(&[0x40, 1, 1]), None);
        assert_eq!(read(&[0x62, 2, 0, 1]), None);
    }
}

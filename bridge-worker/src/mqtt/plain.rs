//! A PUBLISH without properties, read where it lies. Nearly every message is one; the codec shares out a buffer
//! for each, at five times the cost.

use std::ops::Range;

use super::packet::{PacketError, Version};
use super::wire::FixedHeader;
use crate::pipeline::{Ack, Received};

/// Where the parts of a PUBLISH without properties are, from the start of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    id: u16,
    ack: Ack,
    dup: bool,
    retain: bool,
    topic: Range<usize>,
    pub(super) payload: Range<usize>,
}

impl Plain {
    /// Finds them in the complete packet at the start of `bytes`. `None` for every other packet, and for whatever
    /// is not as it must be: the codec takes it, or says what is wrong.
    pub(super) fn find(version: Version, header: FixedHeader, bytes: &[u8]) -> Option<Self> {
        let packet = bytes.get(..header.packet_length())?;
        let short = |at: usize| Some(u16::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        let ack = match (header.is_publish(), header.first >> 1 & 3) {
            (true, 0) => Ack::None,
            (true, 1) => Ack::PubAck,
            (true, 2) => Ack::PubRec,
            _ => return None,
        };
        let topic = header.length + 2;
        let topic = topic..topic + usize::from(short(header.length)?);
        let (id, next) = match ack {
            Ack::None => (0, topic.end),
            Ack::PubAck | Ack::PubRec => (short(topic.end)?, topic.end + 2),
        };
        if ack != Ack::None && id == 0 {
            return None;
        }
        let next = match version {
            Version::V311 => next,
            Version::V5 if packet.get(next) == Some(&0) => next + 1,
            Version::V5 => return None,
        };
        (next <= packet.len()).then_some(Self {
            id,
            ack,
            dup: header.first & 0x08 != 0,
            retain: header.first & 0x01 != 0,
            topic,
            payload: next..packet.len(),
        })
    }

    /// The message. `packet` begins with the packet it was found in.
    pub(super) fn received<'a>(&self, packet: &'a [u8]) -> Result<Received<'a>, PacketError> {
        let topic = std::str::from_utf8(&packet[self.topic.clone()]);
        Ok(Received {
            id: self.id,
            ack: self.ack,
            dup: self.dup,
            retain: self.retain,
            topic: topic
                .ok()
                .filter(|topic| !topic.is_empty())
                .ok_or(PacketError::Topic)?,
            payload: &packet[self.payload.clone()],
            properties: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::packet::{Inbound, Publish};
    use super::super::wire::Peek;
    use super::*;

    fn packet(first: u8, topic: &[u8], id: Option<u16>, properties: &[u8], payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(topic.len()).unwrap();
        let id = id.map_or(Vec::new(), |id| id.to_be_bytes().to_vec());
        let body = [&length.to_be_bytes()[..], topic, &id, properties, payload].concat();
        [&[first, u8::try_from(body.len()).unwrap()][..], &body].concat()
    }

    fn find(version: Version, bytes: &[u8]) -> Option<Plain> {
        match FixedHeader::peek(bytes) {
            Peek::Header(header) => Plain::find(version, header, bytes),
            _ => None,
        }
    }

    fn codec(version: Version, bytes: &[u8]) -> Option<Publish> {
        match version.decode(&mut BytesMut::from(bytes)) {
            Ok(Inbound::Publish(publish)) => Some(publish),
            _ => None,
        }
    }

    #[test]
    fn nearly_every_publish_is_found() {
        let plain = packet(0x3B, b"a/b", Some(7), &[0], b"hello");
        let found = find(Version::V5, &plain).unwrap();
        let received = found.received(&plain).unwrap();
        assert_eq!((received.topic, received.payload), ("a/b", &b"hello"[..]));
        assert_eq!((received.id, received.ack), (7, Ack::PubAck));
        assert!(received.dup && received.retain);
        let qos0 = packet(0x30, b"a/b", None, &[], b"");
        assert!(find(Version::V311, &qos0).is_some());
    }

    #[test]
    fn what_needs_the_codec_is_left_to_it() {
        let with_property = packet(0x32, b"a", Some(7), &[2, 0x01, 1], b"x");
        assert_eq!(find(Version::V5, &with_property), None);
        assert_eq!(find(Version::V5, &packet(0x32, b"a", Some(0), &[0], b"x")), None);
        assert_eq!(find(Version::V5, &packet(0x36, b"a", Some(7), &[0], b"x")), None);
        assert_eq!(find(Version::V5, &[0xD0, 0]), None);
    }

    proptest! {
        /// Whatever is found, the codec finds too, and the same.
        #[test]
        fn it_agrees_with_the_codec(
            v5 in any::<bool>(),
            first in 0x30_u8..=0x3F,
            topic in "[a-z/]{0,4}",
            id in 0_u16..3,
            properties in prop::collection::vec(0_u8..3, 0..3),
            payload in prop::collection::vec(any::<u8>(), 0..5),
            changed in any::<(prop::sample::Index, u8)>(),
            change in any::<bool>(),
        ) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let mut bytes = packet(first, topic.as_bytes(), Some(id), &properties, &payload);
            if change {
                let at = changed.0.index(bytes.len() - 2) + 2;
                bytes[at] = changed.1;
            }
            if let Some(found) = find(version, &bytes)
                && let Ok(received) = found.received(&bytes)
            {
                let publish = codec(version, &bytes).unwrap();
                prop_assert_eq!(received.topic.as_bytes(), &publish.topic[..]);
                prop_assert_eq!(received.payload, &publish.payload[..]);
                prop_assert_eq!(
                    (received.id, received.ack, received.dup, received.retain),
                    (publish.id, publish.ack, publish.dup, publish.retain)
                );
                prop_assert!(publish.properties.is_none());
            }
        }
    }
}

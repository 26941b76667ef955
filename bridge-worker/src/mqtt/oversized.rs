//! A PUBLISH larger than the route takes: read while it streams by, never held whole.

use bytes::{Buf, BytesMut};
use sha2::{Digest, Sha256};

use super::packet::{PacketError, Publish, Version};
use super::wire::FixedHeader;
use crate::pipeline::{Ack, HEAD_BYTES, hex};

/// A PUBLISH larger than the route takes, of which only the start is kept.
#[derive(Debug)]
pub(crate) struct Oversized {
    head: Publish,
    /// Bytes of the payload not yet seen.
    left: usize,
    size: u64,
    hash: Sha256,
}

/// The most that topic and properties may take to be kept: a topic has at most 64 KiB.
pub(crate) const MAX_HEADER: usize = 256 * 1024;

impl Oversized {
    /// Starts on the packet at the front of `buffer`. `None`: more bytes are needed.
    pub(crate) fn start(
        version: Version,
        header: FixedHeader,
        buffer: &mut BytesMut,
    ) -> Result<Option<Self>, PacketError> {
        let Some(lengths) = Lengths::peek(version, header, &buffer[header.length..]) else {
            return Ok(None);
        };
        // Properties that are themselves too large are skipped like the payload.
        let with_properties = lengths.variable <= MAX_HEADER && lengths.variable <= header.remaining;
        let variable = if with_properties {
            lengths.variable
        } else {
            lengths.fixed
        };
        if variable > header.remaining {
            return Err(PacketError::HeaderTooLarge);
        }
        if buffer.len() < header.length + variable {
            return Ok(None);
        }
        // The same packet with an empty payload, for the codec.
        let no_properties: &[u8] = if with_properties || version == Version::V311 {
            &[]
        } else {
            &[0]
        };
        let mut short = BytesMut::with_capacity(variable + 6);
        short.extend_from_slice(&[header.first]);
        put_remaining_length(&mut short, variable + no_properties.len());
        short.extend_from_slice(&buffer[header.length..header.length + variable]);
        short.extend_from_slice(no_properties);
        buffer.advance(header.length + variable);
        let super::packet::Inbound::Publish(head) = version.decode(&mut short)? else {
            return Err(PacketError::Unexpected(header.first >> 4));
        };
        let size = header.remaining - variable;
        Ok(Some(Self {
            head,
            left: size,
            size: size as u64,
            hash: Sha256::new(),
        }))
    }

    /// Takes payload from `buffer`; true when it has seen all.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> bool {
        let bytes = buffer.split_to(buffer.len().min(self.left));
        self.hash.update(&bytes);
        self.left -= bytes.len();
        let room = HEAD_BYTES - self.head.payload.len();
        if room > 0 {
            let kept = [&self.head.payload[..], &bytes[..bytes.len().min(room)]].concat();
            self.head.payload = kept.into();
        }
        self.left == 0
    }

    /// The message with the head of its payload, the payload's size in bytes, and its SHA-256.
    pub(crate) fn finish(self) -> (Publish, u64, String) {
        (self.head, self.size, hex(&self.hash.finalize()))
    }
}

/// Cuts a message that was held whole to what [`Oversized`] keeps of those that were not.
pub(crate) fn cut(mut publish: Publish) -> (Publish, u64, String) {
    let (size, sha256) = (
        publish.payload.len() as u64,
        hex(&Sha256::digest(&publish.payload)),
    );
    publish.payload.truncate(HEAD_BYTES);
    (publish, size, sha256)
}

/// How long the parts before the payload are, in bytes.
struct Lengths {
    /// Topic and packet identifier.
    fixed: usize,
    /// Those and the properties.
    variable: usize,
}

impl Lengths {
    /// `None` when too few bytes are there to tell.
    fn peek(version: Version, header: FixedHeader, bytes: &[u8]) -> Option<Self> {
        let id = if qos(header) == Ack::None { 0 } else { 2 };
        let fixed = 2 + usize::from(u16::from_be_bytes(*bytes.first_chunk::<2>()?)) + id;
        if version == Version::V311 {
            return Some(Self {
                fixed,
                variable: fixed,
            });
        }
        let rest = bytes.get(fixed..)?;
        let mut length = 0_usize;
        for (index, byte) in rest.iter().take(4).enumerate() {
            length |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Some(Self {
                    fixed,
                    variable: fixed + index + 1 + length,
                });
            }
        }
        (rest.len() >= 4).then_some(Self {
            fixed,
            variable: usize::MAX,
        })
    }
}

fn qos(header: FixedHeader) -> Ack {
    match header.first >> 1 & 3 {
        0 => Ack::None,
        1 => Ack::PubAck,
        _ => Ack::PubRec,
    }
}

fn put_remaining_length(out: &mut BytesMut, mut length: usize) {
    loop {
        let byte = (length & 0x7F) as u8;
        length >>= 7;
        out.extend_from_slice(&[if length > 0 { byte | 0x80 } else { byte }]);
        if length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: Version, payload: usize) -> Vec<u8> {
        let properties: &[u8] = if version == Version::V5 {
            &[5, 0x03, 0, 2, b'c', b't']
        } else {
            &[]
        };
        let mut out = BytesMut::from(&[0x32][..]);
        put_remaining_length(&mut out, 2 + 3 + 2 + properties.len() + payload);
        out.extend_from_slice(&[0, 3, b'a', b'/', b'b', 0, 9]);
        out.extend_from_slice(properties);
        out.extend_from_slice(&vec![7; payload]);
        out.to_vec()
    }

    #[test]
    fn a_large_packet_streams_by_whatever_way_it_is_cut() {
        for version in [Version::V5, Version::V311] {
            for chunk in [1, 3, 1000, 5000] {
                let packet = packet(version, 3000);
                let mut buffer = BytesMut::new();
                let mut oversized = None;
                let mut done = false;
                let mut largest = 0;
                for bytes in packet.chunks(chunk) {
                    assert!(!done);
                    buffer.extend_from_slice(bytes);
                    largest = largest.max(buffer.len());
                    if oversized.is_none() {
                        let crate::mqtt::wire::Peek::Header(header) = FixedHeader::peek(&buffer) else {
                            continue;
                        };
                        oversized = Oversized::start(version, header, &mut buffer).unwrap();
                    }
                    if let Some(oversized) = &mut oversized {
                        done = oversized.take(&mut buffer);
                    }
                }
                assert!(done && buffer.is_empty());
                let (head, size, sha256) = oversized.unwrap().finish();
                assert_eq!(
                    (head.id, &head.topic[..], head.ack, size),
                    (9, &b"a/b"[..], Ack::PubAck, 3000)
                );
                assert_eq!(head.payload, vec![7; HEAD_BYTES]);
                assert_eq!(sha256, hex(&Sha256::digest(vec![7; 3000])));
                assert!(
                    largest <= chunk + 20,
                    "held {largest} bytes with chunks of {chunk}"
                );
            }
        }
    }
}

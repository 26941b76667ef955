//! MQTT on the wire, 3.1.1 and 5: just enough for the kit, and independent of the codec under test.

mod decode;
mod encode;
mod packet;
mod properties;
mod reader;

pub(crate) use encode::{put_connect, put_packet, put_publish, put_subscribe};
pub use packet::{Ack, Connect, Filter, Packet, Publish, Subscribe};
pub use properties::{Properties, Value, id};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The version a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// Why bytes are not MQTT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed packet: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A packet that is not looked into yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Type and flags.
    pub(crate) first: u8,
    /// What follows the fixed header.
    pub(crate) body: Bytes,
}

impl Frame {
    /// Takes the first whole packet off `buffer`.
    pub(crate) fn split(buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        let mut length = 0;
        for at in 0..4 {
            let Some(&byte) = buffer.get(1 + at) else {
                return Ok(None);
            };
            length |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                let head = 2 + at;
                if buffer.len() < head + length {
                    buffer.reserve(head + length - buffer.len());
                    return Ok(None);
                }
                let mut packet = buffer.split_to(head + length).freeze();
                let first = packet[0];
                packet.advance(head);
                return Ok(Some(Frame { first, body: packet }));
            }
        }
        Err(Malformed("a remaining length of more than four bytes".into()))
    }
}

/// Appends a variable byte integer.
pub(crate) fn put_varint(buffer: &mut BytesMut, mut number: usize) {
    loop {
        let byte = (number % 128) as u8;
        number /= 128;
        buffer.put_u8(byte | if number > 0 { 0x80 } else { 0 });
        if number == 0 {
            return;
        }
    }
}

/// Appends a string or binary data with its length.
pub(crate) fn put_data(buffer: &mut BytesMut, data: &[u8]) {
    buffer.put_u16(u16::try_from(data.len()).expect("MQTT strings have at most 65,535 bytes"));
    buffer.put_slice(data);
}

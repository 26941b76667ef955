//! The fixed header, read before a packet is complete: what decides how the rest is read.

/// The fixed header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FixedHeader {
    /// Type and flags.
    pub(crate) first: u8,
    /// Its own length, in bytes.
    pub(crate) length: usize,
    /// What follows it, in bytes.
    pub(crate) remaining: usize,
}

/// What the first bytes of a packet say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peek {
    /// Too few bytes.
    Incomplete,
    Header(FixedHeader),
    /// The remaining length has more than four bytes [MQTT-1.5.5].
    Malformed,
}

impl FixedHeader {
    /// Reads the header at the start of `bytes`.
    pub(crate) fn peek(bytes: &[u8]) -> Peek {
        let Some((first, rest)) = bytes.split_first() else {
            return Peek::Incomplete;
        };
        let mut remaining = 0_usize;
        for (index, byte) in rest.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7F) << (7 * index);
            if byte & 0x80 == 0 {
                return Peek::Header(Self {
                    first: *first,
                    length: index + 2,
                    remaining,
                });
            }
        }
        if rest.len() >= 4 {
            Peek::Malformed
        } else {
            Peek::Incomplete
        }
    }

    /// Whether it starts a PUBLISH.
    pub(crate) fn is_publish(self) -> bool {
        self.first >> 4 == 3
    }

    /// The whole packet, in bytes.
    pub(crate) fn packet_length(self) -> usize {
        self.length + self.remaining
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remaining_length_is_read_as_the_standard_says() {
        let header = |bytes: &[u8]| match FixedHeader::peek(bytes) {
            Peek::Header(header) => (header.length, header.remaining),
            other => panic!("{other:?}"),
        };
        assert_eq!(header(&[0x30, 0]), (2, 0));
        assert_eq!(header(&[0x30, 0x7F]), (2, 127));
        assert_eq!(header(&[0x30, 0x80, 0x01]), (3, 128));
        assert_eq!(header(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]), (5, 268_435_455));
        assert_eq!(FixedHeader::peek(&[]), Peek::Incomplete);
        assert_eq!(FixedHeader::peek(&[0x30, 0x80]), Peek::Incomplete);
        assert_eq!(
            FixedHeader::peek(&[0x30, 0x80, 0x80, 0x80, 0x80]),
            Peek::Malformed
        );
    }
}

//! What a published message carries so that it can be recognised in Kafka.

use crate::wait::now_micros;
use bytes::BufMut;

/// Marks a payload as one of ours.
const MAGIC: u32 = 0x4d52_544b;

/// Which message: the run that sent it, the key it belongs to, and its number within the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId {
    /// Drawn at random for each publisher.
    pub run: u32,
    /// From 0; messages of a key are sent in order.
    pub key: u32,
    /// From 0, without gaps.
    pub sequence: u32,
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "run {:08x} key {} sequence {}",
            self.run, self.key, self.sequence
        )
    }
}

/// The head of a payload: who it is, when it was sent first, and a checksum over everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which message.
    pub id: MessageId,
    /// When it was put on the wire for the first time, in microseconds since the Unix epoch.
    pub sent_at: u64,
}

/// Why a payload has no readable [`Stamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StampError {
    /// Not a payload of a [`crate::Publisher`].
    Foreign,
    /// One that was cut, lengthened or changed on its way.
    Corrupted,
}

impl Stamp {
    /// Bytes a stamp needs: the least size of a payload.
    pub const SIZE: usize = 32;

    /// A stamp with the time of now.
    pub fn now(id: MessageId) -> Stamp {
        Stamp {
            id,
            sent_at: now_micros(),
        }
    }

    /// Appends a payload of `size` bytes (at least [`Stamp::SIZE`]): the stamp, then filler. Equal stamps give equal
    /// bytes, so a message that is sent again is the same message.
    pub fn write(&self, size: usize, buffer: &mut impl BufMut) {
        let mut head = [0_u8; Self::SIZE];
        head[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        head[4..8].copy_from_slice(&self.id.run.to_le_bytes());
        head[8..12].copy_from_slice(&self.id.key.to_le_bytes());
        head[12..16].copy_from_slice(&self.id.sequence.to_le_bytes());
        head[16..24].copy_from_slice(&self.sent_at.to_le_bytes());
        let filler = size.saturating_sub(Self::SIZE);
        let size = u32::try_from(Self::SIZE + filler).expect("a payload MQTT can carry");
        head[24..28].copy_from_slice(&size.to_le_bytes());
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..28]);
        pieces(filler).for_each(|piece| crc.update(piece));
        head[28..32].copy_from_slice(&crc.finalize().to_le_bytes());
        buffer.put_slice(&head);
        pieces(filler).for_each(|piece| buffer.put_slice(piece));
    }

    /// Reads the stamp of a payload.
    ///
    /// # Errors
    /// See [`StampError`].
    pub fn read(payload: &[u8]) -> Result<Stamp, StampError> {
        if payload.get(0..4) != Some(&MAGIC.to_le_bytes()) {
            return Err(StampError::Foreign);
        }
        let word =
            |at: usize| -> Option<u32> { payload.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes) };
        let long =
            |at: usize| -> Option<u64> { payload.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes) };
        let read = || {
            let id = MessageId {
                run: word(4)?,
                key: word(8)?,
                sequence: word(12)?,
            };
            let sent_at = long(16)?;
            let size = word(24)? as usize;
            let mut crc = crc32fast::Hasher::new();
            crc.update(&payload[..28]);
            crc.update(payload.get(Self::SIZE..)?);
            (size == payload.len() && word(28)? == crc.finalize()).then_some(Stamp { id, sent_at })
        };
        read().ok_or(StampError::Corrupted)
    }
}

/// `size` bytes of filler.
fn pieces(size: usize) -> impl Iterator<Item = &'static [u8]> {
    const FILLER: &[u8; 4096] = &[b'.'; 4096];
    (0..size)
        .step_by(FILLER.len())
        .map(move |at| &FILLER[..FILLER.len().min(size - at)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(size: usize) -> (Stamp, Vec<u8>) {
        let stamp = Stamp::now(MessageId {
            run: 7,
            key: 8,
            sequence: 9,
        });
        let mut bytes = Vec::new();
        stamp.write(size, &mut bytes);
        (stamp, bytes)
    }

    #[test]
    fn a_stamp_is_read_back_from_its_payload() {
        for size in [0, 32, 33, 100, 1024, 10_000] {
            let (stamp, bytes) = payload(size);
            assert_eq!(bytes.len(), size.max(Stamp::SIZE));
            assert_eq!(Stamp::read(&bytes), Ok(stamp));
        }
    }

    #[test]
    fn every_changed_byte_is_seen() {
        let (_, bytes) = payload(64);
        for at in 4..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Stamp::read(&changed), Err(StampError::Corrupted), "byte {at}");
        }
        assert_eq!(Stamp::read(&bytes[..40]), Err(StampError::Corrupted));
        assert_eq!(
            Stamp::read(&[&bytes[..], b"x"].concat()),
            Err(StampError::Corrupted)
        );
        assert_eq!(Stamp::read(b"{\"t\": 1}"), Err(StampError::Foreign));
        assert_eq!(Stamp::read(b""), Err(StampError::Foreign));
    }
}

//! PUBLISH packets encoded once and sent many times.

use super::window::following;

/// About how many bytes a [`Block`] has: it stays in the second-level cache and fills a socket buffer.
const BLOCK_BYTES: usize = 256 * 1024;

/// A run of PUBLISH packets of equal length. Before they are sent only their packet ids change, in place.
#[derive(Debug)]
pub struct Block {
    bytes: Vec<u8>,
    stride: usize,
    id_at: Option<usize>,
    payload_at: usize,
    cursor: usize,
}

/// The MQTT topics of the benchmark: `bench/site<s>/plant<p>/line`, all of the same length.
pub fn topics(sites: usize, count: usize) -> Vec<String> {
    (0..count)
        .map(|n| format!("bench/site{}/plant{n:03}/line", n % sites.max(1)))
        .collect()
}

impl Block {
    /// Encodes packets for `topics` in turn. All topics must have the same length; `payload` makes the payload
    /// of the n-th packet, always of the same length.
    pub fn new(topics: &[String], qos: u8, payload: impl Fn(u64) -> Vec<u8>) -> Self {
        let first = encode(&topics[0], qos, &payload(0));
        let rounds = (BLOCK_BYTES / (first.bytes.len() * topics.len())).max(1);
        let count = rounds * topics.len();
        let mut bytes = Vec::with_capacity(count * first.bytes.len());
        for n in 0..count {
            let packet = encode(&topics[n % topics.len()], qos, &payload(n as u64));
            assert_eq!(
                packet.bytes.len(),
                first.bytes.len(),
                "packets of a block have the same length"
            );
            bytes.extend_from_slice(&packet.bytes);
        }
        Self {
            bytes,
            stride: first.bytes.len(),
            id_at: first.id_at,
            payload_at: first.payload_at,
            cursor: 0,
        }
    }

    /// How many packets can be taken at once now.
    pub fn available(&self) -> usize {
        self.bytes.len() / self.stride - self.cursor
    }

    /// The next `count` packets (at most [`Self::available`]), with the ids from `next_id` on, which moves on; `touch` may
    /// change each payload.
    pub fn take(&mut self, count: usize, next_id: &mut u16, mut touch: impl FnMut(&mut [u8])) -> &[u8] {
        let start = self.cursor * self.stride;
        let end = start + count * self.stride;
        self.cursor = (self.cursor + count) % (self.bytes.len() / self.stride);
        for packet in self.bytes[start..end].chunks_exact_mut(self.stride) {
            if let Some(at) = self.id_at {
                packet[at..at + 2].copy_from_slice(&next_id.to_be_bytes());
                *next_id = following(*next_id);
            }
            touch(&mut packet[self.payload_at..]);
        }
        &self.bytes[start..end]
    }
}

struct Encoded {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    payload_at: usize,
}

/// One MQTT 5 PUBLISH without properties, [MQTT-3.3].
fn encode(topic: &str, qos: u8, payload: &[u8]) -> Encoded {
    let id_bytes = if qos == 0 { 0 } else { 2 };
    let remaining = 2 + topic.len() + id_bytes + 1 + payload.len();
    let mut bytes = vec![0x30 | qos << 1];
    let mut length = remaining;
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        bytes.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    bytes.extend_from_slice(topic.as_bytes());
    let id_at = (qos > 0).then_some(bytes.len());
    bytes.resize(bytes.len() + id_bytes + 1, 0);
    let payload_at = bytes.len();
    bytes.extend_from_slice(payload);
    Encoded {
        bytes,
        id_at,
        payload_at,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rumqttc::v5::mqttbytes::v5::Packet;

    use super::*;
    use crate::payload::telemetry;

    #[test]
    fn another_codec_reads_what_is_sent() {
        for (qos, size) in [(0, 100), (1, 100), (2, 1024), (1, 20_000)] {
            let mut block = Block::new(&topics(2, 10), qos, |n| telemetry(size, n));
            let mut next_id = 1;
            let bytes = block.take(10, &mut next_id, |payload| payload[0] = b'['); // one round of topics
            let mut stream = BytesMut::from(bytes);
            for n in 0..10u16 {
                let Ok(Packet::Publish(publish)) = Packet::read(&mut stream, None) else {
                    panic!("no PUBLISH")
                };
                assert_eq!(publish.topic, format!("bench/site{}/plant00{n}/line", n % 2));
                assert_eq!(publish.pkid, if qos == 0 { 0 } else { n + 1 });
                assert_eq!(publish.payload[1..], telemetry(size, u64::from(n))[1..]);
            }
            assert!(stream.is_empty());
        }
    }

    #[test]
    fn packets_come_round_again() {
        let mut block = Block::new(&topics(1, 3), 1, |n| telemetry(100, n));
        let all = block.available();
        let first = block.take(all, &mut 1, |_| {}).to_vec();
        assert_eq!(block.take(all, &mut 1, |_| {}), first);
    }
}

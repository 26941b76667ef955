use std::collections::VecDeque;

/// How a message is acknowledged to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::enum_variant_names, reason = "PUBACK is what the packet is called")]
pub(crate) enum Ack {
    /// QoS 0: not at all.
    None,
    /// QoS 1.
    PubAck,
    /// QoS 2.
    PubRec,
}

/// What became of a message that may be acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    Filtered,
    DeadLettered,
    Discarded,
    Repeat,
}

/// A message received on the current connection and not yet acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The packet identifier; zero with QoS 0.
    pub(crate) id: u16,
    pub(crate) ack: Ack,
    /// Of topic and payload: what tells a repeat from another message under the same identifier.
    pub(crate) digest: u64,
    /// When it was received, in microseconds on the lane's clock.
    pub(crate) received_us: u64,
    /// Bytes charged to the lane's buffer while it is in flight.
    pub(crate) charged: u32,
    /// A record for it has been handed to the producer and not been refused.
    pub(crate) in_producer: bool,
    /// Its dead letter is under way.
    pub(crate) dead_letter: bool,
    /// Kafka refused it in a batch: it has been sent again in a batch of its own.
    pub(crate) sent_alone: bool,
    /// Kafka said its topic does not exist: it has been asked a second time.
    pub(crate) asked_again: bool,
    /// The record of an earlier connection whose report it waits for.
    pub(crate) adopts: Option<u64>,
    outcome: Option<Outcome>,
    topic_at: u64,
    topic_len: u16,
}

/// The messages received on the current connection and not yet acknowledged, in receive order.
///
/// Acks leave from the front only, so they leave in receive order [MQTT-4.6.0-2] and once. A message is named by
/// a sequence number that is never used again, on any connection: a report for a message of an earlier
/// connection finds nothing here and can never acknowledge another one.
///
/// The original topics lie end to end in one buffer beside the entries: an allocation per message would cost more
/// than the entry.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    entries: VecDeque<Entry>,
    first: u64,
    topics: Vec<u8>,
    /// Bytes at the start of `topics` that belong to messages already taken: given back many at a time.
    topics_taken: usize,
    /// Where the start of `topics` is among all topics ever pushed.
    topics_first: u64,
}

/// So many bytes of topics may be taken before they are given back, if they are half of all.
const TOPICS_TAKEN: usize = 16 * 1024;

/// What [`Ring::push`] needs to know of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry<'a> {
    pub(crate) id: u16,
    pub(crate) ack: Ack,
    pub(crate) digest: u64,
    pub(crate) received_us: u64,
    pub(crate) topic: &'a str,
}

impl Ring {
    /// Appends a message and returns its sequence number.
    pub(crate) fn push(&mut self, new: NewEntry<'_>) -> u64 {
        let topic_at = self.topics_first + self.topics.len() as u64;
        self.topics.extend_from_slice(new.topic.as_bytes());
        self.entries.push_back(Entry {
            id: new.id,
            ack: new.ack,
            digest: new.digest,
            received_us: new.received_us,
            charged: 0,
            in_producer: false,
            dead_letter: false,
            sent_alone: false,
            asked_again: false,
            adopts: None,
            outcome: None,
            topic_at,
            // An MQTT string has at most 65,535 bytes [MQTT-1.5.4].
            topic_len: u16::try_from(new.topic.len()).unwrap_or(u16::MAX),
        });
        self.first + self.entries.len() as u64 - 1
    }

    /// The message of that number, if it is of this connection, not yet acknowledged, and without outcome.
    pub(crate) fn pending(&mut self, sequence: u64) -> Option<&mut Entry> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.entries
            .get_mut(index)
            .filter(|entry| entry.outcome.is_none())
    }

    /// Records the outcome of a message. `None` when it is not [pending](Ring::pending): nothing changes then.
    pub(crate) fn settle(&mut self, sequence: u64, outcome: Outcome) -> Option<&mut Entry> {
        let entry = self.pending(sequence)?;
        entry.outcome = Some(outcome);
        Some(entry)
    }

    /// Takes the oldest message if it has an outcome.
    pub(crate) fn pop_settled(&mut self) -> Option<Entry> {
        self.entries.front()?.outcome?;
        let entry = self.entries.pop_front()?;
        self.first += 1;
        self.topics_taken += usize::from(entry.topic_len);
        if self.topics_taken >= TOPICS_TAKEN && self.topics_taken >= self.topics.len() / 2 {
            self.topics.drain(..self.topics_taken);
            self.topics_first += self.topics_taken as u64;
            self.topics_taken = 0;
        }
        Some(entry)
    }

    /// Takes everything: the connection is gone. Sequence numbers go on after it.
    pub(crate) fn lose(&mut self) -> impl Iterator<Item = (u64, Entry)> + use<> {
        let first = self.first;
        let entries = std::mem::take(&mut self.entries);
        self.first += entries.len() as u64;
        self.topics_first += self.topics.len() as u64;
        self.topics.clear();
        self.topics_taken = 0;
        entries
            .into_iter()
            .enumerate()
            .map(move |(index, entry)| (first + index as u64, entry))
    }

    /// The original topic of the pending message of that number.
    pub(crate) fn topic_of(&mut self, sequence: u64) -> Option<String> {
        let (at, len) = self
            .pending(sequence)
            .map(|entry| (entry.topic_at, entry.topic_len))?;
        let at = usize::try_from(at - self.topics_first).ok()?;
        let bytes = self.topics.get(at..at + usize::from(len))?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    /// The number of the oldest message not yet acknowledged, or of the next one if there is none.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Messages not yet acknowledged.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// When the oldest of them was received, in microseconds on the lane's clock.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.received_us)
    }
}

impl Entry {
    /// What became of it, if known.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }
}

//! Records on their way from the thread that reads Kafka to the one that talks to the broker.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Thread;

use bytes::{Bytes, BytesMut};
use millrace_mapping::Publication;

use super::progress::Ticket;
use crate::kafka::OwnedRecord;
use crate::mqtt::{Outbound, Property, put_property, put_user_property};

/// What a record costs beside its bytes, in bytes.
const OVERHEAD: usize = 160;

/// A record, mapped.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) ticket: Ticket,
    /// Topic, properties and payload, one behind the other.
    body: Bytes,
    topic: usize,
    properties: usize,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// When it is too late, in milliseconds since the epoch.
    pub(crate) expires_at_ms: Option<i64>,
    /// When it was read, in microseconds on the route's clock.
    pub(crate) read_us: u64,
    /// Which record it was: for whoever is told that it cannot be delivered.
    pub(crate) source: Source,
    /// The configuration by which it was mapped.
    pub(crate) revision: u64,
    /// The record as it was read, where it may become a dead letter.
    pub(crate) record: Option<Box<OwnedRecord>>,
}

/// Where a record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// Its topic, by its place among those of the route.
    pub(crate) topic: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

impl Outgoing {
    /// What is published.
    pub(crate) fn message(&self, expiry_seconds: Option<u32>) -> Outbound<'_> {
        let (topic, rest) = self.body.split_at(self.topic);
        let (properties, payload) = rest.split_at(self.properties);
        Outbound {
            topic,
            payload,
            properties,
            expiry_seconds,
            qos: self.qos,
            retain: self.retain,
        }
    }

    pub(crate) fn topic(&self) -> &[u8] {
        &self.body[..self.topic]
    }

    /// Bytes of payload.
    pub(crate) fn payload_bytes(&self) -> usize {
        self.body.len() - self.topic - self.properties
    }

    /// What it is charged with, in bytes.
    pub(crate) fn charge(&self) -> usize {
        charge(self.body.len(), self.record.as_deref())
    }
}

/// What a record is charged with, by the length of its body and what is kept of it.
pub(crate) fn charge(body: usize, record: Option<&OwnedRecord>) -> usize {
    OVERHEAD + body + record.map_or(0, |record| record.as_ref().size())
}

/// One that cannot be delivered.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) ticket: Ticket,
    /// One word, from a closed set.
    pub(crate) reason: &'static str,
    /// What went wrong, for people.
    pub(crate) message: String,
    pub(crate) source: Source,
    /// The configuration by which it was mapped.
    pub(crate) revision: u64,
    /// The record as it was read, where it may become a dead letter.
    pub(crate) record: Option<Box<OwnedRecord>>,
    /// What it is charged with, in bytes: parts of it go before its way ends.
    pub(crate) charge: usize,
}

/// What the reader hands over.
#[derive(Debug)]
pub(crate) enum Step {
    Publish(Outgoing),
    Undeliverable(Failed),
}

impl Step {
    pub(crate) fn ticket(&self) -> Ticket {
        match self {
            Self::Publish(outgoing) => outgoing.ticket,
            Self::Undeliverable(failed) => failed.ticket,
        }
    }

    pub(crate) fn charge(&self) -> usize {
        match self {
            Self::Publish(outgoing) => outgoing.charge(),
            Self::Undeliverable(failed) => failed.charge,
        }
    }
}

/// Bodies of several messages in one piece of memory.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: BytesMut,
}

/// A body in an [`Arena`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body {
    start: usize,
    topic: usize,
    properties: usize,
    end: usize,
}

/// What is said of a message beside its body.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) expires_at_ms: Option<i64>,
    pub(crate) read_us: u64,
    pub(crate) source: Source,
    pub(crate) revision: u64,
    pub(crate) record: Option<Box<OwnedRecord>>,
}

impl Arena {
    /// Appends a message; `value` is the record's own, for one whose mapping makes no other.
    pub(crate) fn push(&mut self, message: &Publication, value: &[u8]) -> Body {
        let out = &mut self.bytes;
        let start = out.len();
        out.extend_from_slice(message.topic());
        let topic = out.len() - start;
        for (property, bytes) in [
            (Property::ContentType, message.content_type()),
            (Property::ResponseTopic, message.response_topic()),
            (Property::CorrelationData, message.correlation_data()),
        ] {
            if let Some(bytes) = bytes {
                put_property(out, property, bytes);
            }
        }
        for (name, value) in message.user() {
            put_user_property(out, name.as_bytes(), value);
        }
        let properties = out.len() - start - topic;
        out.extend_from_slice(message.payload().unwrap_or(value));
        Body {
            start,
            topic,
            properties,
            end: out.len(),
        }
    }

    /// Bytes of all bodies.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what has been appended: the bodies are cut out of it.
    pub(crate) fn take(&mut self) -> Bytes {
        self.bytes.split().freeze()
    }
}

impl Body {
    /// A message of this body.
    pub(crate) fn outgoing(self, arena: &Bytes, ticket: Ticket, about: About) -> Outgoing {
        Outgoing {
            ticket,
            body: arena.slice(self.start..self.end),
            topic: self.topic,
            properties: self.properties,
            qos: about.qos,
            retain: about.retain,
            expires_at_ms: about.expires_at_ms,
            read_us: about.read_us,
            source: about.source,
            revision: about.revision,
            record: about.record,
        }
    }
}

/// Bytes that records between the two sides may take: the bound on memory while the broker is away.
#[derive(Debug)]
pub(crate) struct Budget {
    limit: usize,
    used: AtomicUsize,
    reader: OnceLock<Thread>,
}

impl Budget {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            reader: OnceLock::new(),
        }
    }

    /// This thread reads, and is to be woken when there is room again.
    pub(crate) fn reads_here(&self) {
        self.reader.get_or_init(std::thread::current);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.used.load(Ordering::Acquire) < self.limit
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::AcqRel);
        let half = self.limit / 2;
        if before >= half && before - bytes < half {
            self.wake();
        }
    }

    /// Wakes the thread that reads.
    pub(crate) fn wake(&self) {
        if let Some(reader) = self.reader.get() {
            reader.unpark();
        }
    }
}

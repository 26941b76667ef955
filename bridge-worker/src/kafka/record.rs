use super::FailureClass;

/// A record on its way to the producer, borrowed from where it was made.
#[derive(Clone, Copy)]
pub(crate) struct RecordRef<'a> {
    pub(crate) topic: &'a str,
    pub(crate) key: Option<&'a [u8]>,
    /// A tombstone has none.
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: Headers<'a>,
    pub(crate) timestamp_ms: i64,
}

/// The headers of a record.
#[derive(Clone, Copy)]
pub(crate) enum Headers<'a> {
    Mapped(&'a millrace_mapping::Record),
    Owned(&'a [(String, Vec<u8>)]),
}

/// A record that has to be kept: one to be sent again, a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OwnedRecord {
    pub(crate) topic: String,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) timestamp_ms: i64,
}

impl<'a> Headers<'a> {
    pub(super) fn len(self) -> usize {
        match self {
            Self::Mapped(record) => record.headers().len(),
            Self::Owned(headers) => headers.len(),
        }
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let (mapped, owned) = match self {
            Self::Mapped(record) => (Some(record.headers()), [].as_slice()),
            Self::Owned(headers) => (None, headers),
        };
        let owned = owned
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        mapped.into_iter().flatten().chain(owned)
    }
}

impl RecordRef<'_> {
    /// Key, value and headers, in bytes.
    pub(crate) fn size(&self) -> usize {
        let value = self.value.map_or(0, <[u8]>::len);
        match self.headers {
            Headers::Mapped(record) if record.value().is_some() => record.size(),
            Headers::Mapped(record) => record.size() + value,
            Headers::Owned(headers) => {
                let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
                self.key.map_or(0, <[u8]>::len) + value + headers
            }
        }
    }

    pub(crate) fn to_owned(self) -> OwnedRecord {
        OwnedRecord {
            topic: self.topic.to_owned(),
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            timestamp_ms: self.timestamp_ms,
        }
    }
}

impl OwnedRecord {
    pub(crate) fn as_ref(&self) -> RecordRef<'_> {
        RecordRef {
            topic: &self.topic,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: Headers::Owned(&self.headers),
            timestamp_ms: self.timestamp_ms,
        }
    }
}

/// What became of a record.
#[derive(Debug)]
pub(crate) struct Report {
    /// The sequence number it was sent with.
    pub(crate) sequence: u64,
    /// Kafka has it, or why not. Boxed, because nearly every report is a success.
    pub(crate) result: Result<(), Box<Failure>>,
}

/// A record Kafka did not take.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: FailureClass,
    /// With [`FailureClass::Retry`]: no need to wait.
    pub(crate) at_once: bool,
    /// In librdkafka's words.
    pub(crate) message: String,
    pub(crate) record: OwnedRecord,
}

/// Why a record was not taken by the producer.
#[derive(Debug)]
pub(crate) enum SendError {
    /// No room now, or the producer is being replaced: try again.
    Full,
    /// Not as it is.
    Refused { class: FailureClass, message: String },
}

/// Where a lane sends its records.
pub(crate) trait Sink {
    /// Hands over a record; a [`Report`] with `sequence` follows for each that is taken. `alone` asks for a
    /// batch of its own. Never blocks.
    fn send(&self, lane: u16, sequence: u64, record: RecordRef<'_>, alone: bool) -> Result<(), SendError>;

    /// Whether nothing is taken just now.
    fn paused(&self) -> bool;

    /// Whether Kafka has said before that this topic exists.
    fn has_known(&self, topic: &str) -> bool;
}

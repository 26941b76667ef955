//! What is published.

use crate::record::Headers;

/// An MQTT message, as a mapping made it of a record.
///
/// It is scratch space: [`RecordMapper::map`](crate::RecordMapper::map) empties it first and keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct Publication {
    pub(crate) topic: Vec<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) payload_is_new: bool,
    pub(crate) content_type: Property,
    pub(crate) response_topic: Property,
    pub(crate) correlation_data: Property,
    pub(crate) user: Headers,
}

/// A property that a message may have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Property {
    pub(crate) is_there: bool,
    pub(crate) bytes: Vec<u8>,
}

impl Property {
    fn get(&self) -> Option<&[u8]> {
        self.is_there.then_some(self.bytes.as_slice())
    }

    fn clear(&mut self) {
        self.is_there = false;
        self.bytes.clear();
    }
}

impl Publication {
    /// The topic: a text that can be published to.
    pub fn topic(&self) -> &[u8] {
        &self.topic
    }

    /// The payload. None if it is the record's value, byte for byte.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload_is_new.then_some(self.payload.as_slice())
    }

    /// MIME type of the payload, a text.
    pub fn content_type(&self) -> Option<&[u8]> {
        self.content_type.get()
    }

    /// Where a response is to be published: a text that can be published to.
    pub fn response_topic(&self) -> Option<&[u8]> {
        self.response_topic.get()
    }

    /// What a response is to carry.
    pub fn correlation_data(&self) -> Option<&[u8]> {
        self.correlation_data.get()
    }

    /// User properties, each a name and a text.
    pub fn user(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.user.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.topic.clear();
        self.payload.clear();
        self.payload_is_new = false;
        self.content_type.clear();
        self.response_topic.clear();
        self.correlation_data.clear();
        self.user.clear();
    }
}

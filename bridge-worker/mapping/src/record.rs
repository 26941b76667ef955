//! What leaves.

use std::ops::Range;

/// A Kafka record, as a mapping made it.
///
/// It is scratch space: [`Mapper::map`](crate::Mapper::map) empties it first and keeps its memory, so a lane has
/// one and maps every message into it without allocating.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub(crate) topic: String,
    pub(crate) key: Vec<u8>,
    pub(crate) headers: Headers,
    pub(crate) value: Vec<u8>,
    pub(crate) value_is_new: bool,
}

impl Record {
    /// The topic. Only meaningful after [`Decision::Write`](crate::Decision::Write).
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The key. None if the key's template rendered to nothing.
    pub fn key(&self) -> Option<&[u8]> {
        (!self.key.is_empty()).then_some(self.key.as_slice())
    }

    /// The headers: the mapping's own in the order of their names, then the propagated ones.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.headers.iter()
    }

    /// The value. None if it is the message's payload, byte for byte.
    pub fn value(&self) -> Option<&[u8]> {
        self.value_is_new.then_some(self.value.as_slice())
    }

    /// Bytes of key, headers and a new value together: what the record has beyond an unchanged payload.
    pub fn size(&self) -> usize {
        let value = if self.value_is_new { self.value.len() } else { 0 };
        self.key.len() + self.headers.names.len() + self.headers.values.len() + value
    }

    pub(crate) fn clear(&mut self) {
        self.topic.clear();
        self.key.clear();
        self.headers.clear();
        self.value.clear();
        self.value_is_new = false;
    }
}

/// Headers in two buffers, so that their number costs no allocations.
#[derive(Clone, Debug, Default)]
pub(crate) struct Headers {
    names: String,
    values: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        let Self {
            names,
            values,
            entries,
        } = self;
        entries
            .iter()
            .map(|entry| (&names[entry.name.clone()], &values[entry.value.clone()]))
    }

    pub(crate) fn clear(&mut self) {
        self.names.clear();
        self.values.clear();
        self.entries.clear();
    }

    /// Adds the header `<prefix><name>`.
    pub(crate) fn push(&mut self, prefix: &str, name: &str, value: &[u8]) {
        let done = self.push_with(prefix, name, |values| {
            values.extend_from_slice(value);
            Ok::<(), std::convert::Infallible>(())
        });
        match done {
            Ok(()) => {}
            Err(never) => match never {},
        }
    }

    /// Adds the header `<prefix><name>` with the value that `write` appends.
    pub(crate) fn push_with<E>(
        &mut self,
        prefix: &str,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let (name_start, value_start) = (self.names.len(), self.values.len());
        write(&mut self.values)?;
        self.names.push_str(prefix);
        self.names.push_str(name);
        self.entries.push(Entry {
            name: name_start..self.names.len(),
            value: value_start..self.values.len(),
        });
        Ok(())
    }
}

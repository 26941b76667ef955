//! What is read from Kafka.

/// A record of a Kafka topic, borrowed from the batch that brought it.
#[derive(Clone, Copy, Debug)]
pub struct SourceRecord<'a> {
    /// The topic it was read from.
    pub topic: &'a str,
    /// The partition of that topic.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its time, in milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value. None for a tombstone, which says that what its key stands for is gone.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order; a name may occur more than once.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

impl<'a> SourceRecord<'a> {
    /// The value of a header; of a name that occurs twice, the last.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        let mut headers = self.headers.iter().rev();
        let (_, value) = headers.find(|(known, _)| *known == name)?;
        *value
    }
}

//! What arrives.

use bytes::Bytes;

/// An MQTT message, borrowed from the packet that brought it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The topic it was published to.
    pub topic: &'a str,
    /// Its application payload.
    pub payload: &'a [u8],
    /// The quality of service it was delivered with: 0, 1 or 2.
    pub qos: u8,
    /// Whether it was delivered because it is retained.
    pub retain: bool,
    /// When it was received, in milliseconds since 1970-01-01 UTC.
    pub received_at_ms: i64,
    /// Its MQTT 5 properties. None under MQTT 3.1.1 and where a packet has none.
    pub properties: Option<&'a Properties>,
}

/// The MQTT 5 properties of a message that a mapping can use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// MIME type of the payload.
    pub content_type: Option<String>,
    /// Where a response is to be published.
    pub response_topic: Option<String>,
    /// What a response is to carry.
    pub correlation_data: Option<Bytes>,
    /// User properties in the order of the packet; a name may occur more than once.
    pub user: Vec<(String, String)>,
}

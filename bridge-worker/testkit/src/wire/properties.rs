//! Properties of MQTT 5.

use super::reader::Reader;
use super::{Malformed, put_data, put_varint};
use bytes::{BufMut, Bytes, BytesMut};

/// Identifiers of properties [MQTT-2.2.2.2].
pub mod id {
    #![allow(missing_docs, reason = "the names are the specification's")]
    pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
    pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION_DATA: u8 = 0x09;
    pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
    pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
    pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTHENTICATION_METHOD: u8 = 0x15;
    pub const AUTHENTICATION_DATA: u8 = 0x16;
    pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub const WILL_DELAY_INTERVAL: u8 = 0x18;
    pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub const RESPONSE_INFORMATION: u8 = 0x1a;
    pub const SERVER_REFERENCE: u8 = 0x1c;
    pub const REASON_STRING: u8 = 0x1f;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub const TOPIC_ALIAS: u8 = 0x23;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER_PROPERTY: u8 = 0x26;
    pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
    pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;
}

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A byte.
    Byte(u8),
    /// A two byte integer.
    Short(u16),
    /// A four byte integer.
    Long(u32),
    /// A variable byte integer.
    Variable(usize),
    /// A UTF-8 string.
    Text(String),
    /// Binary data.
    Data(Bytes),
    /// A pair of strings.
    Pair(String, String),
}

/// The properties of a packet, in their order on the wire.
///
/// ```
/// use millrace_testkit::wire::{Properties, Value, id};
///
/// let properties = Properties::new()
///     .with(id::RECEIVE_MAXIMUM, Value::Short(10))
///     .with(id::USER_PROPERTY, Value::Pair("site".into(), "north".into()));
/// assert_eq!(properties.number(id::RECEIVE_MAXIMUM), Some(10));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    /// None.
    pub fn new() -> Properties {
        Properties::default()
    }

    /// With one more; what kind of value an identifier takes is not checked, so that a broker can be wrong.
    pub fn with(mut self, id: u8, value: Value) -> Properties {
        self.0.push((id, value));
        self
    }

    /// The first property of that identifier.
    pub fn get(&self, id: u8) -> Option<&Value> {
        self.0
            .iter()
            .find(|(found, _)| *found == id)
            .map(|(_, value)| value)
    }

    /// The first property of that identifier, when it is a number.
    pub fn number(&self, id: u8) -> Option<u32> {
        match self.get(id)? {
            Value::Byte(n) => Some(u32::from(*n)),
            Value::Short(n) => Some(u32::from(*n)),
            Value::Long(n) => Some(*n),
            Value::Variable(n) => u32::try_from(*n).ok(),
            _ => None,
        }
    }

    pub(crate) fn write(&self, buffer: &mut BytesMut) {
        let mut own = BytesMut::new();
        for (id, value) in &self.0 {
            own.put_u8(*id);
            match value {
                Value::Byte(n) => own.put_u8(*n),
                Value::Short(n) => own.put_u16(*n),
                Value::Long(n) => own.put_u32(*n),
                Value::Variable(n) => put_varint(&mut own, *n),
                Value::Text(text) => put_data(&mut own, text.as_bytes()),
                Value::Data(data) => put_data(&mut own, data),
                Value::Pair(name, value) => {
                    put_data(&mut own, name.as_bytes());
                    put_data(&mut own, value.as_bytes());
                }
            }
        }
        put_varint(buffer, own.len());
        buffer.put_slice(&own);
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Properties, Malformed> {
        let length = reader.varint("the length of the properties")?;
        let mut own = Reader(reader.take(length, "properties")?);
        let mut properties = Vec::new();
        while !own.is_empty() {
            let id = own.u8("a property's identifier")?;
            let value = match id {
                id::PAYLOAD_FORMAT_INDICATOR
                | id::REQUEST_PROBLEM_INFORMATION
                | id::REQUEST_RESPONSE_INFORMATION
                | id::MAXIMUM_QOS
                | id::RETAIN_AVAILABLE
                | id::WILDCARD_SUBSCRIPTION_AVAILABLE..=id::SHARED_SUBSCRIPTION_AVAILABLE => {
                    Value::Byte(own.u8("a property")?)
                }
                id::SERVER_KEEP_ALIVE | id::RECEIVE_MAXIMUM | id::TOPIC_ALIAS_MAXIMUM | id::TOPIC_ALIAS => {
                    Value::Short(own.u16("a property")?)
                }
                id::MESSAGE_EXPIRY_INTERVAL
                | id::SESSION_EXPIRY_INTERVAL
                | id::WILL_DELAY_INTERVAL
                | id::MAXIMUM_PACKET_SIZE => Value::Long(own.u32("a property")?),
                id::SUBSCRIPTION_IDENTIFIER => Value::Variable(own.varint("a property")?),
                id::CORRELATION_DATA | id::AUTHENTICATION_DATA => Value::Data(own.data("a property")?),
                id::USER_PROPERTY => Value::Pair(own.text("a name")?, own.text("a value")?),
                id::CONTENT_TYPE
                | id::RESPONSE_TOPIC
                | id::ASSIGNED_CLIENT_IDENTIFIER
                | id::AUTHENTICATION_METHOD
                | id::RESPONSE_INFORMATION
                | id::SERVER_REFERENCE
                | id::REASON_STRING => Value::Text(own.text("a property")?),
                unknown => return Err(Malformed(format!("there is no property {unknown:#04x}"))),
            };
            properties.push((id, value));
        }
        Ok(Properties(properties))
    }
}

//! The payload as expressions see it.

use std::collections::HashMap;
use std::fmt;

use cel::common::types::{CelBool, CelBytes, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;
use millrace_contract::PayloadFormat;
use serde_json::de::{Deserializer, SliceRead};

use crate::error::{MapError, shorten};
use crate::expression::{Number, Whole};

/// Reads a payload. Texts without escapes stay where they are.
pub(crate) fn read(format: PayloadFormat, payload: &[u8]) -> Result<Box<dyn Val + '_>, MapError> {
    match format {
        PayloadFormat::Bytes => Ok(Box::new(CelBytes::from(payload))),
        PayloadFormat::Text => match std::str::from_utf8(payload) {
            Ok(text) => Ok(Box::new(CelString::from(text))),
            Err(error) => Err(MapError::PayloadNotUtf8(error.to_string())),
        },
        PayloadFormat::Json => {
            let mut json = Deserializer::new(SliceRead::new(payload));
            let value = serde::de::DeserializeSeed::deserialize(Json, &mut json);
            value
                .and_then(|value| json.end().map(|()| value))
                .map_err(|error| MapError::PayloadNotJson(shorten(&error.to_string())))
        }
    }
}

/// The payload of a tombstone.
pub(crate) fn none() -> Box<dyn Val + 'static> {
    Box::new(CelNull)
}

/// Makes CEL values straight from JSON text.
struct Json;

impl<'de> serde::de::DeserializeSeed<'de> for Json {
    type Value = Box<dyn Val + 'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Json {
    type Value = Box<dyn Val + 'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Number::Whole(Whole::from(value)).into_boxed())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Number::Whole(Whole::from(value)).into_boxed())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Number::Real(value).into_boxed())
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value.to_owned())))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(Self)? {
            elements.push(element);
        }
        Ok(Box::new(CelList::from(elements)))
    }

    /// Of a key that occurs twice, the last value counts, as in most readers of JSON.
    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = HashMap::new();
        while let Some(key) = map.next_key_seed(Key)? {
            entries.insert(key, map.next_value_seed(Self)?);
        }
        Ok(Box::new(CelMap::from(entries)))
    }
}

struct Key;

impl<'de> serde::de::DeserializeSeed<'de> for Key {
    type Value = CelMapKey<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> serde::de::Visitor<'de> for Key {
    type Value = CelMapKey<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(CelMapKey::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(CelMapKey::from(value.to_owned()))
    }
}

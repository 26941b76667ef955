//! What an expression gave, as bytes.

use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use cel::common::types::{CelBool, CelBytes, CelList, CelMap, CelMapKey, CelNull, CelString};
use cel::common::value::Val;

use crate::error::{MapError, Part};
use crate::expression::Number;

/// Appends a value to a topic, key or header.
pub(crate) fn write_text(value: &dyn Val, out: &mut Vec<u8>, part: &Part) -> Result<(), MapError> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        out.extend_from_slice(text.inner().as_bytes());
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        out.extend_from_slice(bytes.inner());
    } else if let Some(number) = Number::of(value) {
        write_number(number, out, part)?;
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        out.extend_from_slice(if *bool.inner() { b"true" } else { b"false" });
    } else {
        return Err(result_type(value, part, "a text, number, bool or bytes"));
    }
    Ok(())
}

/// Appends a value as the value of a record: texts and bytes as they are, anything else as JSON.
pub(crate) fn write_value(value: &dyn Val, out: &mut Vec<u8>, part: &Part) -> Result<(), MapError> {
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        out.extend_from_slice(text.inner().as_bytes());
        Ok(())
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        out.extend_from_slice(bytes.inner());
        Ok(())
    } else {
        write_json(value, out, part)
    }
}

fn write_json(value: &dyn Val, out: &mut Vec<u8>, part: &Part) -> Result<(), MapError> {
    if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        // The same entries always give the same bytes.
        let mut entries: Vec<_> = map
            .inner()
            .iter()
            .map(|(key, value)| (key_text(key), value))
            .collect();
        entries.sort_by(|(one, _), (other, _)| one.cmp(other));
        out.push(b'{');
        for (index, (key, value)) in entries.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_string(key, out);
            out.push(b':');
            write_json(value.as_ref(), out, part)?;
        }
        out.push(b'}');
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        out.push(b'[');
        for (index, element) in list.inner().iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_json(element.as_ref(), out, part)?;
        }
        out.push(b']');
    } else if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        write_string(text.inner(), out);
    } else if let Some(number) = Number::of(value) {
        write_number(number, out, part)?;
    } else if let Some(bool) = value.downcast_ref::<CelBool>() {
        out.extend_from_slice(if *bool.inner() { b"true" } else { b"false" });
    } else if value.downcast_ref::<CelNull>().is_some() {
        out.extend_from_slice(b"null");
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        write_string(&BASE64_STANDARD.encode(bytes.inner()), out);
    } else {
        return Err(result_type(value, part, "a value that JSON can say"));
    }
    Ok(())
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    // Writing a text to memory cannot fail.
    serde_json::to_writer(out, text).ok();
}

/// Writes `85.0` as `85`: JSON does not tell them apart, and neither do expressions. Keys are made of numbers, so
/// the form must never change; it is that of JavaScript, without a plus sign in the exponent.
fn write_number(number: Number, out: &mut Vec<u8>, part: &Part) -> Result<(), MapError> {
    let written = match number {
        Number::Whole(whole) => write!(out, "{whole}"),
        Number::Real(real) if (1e-7..1e21).contains(&real.abs()) => write!(out, "{real}"),
        Number::Real(real) if real.is_finite() => write!(out, "{real:e}"),
        Number::Real(_) => return Err(MapError::NumberNotFinite { part: part.clone() }),
    };
    // Writing to memory cannot fail.
    written.ok();
    Ok(())
}

fn key_text<'a>(key: &'a CelMapKey<'_>) -> std::borrow::Cow<'a, str> {
    match key {
        CelMapKey::String(text) => text.inner().into(),
        CelMapKey::Int(int) => int.inner().to_string().into(),
        CelMapKey::UInt(uint) => uint.inner().to_string().into(),
        CelMapKey::Bool(bool) => if *bool.inner() { "true" } else { "false" }.into(),
    }
}

/// The error that a value is not of a type its place can take.
pub(crate) fn result_type(value: &dyn Val, part: &Part, wanted: &'static str) -> MapError {
    let found = match value.get_type().name() {
        "null_type" => "null",
        name => name,
    };
    MapError::ResultType {
        part: part.clone(),
        found: found.to_owned(),
        wanted,
    }
}

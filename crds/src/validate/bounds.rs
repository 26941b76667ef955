//! Bounds of durations, sizes and ports, which patterns cannot tell.

use std::time::Duration;

use super::Note;
use super::path::FieldPath;
use crate::units::{GepDuration, Quantity};

/// A duration outside of its bounds. One that cannot be read is the schema's affair.
pub(super) fn duration(
    path: &str,
    text: &GepDuration,
    least: &GepDuration,
    most: &GepDuration,
) -> Option<Note> {
    let read = |text: &GepDuration| text.parse().unwrap_or(Duration::ZERO);
    let value = text.parse().ok()?;
    let problem = match value {
        _ if value < read(least) => "too short",
        _ if value > read(most) => "too long",
        _ => return None,
    };
    let message = format!(
        "{:?} is {problem}: write a duration from {} to {}",
        text.as_str(),
        least.as_str(),
        most.as_str()
    );
    Some(Note::error(FieldPath::parse(path), message))
}

/// A size outside of its bounds. A text that cannot be read is the schema's affair; a number of more digits than a text may
/// have is not.
pub(super) fn size(path: &str, text: &Quantity, most: &Quantity) -> Option<Note> {
    let is_number = !text.as_str().is_empty() && text.as_str().bytes().all(|byte| byte.is_ascii_digit());
    let problem = match text.bytes() {
        Ok(0) => "too small",
        Ok(value) if value > most.bytes().unwrap_or(u64::MAX) => "too large",
        Err(_) if is_number => "too large",
        _ => return None,
    };
    let message = format!(
        "{:?} is {problem}: write a size from 1 to {}",
        text.as_str(),
        most.as_str()
    );
    Some(Note::error(FieldPath::parse(path), message))
}

/// An address whose port no host has.
pub(super) fn port(path: FieldPath, address: &str) -> Option<Note> {
    let authority = address.split_once("://").map_or(address, |(_, rest)| rest);
    let (_, port) = authority.split('/').next()?.rsplit_once(':')?;
    // What is no number is part of an IPv6 address or the scheme.
    let number: u32 = port.parse().ok()?;
    (number == 0 || number > u32::from(u16::MAX)).then(|| {
        Note::error(
            path,
            format!("{address:?} has port {port}: write a port from 1 to 65535"),
        )
    })
}

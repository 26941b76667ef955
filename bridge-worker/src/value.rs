//! Values that a document only names: read from where it says they are.

use std::io;
use std::os::unix::ffi::OsStringExt;

use millrace_contract::Value;
use thiserror::Error;

/// A value that cannot be read.
#[derive(Debug, Error)]
#[error("{place}: {source}")]
pub struct Unreadable {
    /// Where it should be.
    place: String,
    source: io::Error,
}

/// What `value` says, without the newlines at its end.
pub(crate) fn text(value: &Value) -> Result<String, Unreadable> {
    let text = String::from_utf8(bytes(value)?).map_err(|_| Unreadable {
        place: place(value),
        // The error itself would print what it is of.
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"),
    })?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// What `value` says.
pub(crate) fn bytes(value: &Value) -> Result<Vec<u8>, Unreadable> {
    let read = match value {
        Value::Literal(text) => return Ok(text.clone().into_bytes()),
        Value::File(path) => std::fs::read(path),
        Value::Env(name) => std::env::var_os(name)
            .map(OsStringExt::into_vec)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is not set")),
    };
    read.map_err(|source| Unreadable {
        place: place(value),
        source,
    })
}

/// Where `value` is.
pub(crate) fn place(value: &Value) -> String {
    match value {
        Value::Literal(_) => "the document".into(),
        Value::File(path) => format!("file {}", path.display()),
        Value::Env(name) => format!("environment variable {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named() {
        let error = text(&Value::File("/nowhere/password".into())).unwrap_err();
        assert!(error.to_string().contains("/nowhere/password"), "{error}");
    }
}

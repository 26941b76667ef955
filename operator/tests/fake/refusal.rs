//! What an API server answers when it does not do what it is asked.

use serde_json::{Value, json};

use super::store::Key;

/// Why something is not done.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    reason: &'static str,
    message: String,
}

impl Refusal {
    pub(crate) fn missing(key: &Key) -> Self {
        let message = format!("{} {:?} not found", key.plural, key.name);
        Self::new(404, "NotFound", message)
    }

    pub(crate) fn exists(key: &Key) -> Self {
        let message = format!("{} {:?} already exists", key.plural, key.name);
        Self::new(409, "AlreadyExists", message)
    }

    pub(crate) fn conflict(key: &Key, field: &str, is: &Value, wanted: &Value) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {:?}: {field} is {is} and not {wanted}",
            key.plural, key.name
        );
        Self::new(409, "Conflict", message)
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(422, "Invalid", message.to_owned())
    }

    /// A watch asks for what is no longer known.
    pub(crate) fn expired() -> Self {
        Self::new(410, "Expired", "too old resource version".into())
    }

    pub(crate) fn broken() -> Self {
        Self::new(
            500,
            "InternalError",
            "the server is broken, as the test wants it".into(),
        )
    }

    fn new(code: u16, reason: &'static str, message: String) -> Self {
        Self {
            code,
            reason,
            message,
        }
    }

    /// The body of the answer.
    pub(crate) fn status(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Status",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        })
    }
}

use crate::status::Reason;

/// Why a route cannot work: what is asked for has to change first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Rejection {
    /// One word.
    pub reason: Reason,
    /// What is wrong, and what to do about it.
    pub message: String,
}

impl Rejection {
    /// A rejection.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

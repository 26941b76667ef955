//! What `bridge-worker leave` reports as its termination message.

use serde::{Deserialize, Serialize};

/// The answer of `bridge-worker leave`. At most [`crate::probe::MAX_BYTES`] of JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaveReport {
    /// The client ids whose sessions have ended: the broker holds nothing for them any more.
    pub ended: Vec<String>,
    /// Those whose sessions have not: the broker keeps them until they expire.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<NotEnded>,
}

/// A session that could not be ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NotEnded {
    /// Its client id.
    pub client_id: String,
    /// Why not.
    pub message: String,
}

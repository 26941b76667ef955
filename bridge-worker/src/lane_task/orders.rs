//! What a lane is told.

use std::sync::Arc;

use crate::config::LivePlan;

/// What a lane is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Read.
    Run,
    /// A message stopped the route: confirm what is in flight, disconnect, and wait for another command.
    Hold,
    /// The lane goes to another worker: likewise, and forget what this one knows of the session.
    Release,
    /// End the session: unsubscribe, read what the broker still holds, and leave.
    Leave,
    /// The route ends: confirm what is in flight, disconnect, and end.
    Drain,
    /// Give up at once.
    Abort,
}

impl Command {
    /// Whether the lane is to have a connection.
    pub(crate) fn connects(self) -> bool {
        matches!(self, Self::Run | Self::Leave)
    }
}

/// What a lane is told. It acts by the newest, between two messages.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) command: Command,
    pub(crate) live: Arc<LivePlan>,
    /// Bytes that may be in the producer for this lane, overhead included.
    pub(crate) max_buffered: usize,
    /// A connection made with an older login is to be made again.
    pub(crate) login: u64,
    /// So is one that was made when this was less.
    pub(crate) again: u64,
}

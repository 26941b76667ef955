//! When nothing more is to come.

use std::time::{Duration, Instant};

use crate::kafka::Sink;
use crate::mqtt::Connection;
use crate::pipeline::Lane;

/// How long there must have been silence.
const SILENCE: Duration = Duration::from_secs(2);

/// Tells when nothing more is to come of some of a connection's messages: nothing has for two seconds, everything
/// taken until then has been acknowledged, and the broker has answered a PINGREQ sent after that without sending more.
/// A broker with a full window is silent too, so silence alone says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quiet {
    /// Messages counted so far.
    seen: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    Silent {
        since: Instant,
    },
    /// Waits for the acks of everything before the mark.
    Settling {
        mark: u64,
    },
    /// Waits for the answer to this PINGREQ.
    Asked {
        ping: u64,
    },
}

impl Quiet {
    /// Begins now, with so many messages counted.
    pub(super) fn since(at: Instant, seen: u64) -> Self {
        Self {
            seen,
            stage: Stage::Silent { since: at },
        }
    }

    /// Goes on, with `seen` messages counted so far; true when nothing more is to come. Not to be asked while the lane
    /// does not read: begin again then.
    pub(super) fn is_over<S: Sink>(
        &mut self,
        at: Instant,
        seen: u64,
        lane: &Lane<S>,
        connection: &mut Connection,
    ) -> bool {
        if seen != self.seen {
            *self = Self::since(at, seen);
            return false;
        }
        match self.stage {
            Stage::Silent { since } if at - since >= SILENCE => {
                self.stage = Stage::Settling { mark: lane.mark() };
                self.is_over(at, seen, lane, connection)
            }
            Stage::Settling { mark } if lane.has_acknowledged(mark) => {
                self.stage = Stage::Asked {
                    ping: connection.ping(),
                };
                false
            }
            Stage::Asked { ping } => connection.pongs() >= ping,
            Stage::Silent { .. } | Stage::Settling { .. } => false,
        }
    }

    /// When to ask again, if time alone can change the answer.
    pub(super) fn next(&self) -> Option<Instant> {
        match self.stage {
            Stage::Silent { since } => Some(since + SILENCE),
            _ => None,
        }
    }
}

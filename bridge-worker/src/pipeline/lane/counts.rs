//! What a lane lets others know.

use std::collections::BTreeMap;
use std::time::Instant;

use millrace_contract::Ledger;

use super::{Lane, Stop};
use crate::kafka::Sink;
use crate::latency::Histogram;
use crate::limits::Turn;

impl<S: Sink> Lane<S> {
    /// When something waits for time to pass, in microseconds on the lane's clock.
    pub(crate) fn next_retry_us(&self) -> Option<u64> {
        // A paused producer says when it is there again.
        (!self.retry.is_empty() && !self.sink.paused()).then_some(self.retry_at_us)
    }

    /// Why the lane takes no more messages, if it has stopped.
    pub(crate) fn stopped(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Messages taken so far that only a filter matched which the route no longer has.
    pub(crate) fn late(&self) -> u64 {
        self.mappings.late()
    }

    /// A mark behind every message taken so far: see [`Lane::has_acknowledged`].
    pub(crate) fn mark(&self) -> u64 {
        self.ring.first() + self.ring.len() as u64
    }

    /// Whether all messages before a mark have been acknowledged, or their connection is gone.
    pub(crate) fn has_acknowledged(&self, mark: u64) -> bool {
        self.ring.first() >= mark
    }

    /// Messages of this connection not yet acknowledged.
    pub(crate) fn window(&self) -> usize {
        self.ring.len()
    }

    /// What a turn of the lane has shown to who judges its limits.
    pub(crate) fn seen(&self, at: Instant, reads: bool) -> Turn {
        Turn {
            at,
            outstanding: (self.ring.len() - self.unasked + self.unreleased) as u64,
            released: self.released,
            written: self.ledger.written,
            reads,
            held: self
                .is_full()
                .filter(|_| self.stop.is_none() && !self.sink.paused()),
        }
    }

    /// Messages that wait for Kafka, those of lost connections included.
    pub(crate) fn waiting(&self) -> usize {
        self.pending - self.held + self.lost.orphans()
    }

    /// When the oldest unacknowledged message was received, in microseconds on the lane's clock.
    pub(crate) fn oldest_us(&self) -> Option<u64> {
        self.ring.oldest_us()
    }

    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger
    }

    pub(crate) fn latency(&self) -> &Histogram {
        &self.latency
    }

    pub(crate) fn errors(&self) -> &BTreeMap<&'static str, u64> {
        &self.errors
    }

    /// Bytes of payload received.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.bytes_received
    }

    /// Bytes of records confirmed by Kafka.
    pub(crate) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Bytes in the producer for this lane, overhead included.
    pub(crate) fn buffered(&self) -> usize {
        self.buffered
    }
}

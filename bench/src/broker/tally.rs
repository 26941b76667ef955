//! What the synthetic broker counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::stats::Percentiles;

/// Counters since the start, and latencies since the last snapshot: the answer to the command `stats`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Time of the snapshot, in nanoseconds since the broker's start.
    pub at_ns: u64,
    /// Connections accepted.
    pub connections: u64,
    /// Whether a client has subscribed.
    pub subscribed: bool,
    /// PUBLISH packets sent.
    pub sent: u64,
    /// Messages acknowledged (PUBACK or PUBREC).
    pub acked: u64,
    /// Acks that did not follow the one before.
    pub out_of_order: u64,
    /// Acks of ids that were not outstanding.
    pub unknown: u64,
    /// Reads that brought acks: acks per read tell how well the client coalesces.
    pub reads: u64,
    /// From the write of a PUBLISH to the read of its ack, in microseconds.
    pub latency_us: Percentiles,
}

/// The counters of all connections.
#[derive(Debug)]
pub struct Tally {
    pub(in crate::broker) connections: AtomicU64,
    pub(in crate::broker) subscribed: AtomicBool,
    pub(in crate::broker) sent: AtomicU64,
    acks: Mutex<Acks>,
}

/// What the reader counts; locked once per read.
#[derive(Debug)]
pub(in crate::broker) struct Acks {
    pub(in crate::broker) acked: u64,
    pub(in crate::broker) out_of_order: u64,
    pub(in crate::broker) unknown: u64,
    pub(in crate::broker) reads: u64,
    pub(in crate::broker) latency_us: Histogram<u64>,
}

impl Tally {
    /// Nothing counted.
    pub fn new() -> Self {
        Self {
            connections: AtomicU64::new(0),
            subscribed: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            acks: Mutex::new(Acks {
                acked: 0,
                out_of_order: 0,
                unknown: 0,
                reads: 0,
                latency_us: crate::stats::histogram(),
            }),
        }
    }

    /// The counters now; latencies start anew.
    pub fn snapshot(&self, at_ns: u64) -> Snapshot {
        let mut acks = self.acks();
        let latency_us = Percentiles::of(&acks.latency_us);
        acks.latency_us.reset();
        Snapshot {
            at_ns,
            connections: self.connections.load(Ordering::Relaxed),
            subscribed: self.subscribed.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            acked: acks.acked,
            out_of_order: acks.out_of_order,
            unknown: acks.unknown,
            reads: acks.reads,
            latency_us,
        }
    }

    pub(in crate::broker) fn acks(&self) -> MutexGuard<'_, Acks> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

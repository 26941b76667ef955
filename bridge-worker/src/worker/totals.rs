//! Sums over lanes, those that have gone included: counters never fall.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_contract::Ledger;

use crate::lane_report::{LaneReport, LaneView};
use crate::latency::Histogram;

/// Sums over lanes.
#[derive(Clone, Debug, Default)]
pub(super) struct Totals {
    pub(super) ledger: Ledger,
    pub(super) latency: Histogram,
    pub(super) errors: BTreeMap<&'static str, u64>,
    pub(super) bytes_received: u64,
    pub(super) bytes_written: u64,
    pub(super) buffered: u64,
    pub(super) taken_over: u64,
    pub(super) reconnects: u64,
    pub(super) window_limited: Duration,
    pub(super) sink_saturated: Duration,
}

impl Totals {
    /// Adds a lane's.
    pub(super) fn add(&mut self, report: &LaneReport) {
        let (status, view, _) = report.view();
        self.add_view(&view, status.connections);
    }

    /// Adds what a lane has shown.
    pub(super) fn add_view(&mut self, view: &LaneView, connections: u64) {
        self.ledger += view.ledger;
        self.latency.merge(&view.latency);
        for (reason, count) in &view.errors {
            *self.errors.entry(reason).or_default() += count;
        }
        self.bytes_received += view.bytes_received;
        self.bytes_written += view.bytes_written;
        self.buffered += view.buffered;
        self.taken_over += view.taken_over;
        self.reconnects += connections.saturating_sub(1);
        self.window_limited += view.limits.window_limited;
        self.sink_saturated += view.limits.sink_saturated;
    }
}

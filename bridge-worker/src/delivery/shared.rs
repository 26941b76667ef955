//! What the threads of a delivery share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::Ledger;
use millrace_contract::status::{ConnectionState, ConnectionStatus, Problem, Reason};
use tokio::sync::Notify;

use super::outgoing::Budget;
use super::plan::LivePlan;
use super::progress::{Progress, Slot};
use crate::kafka::KafkaState;
use crate::latency::Histogram;

/// What a delivery is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run,
    /// Stop reading, have the broker answer for what was published, commit, and end.
    Drain,
    /// Give up at once.
    Abort,
}

/// What the threads of a delivery are told.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    pub(crate) command: Command,
    pub(crate) live: Arc<LivePlan>,
}

/// What the threads of a delivery share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) started: Instant,
    progress: Mutex<Progress>,
    /// Fewer records are on their way, or none can arrive any more.
    fewer: Condvar,
    pub(crate) budget: Budget,
    /// Partitions are about to go: what of theirs waits is not to be published.
    pub(crate) yielding: Notify,
    /// The broker answers: what has been published can still arrive.
    connected: AtomicBool,
    /// The thread that talks to the broker has ended.
    parted: AtomicBool,
    /// How often the connection is to have been made again for another reason than its end or credentials.
    again: AtomicU64,
    /// Grows whenever partitions come or go.
    assignment: AtomicU64,
    /// Nobody can change what stopped the route while it runs: it ends.
    ends_when_stopped: bool,
    /// A record has stopped the route.
    stopped: AtomicBool,
    pub(crate) kafka: Arc<KafkaState>,
    view: Mutex<View>,
}

/// What can be seen.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) ledger: Ledger,
    pub(crate) latency: Histogram,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    /// Bytes of values read, and of payloads delivered.
    pub(crate) bytes_received: u64,
    pub(crate) bytes_written: u64,
    pub(crate) taken_over: u64,
    pub(crate) connection: ConnectionStatus,
    /// Which of the broker's urls that was made to last, from 0.
    pub(crate) place: usize,
    /// When the oldest unanswered message was read.
    pub(crate) oldest: Option<Instant>,
    pub(crate) has_been_up: bool,
    /// The group has given this process its part, be that nothing.
    pub(crate) has_joined: bool,
    /// What keeps the connection from working.
    pub(crate) broker: Option<Problem>,
    /// What the broker takes less of than is published.
    pub(crate) shortfalls: Vec<Problem>,
    /// What is wrong with reading, by what it is about.
    pub(crate) reading: BTreeMap<String, Problem>,
    /// The record that stopped the route.
    pub(crate) stopped: Option<Stop>,
    /// The hash of the configuration in use.
    pub(crate) hash: String,
    /// Partitions of all topics that are read, whoever reads them.
    pub(crate) partitions_in_all: u32,
    pub(crate) reloads: u64,
    /// A changed configuration that cannot be used, and how often that was so.
    pub(crate) refused: Option<String>,
    pub(crate) refusals: u64,
    /// How far behind the end of each partition this process is, as the last statistics said.
    pub(crate) lags: BTreeMap<(String, i32), i64>,
}

/// Why a route takes no more records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) reason: &'static str,
    /// The configuration that the record was mapped by.
    pub(crate) revision: u64,
    pub(crate) message: String,
}

impl Shared {
    pub(crate) fn new(client_id: &str, budget: usize, hash: &str, ends_when_stopped: bool) -> Self {
        Self {
            started: Instant::now(),
            progress: Mutex::default(),
            fewer: Condvar::new(),
            budget: Budget::new(budget),
            yielding: Notify::new(),
            connected: AtomicBool::new(false),
            parted: AtomicBool::new(false),
            again: AtomicU64::new(0),
            assignment: AtomicU64::new(0),
            ends_when_stopped,
            stopped: AtomicBool::new(false),
            kafka: Arc::default(),
            view: Mutex::new(View {
                ledger: Ledger::default(),
                latency: Histogram::default(),
                errors: BTreeMap::new(),
                bytes_received: 0,
                bytes_written: 0,
                taken_over: 0,
                connection: ConnectionStatus::new(client_id),
                place: 0,
                oldest: None,
                has_been_up: false,
                has_joined: false,
                broker: None,
                shortfalls: Vec::new(),
                reading: BTreeMap::new(),
                stopped: None,
                hash: hash.to_owned(),
                partitions_in_all: 0,
                reloads: 0,
                refused: None,
                refusals: 0,
                lags: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Microseconds on the route's clock.
    pub(crate) fn us(&self, at: Instant) -> u64 {
        u64::try_from((at - self.started).as_micros()).unwrap_or(u64::MAX)
    }

    /// Whoever waits for records to arrive is to look again.
    pub(crate) fn fewer_are_under_way(&self) {
        self.fewer.notify_all();
    }

    /// Waits until no record of these partitions is on its way, as long as the broker answers and there is time.
    pub(crate) fn wait_for_arrival(&self, slots: &[Slot], patience: Duration) {
        let until = Instant::now() + patience;
        let mut progress = self.progress();
        while progress.under_way(slots) > 0 && self.is_connected() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.fewer.wait_timeout(progress, left);
            progress = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Release);
        if !connected {
            // Whoever waits holds it until it does: it cannot miss what follows.
            drop(self.progress());
            self.fewer_are_under_way();
        }
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }

    /// Nothing more is published or arrives.
    pub(crate) fn part(&self) {
        self.set_connected(false);
        self.parted.store(true, Ordering::Release);
        self.budget.wake();
    }

    /// The connection is to be made again.
    pub(crate) fn connect_again(&self) {
        self.again.fetch_add(1, Ordering::AcqRel);
        self.yielding.notify_one();
    }

    /// How often it is to have been.
    pub(crate) fn again(&self) -> u64 {
        self.again.load(Ordering::Acquire)
    }

    /// The route takes no more records; the first reason counts.
    pub(crate) fn stop(&self, stop: Stop) {
        let mut view = self.view();
        if view.stopped.is_none() {
            tracing::error!(reason = stop.reason, "{}", stop.message);
            view.stopped = Some(stop);
        }
        self.stopped.store(true, Ordering::Release);
        // Who publishes may be waiting for the broker.
        self.yielding.notify_one();
    }

    /// Whether a record has stopped the route for good.
    pub(crate) fn has_ended_itself(&self) -> bool {
        self.ends_when_stopped && self.is_stopped()
    }

    /// Partitions have come or gone: what was known of slots is not true any more.
    pub(crate) fn reassigned(&self) {
        self.assignment.fetch_add(1, Ordering::AcqRel);
    }

    /// Tells one assignment from the next.
    pub(crate) fn assignment(&self) -> u64 {
        self.assignment.load(Ordering::Acquire)
    }

    /// What stopped the route has been dealt with.
    pub(crate) fn resume(&self) {
        let mut view = self.view();
        view.stopped = None;
        self.stopped.store(false, Ordering::Release);
    }

    /// Whether a record has stopped the route that was mapped by another configuration than this one.
    pub(crate) fn is_stopped_before(&self, revision: u64) -> bool {
        self.is_stopped()
            && self
                .view()
                .stopped
                .as_ref()
                .is_some_and(|stop| stop.revision < revision)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn has_parted(&self) -> bool {
        self.parted.load(Ordering::Acquire)
    }
}

impl View {
    /// A connection could not be made, or ended.
    pub(crate) fn failed(&mut self, reason: Reason, message: &str, state: ConnectionState) {
        self.connection.state = state;
        if self.connection.last_error.as_deref() != Some(message) || self.broker.is_none() {
            tracing::warn!(client_id = self.connection.client_id, ?reason, "{message}");
        }
        self.connection.last_error = Some(message.to_owned());
        self.broker = Some(Problem {
            reason,
            message: message.to_owned(),
        });
    }

    /// The broker takes so much less than is published; said once.
    pub(crate) fn falls_short(&mut self, shortfalls: Vec<Problem>) {
        for problem in &shortfalls {
            if !self.shortfalls.contains(problem) {
                tracing::warn!(reason = ?problem.reason, "{}", problem.message);
            }
        }
        self.shortfalls = shortfalls;
    }

    /// Something is wrong with reading; said once.
    pub(crate) fn cannot_read(&mut self, about: &str, reason: Reason, message: String) {
        let problem = Problem { reason, message };
        if self.reading.get(about) != Some(&problem) {
            tracing::warn!(?reason, "{}", problem.message);
            self.reading.insert(about.to_owned(), problem);
        }
    }
}

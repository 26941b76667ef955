//! What a lane lets others see. Written by the lane's thread, copied by whoever asks.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::Ledger;
use millrace_contract::status::{LaneState, LaneStatus, Problem, Reason};

use crate::kafka::LaneSink;
use crate::latency::Histogram;
use crate::mqtt::{Ended, Grant, Granted, PacketError, SessionOptions, Version, shortfalls};
use crate::pipeline::Lane;

/// What a lane lets others see.
#[derive(Debug)]
pub(crate) struct LaneReport {
    inner: Mutex<Inner>,
}

/// A copy of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LaneView {
    pub(crate) ledger: Ledger,
    pub(crate) latency: Histogram,
    pub(crate) errors: BTreeMap<&'static str, u64>,
    pub(crate) bytes_received: u64,
    pub(crate) bytes_written: u64,
    pub(crate) buffered: u64,
    pub(crate) waiting: u64,
    pub(crate) taken_over: u64,
    pub(crate) has_been_up: bool,
}

#[derive(Debug)]
struct Inner {
    status: LaneStatus,
    view: LaneView,
    oldest: Option<Instant>,
    /// What keeps the lane from working.
    failure: Option<Problem>,
    shortfalls: Vec<Problem>,
}

impl LaneReport {
    pub(crate) fn new(lane: u16, client_id: &str) -> Self {
        Self {
            inner: Mutex::new(Inner {
                status: LaneStatus {
                    lane,
                    client_id: client_id.to_owned(),
                    state: LaneState::Connecting,
                    protocol_version: None,
                    session_present: false,
                    connections: 0,
                    window: 0,
                    oldest_unacked_ms: None,
                    last_error: None,
                },
                view: LaneView::default(),
                oldest: None,
                failure: None,
                shortfalls: Vec::new(),
            }),
        }
    }

    pub(crate) fn state(&self, state: LaneState) {
        self.lock().status.state = state;
    }

    /// CONNACK has come.
    pub(crate) fn connected(&self, granted: &Granted, session: &SessionOptions) {
        let mut inner = self.lock();
        let version = match granted.version {
            Version::V5 => "5",
            Version::V311 => "3.1.1",
        };
        inner.status.protocol_version = Some(version.to_owned());
        inner.status.session_present = granted.session_present;
        inner.status.connections += 1;
        tracing::info!(
            client_id = session.client_id,
            protocol = version,
            session_present = granted.session_present,
            "connected to the MQTT broker"
        );
    }

    /// SUBACK has come.
    ///
    /// # Errors
    /// When the broker refused a filter: the connection is of no use.
    pub(crate) fn subscribed(
        &self,
        granted: &Granted,
        session: &SessionOptions,
        codes: &[Grant],
    ) -> Result<(), Ended> {
        if codes.len() != session.filters.len() {
            return Err(PacketError::SubAckCodes(codes.len()).into());
        }
        for (filter, code) in session.filters.iter().zip(codes) {
            match code {
                Grant::Qos(_) => {}
                Grant::SharedUnsupported => {
                    return Err(Ended::SharedUnsupported {
                        filter: filter.clone(),
                    });
                }
                Grant::Refused(why) => {
                    return Err(Ended::SubscriptionRefused {
                        filter: filter.clone(),
                        why,
                    });
                }
            }
        }
        let problems = shortfalls(
            granted,
            session.session_expiry_seconds,
            session.qos,
            session.shared,
            codes,
        );
        let mut inner = self.lock();
        for problem in problems
            .iter()
            .filter(|problem| !inner.shortfalls.contains(problem))
        {
            tracing::warn!(reason = ?problem.reason, "{}", problem.message);
        }
        inner.shortfalls = problems;
        inner.failure = None;
        inner.status.state = LaneState::Up;
        inner.view.has_been_up = true;
        Ok(())
    }

    /// A connection could not be made, or ended.
    pub(crate) fn failed(&self, reason: Reason, message: &str) {
        let mut inner = self.lock();
        inner.status.state = LaneState::Waiting;
        if inner.status.last_error.as_deref() != Some(message) || inner.failure.is_none() {
            tracing::warn!(client_id = inner.status.client_id, ?reason, "{message}");
        }
        inner.status.last_error = Some(message.to_owned());
        inner.failure = Some(Problem {
            reason,
            message: message.to_owned(),
        });
    }

    /// Another client has taken the session.
    pub(crate) fn taken_over(&self, client_id: &str, wait: Duration) {
        let message = format!(
            "another client uses the client id {client_id}: look for a second worker with the same sessionId (or \
             millrace run --instance); next attempt in {} s",
            wait.as_secs().max(1)
        );
        self.failed(Reason::TakenOver, &message);
        let mut inner = self.lock();
        inner.status.state = LaneState::TakenOver;
        inner.view.taken_over += 1;
    }

    /// Copies the lane's counts.
    pub(crate) fn publish(&self, lane: &Lane<LaneSink>, now: Instant, started: Instant) {
        let mut inner = self.lock();
        inner.status.window = lane.window() as u64;
        inner.oldest = lane
            .oldest_us()
            .map(|us| started + Duration::from_micros(us))
            .filter(|at| *at <= now);
        let view = &mut inner.view;
        view.ledger = lane.ledger();
        view.latency.clone_from(lane.latency());
        if view.errors != *lane.errors() {
            view.errors.clone_from(lane.errors());
        }
        view.bytes_received = lane.bytes_received();
        view.bytes_written = lane.bytes_written();
        view.buffered = lane.buffered() as u64;
        view.waiting = lane.waiting() as u64;
    }

    /// What there is to see.
    pub(crate) fn view(&self) -> (LaneStatus, LaneView, Vec<Problem>) {
        let inner = self.lock();
        let mut status = inner.status.clone();
        status.oldest_unacked_ms = inner
            .oldest
            .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        let problems = inner.failure.iter().chain(&inner.shortfalls).cloned().collect();
        (status, inner.view.clone(), problems)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

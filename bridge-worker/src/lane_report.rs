//! What a lane lets others see. Written by the lane's thread, copied by whoever asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::Ledger;
use millrace_contract::status::{LaneState, LaneStatus, Problem, Reason};

use crate::config::is_shared;
use crate::kafka::LaneSink;
use crate::lane_task::Answered;
use crate::latency::Histogram;
use crate::limits::LimitsView;
use crate::mqtt::{Ended, Grant, Granted, PacketError, SessionOptions, shortfalls};
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
    /// What keeps it from more.
    pub(crate) limits: LimitsView,
    /// Of the configuration that the lane acts by.
    pub(crate) revision: u64,
    /// Of the login that the last connection was made with.
    pub(crate) login: u64,
    /// Which of the broker's urls that went to, from 0.
    pub(crate) place: usize,
    /// Filters, as the user wrote them, that it has read and that the broker may still hold messages of.
    pub(crate) late: BTreeSet<String>,
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
    pub(crate) fn new(lane: u16, client_id: &str, revision: u64, late: BTreeSet<String>) -> Self {
        Self {
            inner: Mutex::new(Inner {
                status: LaneStatus::new(lane, client_id, LaneState::Connecting),
                view: LaneView {
                    revision,
                    late,
                    ..LaneView::default()
                },
                oldest: None,
                failure: None,
                shortfalls: Vec::new(),
            }),
        }
    }

    pub(crate) fn state(&self, state: LaneState) {
        let mut inner = self.lock();
        inner.status.state = state;
        if matches!(state, LaneState::Idle | LaneState::Down | LaneState::Left) {
            inner.failure = None;
        }
    }

    /// CONNACK has come.
    pub(crate) fn connected(&self, granted: &Granted, session: &SessionOptions, login: u64) {
        let mut inner = self.lock();
        inner.view.login = login;
        inner.view.place = granted.place;
        let version = granted.version.name();
        inner.status.protocol_version = Some(version.to_owned());
        inner.status.session_present = granted.session_present;
        inner.status.address = Some(granted.address.clone());
        inner.status.connections += 1;
        tracing::info!(
            client_id = session.client_id,
            address = granted.address,
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
        expiry_seconds: u32,
        qos: u8,
        asked: &Answered,
        codes: &[Grant],
    ) -> Result<(), Ended> {
        if codes.len() != asked.filters.len() {
            return Err(PacketError::SubAckCodes(codes.len()).into());
        }
        for (filter, code) in asked.filters.iter().zip(codes) {
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
        let shared = asked.filters.iter().any(|path| is_shared(path));
        let problems = shortfalls(granted, expiry_seconds, qos, shared, codes);
        let mut inner = self.lock();
        let (known, new): (Vec<_>, Vec<_>) = problems
            .into_iter()
            .partition(|problem| inner.shortfalls.contains(problem));
        for problem in &new {
            tracing::warn!(reason = ?problem.reason, "{}", problem.message);
        }
        if asked.all {
            inner.shortfalls = known;
        }
        inner.shortfalls.extend(new);
        drop(inner);
        self.up();
        Ok(())
    }

    /// All that the lane reads is subscribed to.
    pub(crate) fn up(&self) {
        let mut inner = self.lock();
        inner.failure = None;
        inner.status.state = LaneState::Up;
        inner.view.has_been_up = true;
    }

    /// The lane maps and reads by this revision of the configuration.
    pub(crate) fn acts_by(&self, revision: u64) {
        self.lock().view.revision = revision;
    }

    /// It reads these filters, as the user wrote them, no more; the broker may still hold messages of them.
    pub(crate) fn late(&self, filters: BTreeSet<String>) {
        self.lock().view.late = filters;
    }

    /// Whether the lane is in a state.
    pub(crate) fn is(&self, state: LaneState) -> bool {
        self.lock().status.state == state
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
    pub(crate) fn publish(&self, lane: &Lane<LaneSink>, limits: LimitsView, now: Instant, started: Instant) {
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
        view.limits = limits;
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

//! The thread of a lane: connects, serves the connection, says goodbye.
//!
//! Each lane has a thread and a single-threaded runtime of its own, and everything of the lane happens there:
//! acks are decided by the code that owns the socket, so none can leave on the wrong connection.

mod serving;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::ProtocolVersion;
use millrace_contract::status::{LaneState, Reason};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::backoff::Backoff;
use crate::config::LanePlan;
use crate::kafka::{LaneSink, Mailbox, Producer, Report};
use crate::lane_report::LaneReport;
use crate::mqtt::{Connection, Ended, Granted, Version, connect};
use crate::pipeline::{Lane, Now, Stop};
use serving::Served;

/// A connection closed so soon after CONNACK counts towards a takeover: MQTT 3.1.1 brokers do not say it.
const SUSPICIOUSLY_SHORT: Duration = Duration::from_secs(5);
/// Session taken over [MQTT-3.14.2.1].
const SESSION_TAKEN_OVER: u8 = 0x8E;

/// What the lanes of a route are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Run,
    /// A message stopped the route, or the route ends: confirm what is in flight, then disconnect.
    Drain,
    /// Give up at once.
    Abort,
}

/// What a lane's thread works with.
pub(crate) struct LaneTask {
    pub(crate) plan: LanePlan,
    pub(crate) lane: Lane<LaneSink>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) commands: watch::Receiver<Command>,
    /// Called when a message stops the route.
    pub(crate) on_stop: Box<dyn Fn(Stop) + Send>,
    pub(crate) report: Arc<LaneReport>,
    pub(crate) started: Instant,
}

/// A lane at work: the task and what changes from connection to connection.
struct Runner {
    task: LaneTask,
    backoff: Backoff,
    /// MQTT 5 has worked once: a closed socket is then no sign of an older broker.
    v5_has_worked: bool,
    version: Version,
    short_connections: u32,
    takeovers: u32,
    reports: Vec<Report>,
    drain_until: Option<Instant>,
    told_stop: bool,
    /// Takes the producer's reports itself, instead of waiting to be told.
    serving: bool,
    /// Turns in a row without anything to read.
    quiet_turns: u32,
}

impl LaneTask {
    /// Runs until the lane is told to drain or abort.
    pub(crate) async fn run(self) {
        if self.plan.filters.is_empty() {
            self.report.state(LaneState::Idle);
            return;
        }
        let version = match self.plan.protocol {
            ProtocolVersion::Auto | ProtocolVersion::V5 => Version::V5,
            ProtocolVersion::V311 => Version::V311,
        };
        let mut runner = Runner {
            task: self,
            backoff: Backoff::default(),
            v5_has_worked: false,
            version,
            short_connections: 0,
            takeovers: 0,
            reports: Vec::new(),
            drain_until: None,
            told_stop: false,
            serving: false,
            quiet_turns: 0,
        };
        runner.run().await;
        runner.publish(Instant::now());
        runner.task.report.state(LaneState::Down);
    }
}

impl Runner {
    async fn run(&mut self) {
        loop {
            self.task.report.state(LaneState::Connecting);
            let wait = match self.connect().await {
                None => return,
                Some(Err(wait)) => wait,
                Some(Ok((connection, granted))) => {
                    let connected = Instant::now();
                    match self.serve(connection, granted).await {
                        Served::Finished => return,
                        Served::Ended(ended) => self.after(&ended, connected.elapsed()),
                    }
                }
            };
            if !self.rest(wait).await {
                return;
            }
        }
    }

    /// Connects once. `None`: the lane is to end. `Err`: how long to wait before the next attempt.
    async fn connect(&mut self) -> Option<Result<(Connection, Granted), Duration>> {
        let session = self.task.plan.session.clone();
        let mut commands = self.task.commands.clone();
        let outcome = tokio::select! {
            outcome = connect(&session, self.version) => outcome,
            _ = commands.wait_for(|command| *command != Command::Run) => {
                return self.rest(Duration::ZERO).await.then(|| Err(Duration::ZERO));
            }
        };
        match outcome {
            Ok((connection, granted)) => {
                self.v5_has_worked |= granted.version == Version::V5;
                self.task.lane.connected(granted.session_present);
                self.task.report.connected(&granted, &session);
                Some(Ok((connection, granted)))
            }
            Err(error) => {
                let automatic = self.task.plan.protocol == ProtocolVersion::Auto;
                if automatic && error.suggests_other_version(self.v5_has_worked) {
                    self.version = if self.version == Version::V5 {
                        Version::V311
                    } else {
                        Version::V5
                    };
                } else if automatic && self.v5_has_worked {
                    self.version = Version::V5;
                }
                let reason = if error.is_refusal() {
                    Reason::BrokerRefused
                } else {
                    Reason::BrokerUnreachable
                };
                self.task.report.failed(reason, &error.to_string());
                Some(Err(self.backoff.next()))
            }
        }
    }

    /// What follows from the end of a connection: how long to wait before the next.
    fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        self.serve_reports(false);
        self.task.lane.connection_lost();
        // A broker of MQTT 5 says so, one of 3.1.1 only closes.
        let says_nothing = self.version == Version::V311 && matches!(ended, Ended::Closed | Ended::Broken(_));
        self.short_connections = if says_nothing && lasted < SUSPICIOUSLY_SHORT {
            self.short_connections + 1
        } else {
            0
        };
        let said = matches!(
            ended,
            Ended::Disconnected {
                reason: SESSION_TAKEN_OVER,
                ..
            }
        );
        if said || self.short_connections >= 2 {
            self.short_connections = 0;
            self.task.lane.taken_over();
            let least = Duration::from_millis(self.task.plan.failover_ms)
                * 2_u32.saturating_pow(self.takeovers.min(6));
            // Never earlier: the other client has that long to be told that the lane is not its own.
            let wait = least + Backoff::jitter(least) / 4;
            self.takeovers += 1;
            self.task
                .report
                .taken_over(&self.task.plan.session.client_id, wait);
            return wait;
        }
        let reason = match ended {
            Ended::Disconnected { reason: 0x87, .. } => Reason::BrokerRefused,
            // Busy, shutting down, no answer to its own pings, told to by an administrator, moved, connected too long.
            Ended::Disconnected {
                reason: 0 | 0x89 | 0x8B | 0x8D | 0x98 | 0x9C | 0x9D | 0x9F | 0xA0,
                ..
            } => Reason::BrokerUnreachable,
            Ended::Protocol(_) | Ended::Disconnected { .. } => Reason::ProtocolError,
            Ended::SubscriptionRefused { .. } => Reason::SubscriptionRefused,
            Ended::SharedUnsupported { .. } => Reason::SharedSubscriptionsUnsupported,
            _ => Reason::BrokerUnreachable,
        };
        self.task.report.failed(reason, &ended.to_string());
        if lasted >= SUSPICIOUSLY_SHORT {
            self.takeovers = 0;
            self.backoff.reset();
        }
        self.backoff.next()
    }

    /// Waits without a connection, while reports of earlier connections are taken. False: the lane is to end.
    async fn rest(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            let now = self.take_reports();
            self.publish(now);
            let command = self.task.commands.borrow_and_update().clone();
            match command {
                Command::Abort => return false,
                Command::Drain if self.drained() => return false,
                Command::Drain => {}
                Command::Run if now >= until => return true,
                Command::Run => {}
            }
            let mut next = self.next_retry(now).unwrap_or(until);
            if self.drain_until.is_none() {
                next = next.min(until);
            }
            tokio::select! {
                () = self.task.mailboxes[self.index()].arrived() => {}
                _ = self.task.commands.changed() => {}
                () = sleep_until(next.max(now + Duration::from_millis(1)).into()) => {}
            }
        }
    }

    fn index(&self) -> usize {
        usize::from(self.task.plan.lane.lane)
    }

    /// Whether nothing is in flight any more, or the time for it is over.
    fn drained(&mut self) -> bool {
        let until = *self
            .drain_until
            .get_or_insert_with(|| Instant::now() + Duration::from_millis(self.task.plan.drain_ms));
        self.task.lane.waiting() == 0 || Instant::now() >= until
    }

    fn next_retry(&self, now: Instant) -> Option<Instant> {
        let at = self.task.lane.next_retry_us()?;
        Some((self.task.started + Duration::from_micros(at)).max(now + Duration::from_millis(1)))
    }

    fn now(&self, at: Instant) -> Now {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            us: u64::try_from((at - self.task.started).as_micros()).unwrap_or(u64::MAX),
            epoch_ms: i64::try_from(epoch.as_millis()).unwrap_or(i64::MAX),
        }
    }

    /// Takes what Kafka has reported and sends again what may go.
    fn take_reports(&mut self) -> Instant {
        let at = Instant::now();
        let now = self.now(at);
        self.task.mailboxes[self.index()].take(&mut self.reports);
        for report in self.reports.drain(..) {
            self.task.lane.report(report, now);
        }
        self.task.lane.resend(now);
        if let (false, Some(stop)) = (self.told_stop, self.task.lane.stopped()) {
            self.told_stop = true;
            (self.task.on_stop)(stop.clone());
        }
        at
    }

    fn publish(&self, at: Instant) {
        self.task.report.publish(&self.task.lane, at, self.task.started);
    }
}

//! The thread of a lane: connects, serves the connection, says goodbye.
//!
//! Each lane has a thread and a single-threaded runtime of its own, and everything of the lane happens there:
//! acks are decided by the code that owns the socket, so none can leave on the wrong connection.

mod connecting;
mod ended;
mod filters;
mod orders;
mod quiet;
mod resting;
mod serving;
mod taking;
mod talk;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_contract::status::LaneState;
use tokio::sync::watch;

use crate::clock::epoch_ms;
use crate::config::{LanePlan, LivePlan, Reading};
use crate::credentials::Credentials;
use crate::kafka::{LaneSink, Mailbox, Producer, Report};
use crate::lane_report::LaneReport;
use crate::limits::Limits;
use crate::mqtt::Attempts;
use crate::pipeline::{Lane, Now, Stop};
pub(crate) use orders::{Command, Orders};
use serving::Served;
pub(crate) use taking::texts;
pub(crate) use talk::Answered;

/// What a lane's thread works with.
pub(crate) struct LaneTask {
    pub(crate) plan: LanePlan,
    pub(crate) lane: Lane<LaneSink>,
    pub(crate) mailboxes: Arc<[Mailbox]>,
    pub(crate) producer: Arc<Producer>,
    pub(crate) credentials: Arc<Credentials>,
    pub(crate) orders: watch::Receiver<Orders>,
    /// Called when a message stops the route, with the revision of the configuration it was mapped by.
    pub(crate) on_stop: Box<dyn Fn(Stop, u64) + Send>,
    pub(crate) report: Arc<LaneReport>,
    pub(crate) started: Instant,
}

/// A lane at work: the task and what changes from connection to connection.
struct Runner {
    task: LaneTask,
    /// What the lane is to do.
    command: Command,
    /// What it acts by.
    live: Arc<LivePlan>,
    /// A connection made with an older login than this is to be made again.
    login: u64,
    /// Likewise one that was made when this was less.
    again: u64,
    /// The filters it reads.
    readings: Vec<Reading>,
    /// Those it has read before and whose messages have not run dry.
    wet: Vec<Reading>,
    /// Those that have, as sent.
    dry: BTreeSet<String>,
    attempts: Attempts,
    reports: Vec<Report>,
    drain_until: Option<Instant>,
    /// What keeps it from more.
    limits: Limits,
    told_stop: bool,
    /// The last connection ended with the lane's own goodbye: what of it was not acknowledged comes again.
    has_parted: bool,
    /// The session has ended, or only has to be overwritten once more (MQTT 3.1.1).
    leaving: Leaving,
    /// Takes the producer's reports itself, instead of waiting to be told.
    serving: bool,
    /// Turns in a row without anything to read.
    quiet_turns: u32,
}

/// How far a lane is that ends its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// The broker may hold messages.
    Reading,
    /// It holds none any more; MQTT 3.1.1 ends a session only by beginning and ending another one.
    Overwriting,
    /// There is no session.
    Left,
}

impl LaneTask {
    /// Runs until the lane is told to drain or abort.
    pub(crate) async fn run(mut self) {
        let orders = self.orders.borrow_and_update().clone();
        let mut runner = Runner {
            command: orders.command,
            login: orders.login,
            again: orders.again,
            readings: orders.live.readings(&self.plan),
            wet: orders.live.retired(&self.plan),
            dry: BTreeSet::new(),
            live: orders.live,
            limits: Limits::new(self.lane.seen(Instant::now(), false)),
            attempts: Attempts::new(self.plan.protocol),
            task: self,
            reports: Vec::new(),
            drain_until: None,
            told_stop: false,
            has_parted: false,
            leaving: Leaving::Reading,
            serving: false,
            quiet_turns: 0,
        };
        runner.run().await;
        runner.publish(Instant::now());
        let report = &runner.task.report;
        if !report.is(LaneState::Idle) && !report.is(LaneState::Left) {
            report.state(LaneState::Down);
        }
    }
}

impl Runner {
    async fn run(&mut self) {
        let mut wait = Duration::ZERO;
        while self.rest(wait).await {
            wait = match self.connect().await {
                Err(wait) => wait,
                Ok((connection, talk)) => {
                    let connected = Instant::now();
                    match self.serve(connection, talk).await {
                        Served::Finished => {
                            self.has_parted = true;
                            Duration::ZERO
                        }
                        Served::Ended(ended) => self.after(&ended, connected.elapsed()),
                    }
                }
            };
        }
    }

    fn index(&self) -> usize {
        usize::from(self.task.plan.lane)
    }

    /// Whether no filter falls to the lane, and none has that the broker may still hold something for.
    fn has_nothing_to_read(&self) -> bool {
        self.readings.is_empty() && self.wet.is_empty()
    }

    /// Whether nothing is in flight any more, or the time for it is over.
    fn drained(&mut self) -> bool {
        let drain = self.live.drain;
        let until = *self.drain_until.get_or_insert_with(|| Instant::now() + drain);
        self.task.lane.waiting() == 0 || Instant::now() >= until
    }

    fn next_retry(&self, now: Instant) -> Option<Instant> {
        let at = self.task.lane.next_retry_us()?;
        Some((self.task.started + Duration::from_micros(at)).max(now + Duration::from_millis(1)))
    }

    fn now(&self, at: Instant) -> Now {
        Now {
            us: u64::try_from((at - self.task.started).as_micros()).unwrap_or(u64::MAX),
            epoch_ms: epoch_ms(),
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
            (self.task.on_stop)(stop.clone(), self.live.revision);
        }
        at
    }

    fn publish(&self, at: Instant) {
        let limits = self.limits.view();
        self.task
            .report
            .publish(&self.task.lane, limits, at, self.task.started);
    }
}

//! The thread of a lane: connects, serves the connection, says goodbye.
//!
//! Each lane has a thread and a single-threaded runtime of its own, and everything of the lane happens there:
//! acks are decided by the code that owns the socket, so none can leave on the wrong connection.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millrace_contract::ProtocolVersion;
use millrace_contract::status::{LaneState, Problem, Reason};
use tokio::sync::watch;
use tokio::time::sleep_until;

use crate::backoff::Backoff;
use crate::config::LanePlan;
use crate::kafka::{LaneSink, Mailbox, Producer, Report};
use crate::lane_report::LaneReport;
use crate::mqtt::{
    Connection, Ended, Grant, Granted, Inbound, Packet, PacketError, Publish, SUBSCRIBE_ID, Version, connect,
};
use crate::pipeline::{Lane, Now, Received, Stop};

/// How long the lane rests after it has read something. A broker that sends a packet per segment would wake it
/// for each: with this rest a read takes many, for a third of the CPU.
const NAP: Duration = Duration::from_micros(300);
/// A read of so many bytes means there is more: no rest.
const BUSY_READ: usize = 64 * 1024;
/// A turn that reads so many bytes makes the lane serve the producer's reports itself.
const SERVING_READ: usize = 1024;
/// At most so much is read before acks get their turn, in bytes.
const TURN_BYTES: usize = 256 * 1024;
/// How long the broker may take for SUBACK.
const SUBACK_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection closed so soon after CONNACK counts towards a takeover: MQTT 3.1.1 brokers do not say it.
const SUSPICIOUSLY_SHORT: Duration = Duration::from_secs(5);
/// Session taken over [MQTT-3.14.2.1].
const SESSION_TAKEN_OVER: u8 = 0x8E;
/// Malformed packet and protocol error [MQTT-3.14.2.1].
const PROTOCOL_ERROR: u8 = 0x82;

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

    /// Serves a connection until it ends or the lane does.
    async fn serve(&mut self, mut connection: Connection, granted: Granted) -> Served {
        let session = &self.task.plan.session;
        if session.shared && !granted.shared_subscriptions && !session.assume_shared {
            return Served::Ended(Ended::SharedUnsupported {
                filter: session.filters.join(", "),
            });
        }
        let mut subscribed = Some(Instant::now() + SUBACK_TIMEOUT);
        loop {
            match self.turn(&mut connection, &granted, &mut subscribed).await {
                Ok(true) => {}
                Ok(false) => {
                    self.serve_reports(false);
                    // What the last turn has settled is not to wait for the goodbye.
                    self.publish(Instant::now());
                    connection.disconnect(0).await;
                    return Served::Finished;
                }
                Err(ended) => {
                    if matches!(ended, Ended::Protocol(_)) {
                        connection.disconnect(PROTOCOL_ERROR).await;
                    }
                    return Served::Ended(ended);
                }
            }
        }
    }

    /// Reports, acks, packets, timers; then waits for any of them. False: all is done, and the lane is to end.
    async fn turn(
        &mut self,
        connection: &mut Connection,
        granted: &Granted,
        subscribed: &mut Option<Instant>,
    ) -> Result<bool, Ended> {
        if self.serving {
            self.task.producer.serve(self.task.plan.lane.lane);
        }
        let at = self.take_reports();
        self.task.lane.acks(connection);
        connection.try_flush()?;
        let command = self.task.commands.borrow_and_update().clone();
        match command {
            Command::Abort => return Ok(false),
            Command::Drain if self.drained() => return Ok(false),
            Command::Drain | Command::Run => {}
        }
        let reading = command == Command::Run && self.task.lane.can_take() && !connection.is_backed_up();
        let bytes = if reading {
            self.intake(connection, granted, subscribed, at)?
        } else {
            0
        };
        connection.keep_alive(reading)?;
        if bytes > 0
            && let Some(deadline) = subscribed
        {
            // What a resumed session holds comes first, and on a slow network it takes its time.
            *deadline = at + SUBACK_TIMEOUT;
        }
        if reading && subscribed.is_some_and(|deadline| at > deadline) {
            return Err(Ended::NoSubAck(SUBACK_TIMEOUT));
        }
        self.publish(at);
        self.serve_reports(bytes >= SERVING_READ || (self.serving && bytes > 0));
        if bytes >= BUSY_READ {
            return Ok(true);
        }
        if bytes > 0 {
            // Nothing else runs on this runtime.
            std::thread::sleep(NAP);
            return Ok(true);
        }
        let mut next = at + connection.next_check();
        if let Some(retry) = self.next_retry(at) {
            next = next.min(retry);
        }
        if let Some(drain) = self.drain_until {
            next = next.min(drain);
        }
        let index = self.index();
        tokio::select! {
            biased;
            () = self.task.mailboxes[index].arrived() => {}
            readable = connection.readable(), if reading && self.task.lane.can_take() => readable?,
            writable = connection.writable(), if connection.has_unsent() => writable?,
            _ = self.task.commands.changed() => {}
            () = sleep_until(next.into()) => {}
        }
        Ok(true)
    }

    fn serve_reports(&mut self, serve: bool) {
        if serve != self.serving {
            self.serving = serve;
            if serve {
                self.task.producer.begin_serving();
            } else {
                self.task.producer.end_serving();
            }
        }
    }

    /// Reads what is there and takes the packets in it, until nothing is left, the lane is full, or acks should
    /// have a turn. Returns how many bytes were read.
    fn intake(
        &mut self,
        connection: &mut Connection,
        granted: &Granted,
        subscribed: &mut Option<Instant>,
        at: Instant,
    ) -> Result<usize, Ended> {
        let now = self.now(at);
        let mut total = 0;
        loop {
            while self.task.lane.can_take() {
                let Some(packet) = connection.next_packet()? else {
                    break;
                };
                self.packet(packet, connection, granted, subscribed, now)?;
            }
            if !self.task.lane.can_take() || total >= TURN_BYTES {
                return Ok(total);
            }
            match connection.try_read()? {
                Some(0) => return Err(Ended::Closed),
                Some(bytes) => total += bytes,
                None => return Ok(total),
            }
        }
    }

    fn packet(
        &mut self,
        packet: Packet,
        connection: &mut Connection,
        granted: &Granted,
        subscribed: &mut Option<Instant>,
        now: Now,
    ) -> Result<(), Ended> {
        let lane = &mut self.task.lane;
        match packet {
            Packet::Inbound(Inbound::Publish(publish)) => lane.receive(received(&publish)?, now),
            Packet::Oversized(publish, size, sha256) => {
                lane.receive_oversized(received(&publish)?, size, sha256, now);
            }
            Packet::Inbound(Inbound::PubRel { id }) => {
                lane.pubrel(id);
                connection.pubcomp(id);
            }
            Packet::Inbound(Inbound::SubAck {
                id: SUBSCRIBE_ID,
                granted: codes,
            }) => {
                self.task
                    .report
                    .subscribed(granted, &self.task.plan.session, &codes)?;
                *subscribed = None;
            }
            Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                return Err(Ended::Disconnected { reason, text });
            }
            Packet::Inbound(Inbound::ConnAck(_)) => return Err(PacketError::Unexpected(2).into()),
            Packet::Inbound(Inbound::PingResp | Inbound::SubAck { .. } | Inbound::Other) => {}
        }
        Ok(())
    }
}

/// How serving a connection ended.
enum Served {
    /// The lane has said goodbye.
    Finished,
    /// The connection is gone.
    Ended(Ended),
}

fn received(publish: &Publish) -> Result<Received<'_>, PacketError> {
    let topic = std::str::from_utf8(&publish.topic)
        .ok()
        .filter(|topic| !topic.is_empty());
    Ok(Received {
        id: publish.id,
        ack: publish.ack,
        dup: publish.dup,
        retain: publish.retain,
        topic: topic.ok_or(PacketError::Topic)?,
        payload: &publish.payload,
        properties: publish.properties.as_ref(),
    })
}

/// What the broker granted less than was asked.
pub(crate) fn shortfalls(
    granted: &Granted,
    asked_expiry_seconds: u32,
    qos: u8,
    shared: bool,
    codes: &[Grant],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lowest = codes
        .iter()
        .filter_map(|code| {
            if let Grant::Qos(qos) = code {
                Some(*qos)
            } else {
                None
            }
        })
        .min();
    let granted_qos = lowest.unwrap_or(qos).min(granted.maximum_qos);
    if granted_qos < qos {
        let way_out = if shared {
            "some brokers grant less on shared subscriptions: use spec.from.mqtt.ordering: PerTopic, or"
        } else {
            "use a broker that supports it, or"
        };
        problems.push(Problem {
            reason: Reason::QosDowngraded,
            message: format!(
                "the broker grants QoS {granted_qos} where {qos} was asked{}: {way_out} set spec.from.mqtt.qos to \
                 {granted_qos}",
                if granted_qos == 0 { ", so messages can be lost" } else { "" },
            ),
        });
    }
    if let Some(seconds) = granted
        .session_expiry_seconds
        .filter(|seconds| *seconds < asked_expiry_seconds)
    {
        problems.push(Problem {
            reason: Reason::SessionExpiryShort,
            message: format!(
                "the broker keeps the session for {seconds} s without connection, not {asked_expiry_seconds} s: \
                 after a longer outage messages are lost; raise the broker's limit"
            ),
        });
    }
    problems
}

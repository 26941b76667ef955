//! A lane connects, and says what it wants on the connection.

use std::time::{Duration, Instant};

use millrace_contract::status::LaneState;

use super::talk::Talk;
use super::{Command, Leaving, Runner};
use crate::config::Reading;
use crate::mqtt::{ConnectError, Connection, Version, Wanted, connect};

impl Runner {
    /// Connects once. `Err`: how long to wait before the next attempt.
    pub(super) async fn connect(&mut self) -> Result<(Connection, Talk), Duration> {
        let is_leaving = self.command == Command::Leave;
        self.task.report.state(if is_leaving {
            LaneState::Leaving
        } else {
            LaneState::Connecting
        });
        let mut session = self.task.plan.session.clone();
        session.max_message_bytes = self.max_message_bytes();
        session.clean_start = self.leaving == Leaving::Overwriting;
        let access = self.task.credentials.for_attempt(self.attempts.login_refused());
        let version = self.attempts.version();
        let mut orders = self.task.orders.clone();
        let attempt = async {
            let access = access?;
            let (connection, granted) = connect(&session, &access, version).await?;
            Ok((connection, granted, access))
        };
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            _ = orders.wait_for(|orders| !orders.command.connects()) => return Err(Duration::ZERO),
        };
        let (mut connection, granted, access) = outcome.map_err(|error| self.not_connected(&error))?;
        self.attempts.connected(granted.version);
        let login = self.task.credentials.has_worked(access, granted.certificate);
        self.task.lane.connected(granted.session_present);
        let asked = (granted.version == Version::V5).then_some(session.receive_maximum);
        let before = self.task.lane.seen(Instant::now(), true);
        self.limits.connected(asked, granted.round_trip, before);
        self.task.report.connected(&granted, &session, login);
        let mut talk = Talk::new(granted, login, self.again, is_leaving);
        self.introduce(&mut connection, &mut talk);
        Ok((connection, talk))
    }

    /// SUBSCRIBE to everything, on every connect: mosquitto forgets shared subscriptions over a restart, and a
    /// connection cut before SUBACK looks no different. A resumed session sends messages before SUBACK.
    ///
    /// A resumed session may also hold subscriptions of filters that are retired, or that other lanes read since the
    /// number of lanes or the ordering was changed: UNSUBSCRIBE follows.
    fn introduce(&mut self, connection: &mut Connection, talk: &mut Talk) {
        let mine: Vec<Wanted> = match self.command {
            Command::Leave => Vec::new(),
            _ => self.readings.iter().map(Reading::wanted).collect(),
        };
        let mut gone = Vec::new();
        if talk.granted.session_present {
            gone.extend(self.live.paths(&self.task.plan));
            gone.retain(|path| mine.iter().all(|wanted| wanted.path != *path));
        }
        talk.ask(connection, &mine, gone, self.live.qos);
        if !talk.is_subscribing() && !talk.is_leaving {
            self.task.report.up();
            self.has_settled(talk);
        }
    }

    /// What follows from an attempt that failed: how long to wait before the next.
    fn not_connected(&mut self, error: &ConnectError) -> Duration {
        self.task.report.failed(error.reason(), &error.to_string());
        self.attempts.failed(error)
    }
}

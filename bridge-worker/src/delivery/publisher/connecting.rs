//! A connection is made, and ends.

use std::time::{Duration, Instant};

use millrace_contract::status::ConnectionState;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Runner;
use crate::delivery::outgoing::Step;
use crate::delivery::shared::{Command, Orders};
use crate::mqtt::{After, ConnectError, Connection, Ended, Goodbye, Granted, Version, connect};

impl Runner {
    /// Connects once. `Err`: how long to wait before the next attempt.
    pub(super) async fn connect(&mut self) -> Result<(Connection, Granted), Duration> {
        self.task.shared.view().connection.state = ConnectionState::Connecting;
        let mut session = self.task.plan.session.clone();
        session.clean_start = self.begins;
        let access = self.task.credentials.for_attempt(self.attempts.login_refused());
        let version = self.attempts.version();
        let again = self.task.shared.again();
        let over = is_over(self.task.orders.clone(), self.drain_until);
        let attempt = async {
            let access = access?;
            let (connection, granted) = connect(&session, &access, version).await?;
            Ok((connection, granted, access))
        };
        let outcome = tokio::select! {
            outcome = attempt => outcome,
            () = over => {
                self.drain_until.get_or_insert_with(Instant::now);
                return Err(Duration::ZERO);
            }
        };
        let (connection, granted, access) = outcome.map_err(|error| self.not_connected(&error))?;
        self.attempts.connected(granted.version);
        self.login = self.task.credentials.has_worked(access, granted.certificate);
        (self.again, self.outdated) = (again, None);
        let had_to_begin = std::mem::take(&mut self.begins);
        if had_to_begin && granted.version == Version::V311 {
            // A session that begins clean ends with its connection there: the next one lasts.
            connection.disconnect(Goodbye::Keep).await;
            return Err(Duration::ZERO);
        }
        let limit = granted.receive_maximum.unwrap_or(u16::MAX);
        let limit = limit.min(self.task.plan.window).max(1);
        self.window.set_limit(limit);
        let mut view = self.task.shared.view();
        let status = &mut view.connection;
        status.protocol_version = Some(granted.version.name().to_owned());
        status.session_present = granted.session_present;
        status.address = Some(granted.address.clone());
        status.connections += 1;
        status.receive_maximum = limit.into();
        status.state = ConnectionState::Up;
        view.place = granted.place;
        view.broker = None;
        view.has_been_up = true;
        drop(view);
        tracing::info!(
            client_id = session.client_id,
            address = granted.address,
            protocol = granted.version.name(),
            session_present = granted.session_present,
            "connected to the MQTT broker"
        );
        Ok((connection, granted))
    }

    /// What follows from an attempt that failed: how long to wait before the next.
    fn not_connected(&mut self, error: &ConnectError) -> Duration {
        let mut view = self.task.shared.view();
        view.failed(error.reason(), &error.to_string(), ConnectionState::Waiting);
        self.attempts.failed(error)
    }

    /// What follows from the end of a connection: how long to wait before the next.
    pub(super) fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        self.settle();
        match self.attempts.ended(ended, lasted, self.live.failover) {
            After::TakenOver(wait) => {
                // The session that is there next is the other client's: what it has unfinished is none of this one's.
                self.begins = true;
                self.taken_over(wait);
                wait
            }
            After::Failed(wait) => {
                let mut view = self.task.shared.view();
                view.failed(ended.reason(), &ended.to_string(), ConnectionState::Waiting);
                wait
            }
        }
    }

    /// What has been written with QoS 0 may not have left: it is published again.
    pub(super) fn take_back_unflushed(&mut self) {
        while let Some(outgoing) = self.unflushed.pop_back() {
            self.unsent.push_front(Step::Publish(outgoing));
        }
    }

    fn taken_over(&self, wait: Duration) {
        let message = format!(
            "another client uses the client id {}: look for a second worker with the same sessionId (or millrace run \
             --instance); next attempt in {} s",
            self.task.plan.session.client_id,
            wait.as_secs().max(1)
        );
        let mut view = self.task.shared.view();
        view.failed(
            millrace_contract::status::Reason::TakenOver,
            &message,
            ConnectionState::TakenOver,
        );
        view.taken_over += 1;
    }
}

/// Comes when there is nothing to connect for any more: the delivery gives up, or the time to end in order is over.
async fn is_over(mut orders: watch::Receiver<Orders>, drain_until: Option<Instant>) {
    let drain = match orders.wait_for(|orders| orders.command != Command::Run).await {
        Ok(orders) if orders.command == Command::Drain => orders.live.drain,
        _ => return,
    };
    let until = drain_until.unwrap_or_else(|| Instant::now() + drain);
    tokio::select! {
        () = sleep_until(until.into()) => {}
        _ = orders.wait_for(|orders| orders.command == Command::Abort) => {}
    }
}

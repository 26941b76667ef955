//! A lane takes over other orders, between two messages.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::talk::Talk;
use super::{Command, Leaving, Runner};
use crate::config::Reading;
use crate::mqtt::{Connection, Wanted};

impl Runner {
    /// Takes over the newest orders. With a connection, another configuration waits until the broker has answered what
    /// was asked for the one before.
    pub(super) fn take_orders(&mut self, connection: Option<(&mut Connection, &mut Talk)>) {
        let orders = self.task.orders.borrow_and_update();
        let command = orders.command;
        let is_new = orders.live.revision != self.live.revision;
        let live = is_new.then(|| Arc::clone(&orders.live));
        (self.login, self.again) = (orders.login, orders.again);
        self.task.lane.set_max_buffered(orders.max_buffered);
        drop(orders);
        self.take_command(command);
        match (live, connection) {
            (None, _) => {}
            (Some(live), None) => {
                self.live = live;
                self.adopt();
                // With filters, it acts when they have been granted.
                if self.readings.is_empty() {
                    self.task.report.acts_by(self.live.revision);
                }
            }
            (Some(live), Some((connection, talk))) if talk.is_settled() && !talk.is_leaving => {
                let before = std::mem::take(&mut self.readings);
                let same_qos = self.live.qos == live.qos;
                self.live = live;
                self.adopt();
                connection.set_max_message_bytes(self.max_message_bytes());
                let is_known = |reading: &Reading| before.iter().any(|known| known.path == reading.path);
                let new = self
                    .readings
                    .iter()
                    .filter(|reading| !same_qos || !is_known(reading));
                let new: Vec<Wanted> = new.map(Reading::wanted).collect();
                talk.ask(connection, &new, paths(&self.wet), self.live.qos);
                talk.late = None;
                self.has_settled(talk);
            }
            (Some(_), Some(_)) => {}
        }
    }

    fn take_command(&mut self, command: Command) {
        if command == self.command {
            return;
        }
        if command.connects() {
            self.drain_until = None;
        }
        if command != Command::Leave {
            self.leaving = Leaving::Reading;
        }
        self.command = command;
    }

    /// Reads and maps by the configuration that was taken over.
    fn adopt(&mut self) {
        let plan = &self.task.plan;
        self.readings = self.live.readings(plan);
        let mut retired = self.live.retired(plan);
        self.dry
            .retain(|path| retired.iter().any(|reading| reading.path == *path));
        retired.retain(|reading| !self.dry.contains(&reading.path));
        self.wet = retired;
        self.task.report.late(texts(&self.wet));
        match self.live.mappings() {
            Ok(mappings) => self.task.lane.take_over(mappings, &self.live.on_error),
            // It has been compiled before it was given to the lanes.
            Err(error) => tracing::error!(%error, "a mapping that compiled once does not compile again"),
        }
    }

    pub(super) fn max_message_bytes(&self) -> usize {
        usize::try_from(self.live.max_message_bytes).unwrap_or(usize::MAX / 2)
    }
}

/// Filters as the user wrote them.
pub(crate) fn texts(readings: &[Reading]) -> BTreeSet<String> {
    readings.iter().map(|reading| reading.text.clone()).collect()
}

pub(super) fn paths<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> Vec<String> {
    readings.into_iter().map(|reading| reading.path.clone()).collect()
}

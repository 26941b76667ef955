//! What becomes of a lane's filters on a connection: granted, or on their way out.

use std::collections::BTreeSet;
use std::time::Instant;

use super::quiet::Quiet;
use super::talk::Talk;
use super::{Command, Leaving, Runner};
use crate::mqtt::{Connection, Ended, Goodbye, Grant, Version};

impl Runner {
    /// The broker has answered a SUBSCRIBE.
    ///
    /// # Errors
    /// When it refused a filter: the connection is of no use.
    pub(super) fn suback(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
        id: u16,
        codes: &[Grant],
    ) -> Result<(), Ended> {
        let Some(answered) = talk.suback(id) else {
            return Ok(());
        };
        self.task.report.subscribed(
            &talk.granted,
            self.task.plan.session.session_expiry_seconds,
            self.live.qos,
            &answered,
            codes,
        )?;
        talk.unsubscribe_later(connection);
        self.has_settled(talk);
        Ok(())
    }

    /// Says so once the broker has granted what the lane reads, and knows what it reads no more.
    pub(super) fn has_settled(&self, talk: &Talk) {
        if talk.is_settled() {
            self.task.report.acts_by(self.live.revision);
        }
    }

    /// Notices when nothing more comes for filters that the route has no longer.
    pub(super) fn watch_what_is_late(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
        at: Instant,
        reading: bool,
    ) {
        if self.wet.is_empty() || talk.is_leaving {
            talk.late = None;
            return;
        }
        // A filter that other lanes read now has the mapping of what is read.
        let seen = match self.readings.is_empty() {
            true => self.task.lane.ledger().received,
            false => self.task.lane.late(),
        };
        let settled = talk.is_settled();
        match &mut talk.late {
            Some(quiet) if reading && settled => {
                if quiet.is_over(at, seen, &self.task.lane, connection) {
                    talk.late = None;
                    self.dry.extend(self.wet.drain(..).map(|reading| reading.path));
                    self.task.report.late(BTreeSet::new());
                }
            }
            late => *late = Some(Quiet::since(at, seen)),
        }
    }

    /// A lane that ends its session: how to say goodbye once nothing more is to come.
    pub(super) fn leave(
        &mut self,
        connection: &mut Connection,
        talk: &mut Talk,
        at: Instant,
    ) -> Option<Goodbye> {
        if !talk.is_leaving || self.command != Command::Leave {
            return None;
        }
        if talk.granted.session_present && self.leaving == Leaving::Reading {
            let seen = self.task.lane.ledger().received;
            let reading = self.task.lane.can_take() && !connection.is_backed_up();
            let settled = talk.is_settled();
            match &mut talk.last {
                Some(quiet) if reading && settled => {
                    if !quiet.is_over(at, seen, &self.task.lane, connection) {
                        return None;
                    }
                }
                last => {
                    *last = Some(Quiet::since(at, seen));
                    return None;
                }
            }
        }
        let is_311 = talk.granted.version == Version::V311;
        self.leaving = match self.leaving {
            Leaving::Reading if is_311 => Leaving::Overwriting,
            _ => Leaving::Left,
        };
        Some(Goodbye::End)
    }
}

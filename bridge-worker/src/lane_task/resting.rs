//! A lane without connection.

use std::time::{Duration, Instant};

use millrace_contract::status::LaneState;
use tokio::time::sleep_until;

use super::{Command, Leaving, Runner};

/// Nothing is waited for that time alone would bring.
const LONG: Duration = Duration::from_secs(3600);

impl Runner {
    /// Waits without a connection until there is to be one, after `wait` at the earliest, while reports of earlier
    /// connections are taken. False: the lane is to end.
    pub(super) async fn rest(&mut self, wait: Duration) -> bool {
        let mut until = Instant::now() + wait;
        loop {
            self.take_orders(None);
            let now = self.take_reports();
            self.publish(now);
            let mut next = now + LONG;
            match self.command {
                Command::Abort => return false,
                Command::Drain => {
                    if self.drained() {
                        return false;
                    }
                    next = self.drain_until.unwrap_or(next);
                }
                Command::Hold => self.task.report.state(LaneState::Down),
                Command::Release => {
                    self.part();
                    // Another worker has the session now: nothing that comes later can be told from a repeat.
                    self.task.lane.taken_over();
                    self.task.report.state(LaneState::Down);
                    // Told to read it again, it has nobody to wait for.
                    self.attempts.begin_anew();
                    until = now;
                }
                Command::Leave if self.leaving == Leaving::Left => self.task.report.state(LaneState::Left),
                Command::Run if self.has_nothing_to_read() => {
                    self.part();
                    self.task.report.state(LaneState::Idle);
                }
                Command::Run | Command::Leave if now >= until => {
                    self.part();
                    return true;
                }
                Command::Run | Command::Leave => next = until,
            }
            if let Some(retry) = self.next_retry(now) {
                next = next.min(retry);
            }
            let index = self.index();
            tokio::select! {
                () = self.task.mailboxes[index].arrived() => {}
                _ = self.task.orders.changed() => {}
                () = sleep_until(next.max(now + Duration::from_millis(1)).into()) => {}
            }
        }
    }

    /// What was not acknowledged before the lane's own goodbye comes again.
    fn part(&mut self) {
        if std::mem::take(&mut self.has_parted) {
            self.task.lane.connection_lost();
            self.task.lane.go_on();
            self.told_stop = false;
            self.drain_until = None;
        }
    }
}

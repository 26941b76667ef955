//! What follows from the end of a connection that the lane did not want.

use std::time::Duration;

use super::Runner;
use crate::mqtt::{After, Ended};

impl Runner {
    /// What follows from the end of a connection: how long to wait before the next.
    pub(super) fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
        self.serve_reports(false);
        self.task.lane.connection_lost();
        match self.attempts.ended(ended, lasted, self.live.failover) {
            After::TakenOver(wait) => {
                self.task.lane.taken_over();
                let client_id = &self.task.plan.session.client_id;
                self.task.report.taken_over(client_id, wait);
                wait
            }
            After::Failed(wait) => {
                self.task.report.failed(ended.reason(), &ended.to_string());
                wait
            }
        }
    }
}

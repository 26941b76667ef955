//! What follows from the end of a connection that the lane did not want.

use std::time::Duration;

use super::Runner;
use crate::backoff::Backoff;
use crate::mqtt::{Ended, Version};

/// A connection closed so soon after CONNACK counts towards a takeover: MQTT 3.1.1 brokers do not say it.
const SUSPICIOUSLY_SHORT: Duration = Duration::from_secs(5);
/// Session taken over [MQTT-3.14.2.1].
const SESSION_TAKEN_OVER: u8 = 0x8E;

impl Runner {
    /// What follows from the end of a connection: how long to wait before the next.
    pub(super) fn after(&mut self, ended: &Ended, lasted: Duration) -> Duration {
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
            return self.taken_over();
        }
        self.task.report.failed(ended.reason(), &ended.to_string());
        if lasted >= SUSPICIOUSLY_SHORT {
            self.takeovers = 0;
            self.backoff.reset();
        }
        self.backoff.next()
    }

    fn taken_over(&mut self) -> Duration {
        self.short_connections = 0;
        self.task.lane.taken_over();
        let least = self.live.failover * 2_u32.saturating_pow(self.takeovers.min(6));
        // Never earlier: the other client has that long to be told that the lane is not its own.
        let wait = least + Backoff::jitter(least) / 4;
        self.takeovers += 1;
        self.task
            .report
            .taken_over(&self.task.plan.session.client_id, wait);
        wait
    }
}

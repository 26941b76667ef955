//! A worker in this process.

use bridge_worker::{RouteSnapshot, Worker};
use millrace_contract::status::{LaneStatus, Reason, RouteStatus};
use millrace_contract::{Document, Ledger};
use millrace_testkit::wait_until;

use super::DEADLINE;

/// A worker in this process. When it is dropped its ledger must balance; if the test is panicking, its status is
/// printed.
pub(crate) struct Running {
    worker: Worker,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(document: Document) -> Self {
        Self {
            worker: Worker::start(document).expect("a route that can run"),
        }
    }

    pub(crate) fn snapshot(&self) -> RouteSnapshot {
        self.worker.snapshot()
    }

    pub(crate) fn status(&self) -> RouteStatus {
        self.snapshot().status
    }

    /// At this moment: it may be a turn of the lane behind what has left on a connection.
    pub(crate) fn ledger(&self) -> Ledger {
        self.status().ledger
    }

    /// When so many messages have been received and none is in flight any more.
    #[track_caller]
    pub(crate) fn settled(&self, received: u64) -> Ledger {
        self.wait_for(&format!("{received} messages to be settled"), |status| {
            status.ledger.received == received && status.ledger.in_flight == 0
        });
        self.ledger()
    }

    /// The first lane; most tests have no other.
    pub(crate) fn lane(&self) -> LaneStatus {
        self.status().lanes.remove(0)
    }

    /// The message of the problem with this reason, if there is one now.
    pub(crate) fn problem(&self, reason: Reason) -> Option<String> {
        let mut problems = self.status().problems.into_iter();
        problems
            .find(|problem| problem.reason == reason)
            .map(|problem| problem.message)
    }

    /// Waits for a problem and returns its message.
    #[track_caller]
    pub(crate) fn wait_for_problem(&self, reason: Reason) -> String {
        let mut message = None;
        wait_until(DEADLINE, &format!("the problem {reason:?}"), || {
            message = self.problem(reason);
            message.is_some()
        });
        message.expect("it has been waited for")
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, what: &str, mut condition: impl FnMut(&RouteStatus) -> bool) {
        wait_until(DEADLINE, what, || condition(&self.status()));
    }

    /// Waits until so many messages have been received.
    #[track_caller]
    pub(crate) fn wait_received(&self, count: u64) {
        self.wait_for(&format!("{count} messages received"), |status| {
            status.ledger.received == count
        });
    }

    /// Waits until so many records have been confirmed by Kafka.
    #[track_caller]
    pub(crate) fn wait_written(&self, count: u64) {
        self.wait_for(&format!("{count} records written"), |status| {
            status.ledger.written == count
        });
    }

    pub(crate) fn stop(&self) {
        self.worker.stop();
    }

    /// Waits until every thread has ended.
    #[track_caller]
    pub(crate) fn wait_ended(&self) {
        wait_until(DEADLINE, "the worker to end", || self.worker.ended());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let status = self.status();
        if std::thread::panicking() {
            eprintln!("{status:#?}");
        } else {
            assert_eq!(status.ledger.balance(), 0, "{:?}", status.ledger);
        }
    }
}

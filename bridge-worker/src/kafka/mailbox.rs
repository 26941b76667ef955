use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::record::Report;

/// The reports that wait for a lane.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    reports: Mutex<Vec<Report>>,
    arrived: Notify,
}

impl Mailbox {
    /// Adds a report, and wakes the lane if it is the first.
    pub(super) fn put(&self, report: Report) {
        let first = {
            let mut reports = self.lock();
            reports.push(report);
            reports.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
    }

    /// Swaps what has arrived into `into`, which must be empty: the two buffers change places, none is allocated.
    pub(crate) fn take(&self, into: &mut Vec<Report>) {
        std::mem::swap(&mut *self.lock(), into);
    }

    /// Reports that wait.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Waits until something may have arrived.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Wakes the lane without a report.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_gives_reports_in_the_order_they_came() {
        let mailbox = Mailbox::default();
        for sequence in 0..3 {
            mailbox.put(Report {
                sequence,
                result: Ok(()),
            });
        }
        let mut taken = Vec::new();
        mailbox.take(&mut taken);
        assert_eq!(
            taken.iter().map(|report| report.sequence).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}

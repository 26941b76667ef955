//! Messages per second, over the last few.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use millrace_contract::Ledger;

/// Rates are taken over so much time.
const WINDOW: Duration = Duration::from_secs(5);

/// Messages per second, over the last few.
#[derive(Debug, Default)]
pub(crate) struct Rates(VecDeque<(Instant, Ledger)>);

impl Rates {
    /// Messages per second received and written until now, where the ledger is this.
    pub(crate) fn at(&mut self, now: Instant, ledger: Ledger) -> (f64, f64) {
        while self.0.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.0.pop_front();
        }
        if self
            .0
            .back()
            .is_none_or(|(at, _)| now - *at >= Duration::from_millis(100))
        {
            self.0.push_back((now, ledger));
        }
        let Some((since, before)) = self.0.front() else {
            return (0.0, 0.0);
        };
        let seconds = (now - *since).as_secs_f64();
        if seconds < 0.1 {
            return (0.0, 0.0);
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (
            rate(ledger.received, before.received),
            rate(ledger.written, before.written),
        )
    }
}

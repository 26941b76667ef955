//! When messages are due. Pure: the caller brings the time.

use std::time::{Duration, Instant};

/// The most that is made up for, in seconds' worth of messages.
const CATCH_UP: f64 = 0.25;

/// How many messages are due at a steady rate.
pub(crate) struct Schedule {
    /// Messages per second.
    rate: f64,
    /// When the first message would have been due, had nothing ever been late.
    start: Option<Instant>,
}

impl Schedule {
    /// Begins with the first look at it.
    pub(crate) fn new(rate: f64) -> Schedule {
        Schedule { rate, start: None }
    }

    /// How many messages are due, when `begun` have been begun.
    pub(crate) fn due(&mut self, begun: u64, now: Instant) -> u64 {
        let start = *self.start.get_or_insert(now);
        let behind = now.duration_since(start).as_secs_f64() * self.rate - begun as f64;
        let most = (CATCH_UP * self.rate).max(1.0);
        if behind > most {
            self.start = start.checked_add(Duration::from_secs_f64((behind - most) / self.rate));
        }
        behind.clamp(0.0, most) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_however_often_it_is_looked_at() {
        let (mut schedule, start) = (Schedule::new(1_000.0), Instant::now());
        let mut begun = 0;
        for step in 0..=3_000 {
            begun += schedule.due(begun, start + step * Duration::from_millis(1) / 3 * 2);
        }
        assert!((1_999..=2_000).contains(&begun), "{begun}");
    }

    #[test]
    fn an_outage_is_made_up_for_by_a_quarter_of_a_second() {
        let (mut schedule, start) = (Schedule::new(1_000.0), Instant::now());
        assert_eq!(schedule.due(0, start), 0);
        let back = start + Duration::from_secs(20);
        assert_eq!(schedule.due(0, back), 250);
        let later = schedule.due(250, back + Duration::from_millis(100));
        assert!((99..=100).contains(&later), "{later}");
    }

    #[test]
    fn less_than_a_message_a_second_is_a_rate_too() {
        let (mut schedule, start) = (Schedule::new(0.5), Instant::now());
        assert_eq!(schedule.due(0, start), 0);
        assert_eq!(schedule.due(0, start + Duration::from_millis(2_001)), 1);
    }
}

//! When how many messages are due.

use std::time::Duration;

/// How often a paced sender wakes: small against the latencies that are measured, large against the cost of waking.
pub const TICK: Duration = Duration::from_micros(500);

/// Hands out messages at a steady rate. Pure: the caller brings the clock.
#[derive(Debug)]
pub struct Pacer {
    per_second: u64,
    taken: u64,
}

impl Pacer {
    /// A pacer of `per_second` messages, from now on.
    pub fn new(per_second: u64) -> Self {
        Self { per_second, taken: 0 }
    }

    /// How many messages are due `elapsed` after the start and have not been [taken](Self::take).
    pub fn due(&self, elapsed: Duration) -> u64 {
        let all = u128::from(self.per_second) * elapsed.as_micros() / 1_000_000;
        u64::try_from(all).unwrap_or(u64::MAX).saturating_sub(self.taken)
    }

    /// Notes that `count` messages have been sent.
    pub fn take(&mut self, count: u64) {
        self.taken += count;
    }

    /// How long to sleep, `elapsed` after the start, until the next [`TICK`].
    pub fn until_next_tick(elapsed: Duration) -> Duration {
        let tick = TICK.as_nanos();
        Duration::from_nanos(u64::try_from(tick - elapsed.as_nanos() % tick).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hands_out_the_rate_and_catches_up_after_a_pause() {
        let mut pacer = Pacer::new(20_000);
        assert_eq!(pacer.due(Duration::from_micros(500)), 10);
        pacer.take(10);
        assert_eq!(pacer.due(Duration::from_micros(500)), 0);
        assert_eq!(pacer.due(Duration::from_secs(1)), 19_990);
        pacer.take(19_990);
        assert_eq!(pacer.due(Duration::from_secs(1)), 0);
    }

    #[test]
    fn sleeps_to_the_next_tick() {
        assert_eq!(
            Pacer::until_next_tick(Duration::from_micros(700)),
            Duration::from_micros(300)
        );
        assert_eq!(Pacer::until_next_tick(Duration::from_micros(500)), TICK);
    }
}

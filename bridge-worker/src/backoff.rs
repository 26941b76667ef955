use std::time::Duration;

use crate::random;

const FIRST: Duration = Duration::from_millis(100);
/// Short: a broker that is back should see its lanes within seconds.
const LONGEST: Duration = Duration::from_secs(3);

/// How long to wait before the next attempt: doubling, bounded, with jitter so that lanes do not come in step.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::between(FIRST, LONGEST)
    }
}

impl Backoff {
    /// With these waits.
    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            attempts: 0,
        }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.attempts))
            .min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        Self::jitter(wait)
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Between nothing and all of `within`: what happens to many at one moment is spread over it evenly.
    pub(crate) fn spread(within: Duration) -> Duration {
        within.mul_f64((random::number() % 1024) as f64 / 1024.0)
    }

    /// Between half of `wait` and all of it.
    pub(crate) fn jitter(wait: Duration) -> Duration {
        wait.mul_f64(0.5 + (random::number() % 1024) as f64 / 2048.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_bound_and_start_again_after_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..40).map(|_| backoff.next()).collect();
        assert!(waits[0] <= FIRST && waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[39] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn what_is_spread_is_spread_over_all_of_the_time() {
        let within = Duration::from_secs(1);
        let waits: Vec<Duration> = (0..10_000).map(|_| Backoff::spread(within)).collect();
        for tenth in 0..10 {
            let (from, until) = (within * tenth / 10, within * (tenth + 1) / 10);
            let count = waits.iter().filter(|wait| (from..until).contains(*wait)).count();
            assert!(
                (850..1_150).contains(&count),
                "{count} within {from:?}..{until:?}"
            );
        }
    }
}

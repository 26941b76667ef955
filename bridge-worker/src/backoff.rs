use std::time::Duration;

use crate::random;

const FIRST: Duration = Duration::from_millis(100);
/// Short: a broker that is back should see its lanes within seconds.
const LONGEST: Duration = Duration::from_secs(3);

/// How long to wait before the next attempt: doubling, bounded, with jitter so that lanes do not come in step.
#[derive(Clone, Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = FIRST
            .saturating_mul(2_u32.saturating_pow(self.attempts))
            .min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        Self::jitter(wait)
    }

    /// An attempt has succeeded.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
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
}

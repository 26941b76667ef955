//! Waiting for a condition, with a deadline instead of a sleep.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds and returns how long that took.
///
/// # Panics
/// When it does not hold after `deadline`: the message names `what` was waited for.
///
/// ```
/// use millrace_testkit::wait_until;
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// wait_until(Duration::from_secs(1), "20 ms to pass", || start.elapsed() > Duration::from_millis(20));
/// ```
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    match holds_within(deadline, &mut condition) {
        Some(waited) => waited,
        None => panic!("waited {deadline:?} in vain for {what}"),
    }
}

/// Like [`wait_until`], but leaves the failure to the caller.
pub(crate) fn holds_within(deadline: Duration, mut condition: impl FnMut() -> bool) -> Option<Duration> {
    let start = Instant::now();
    loop {
        if condition() {
            return Some(start.elapsed());
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(POLL);
    }
}

/// Microseconds since the Unix epoch: the clock of [`crate::Stamp`] and [`crate::Seen`].
pub fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_panics_with_its_name() {
        let waiting = std::panic::catch_unwind(|| {
            wait_until(Duration::from_millis(10), "the impossible", || false);
        });
        let message = *waiting.unwrap_err().downcast::<String>().unwrap();
        assert!(message.contains("the impossible"), "{message}");
    }
}

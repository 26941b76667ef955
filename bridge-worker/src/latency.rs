//! How long messages took, as a histogram that one thread owns and that others get as a copy.

use millrace_contract::status::Latency;

/// Upper bounds of the buckets, in microseconds, inclusive (Prometheus' `le`). Dense from 1 to 100 ms, where a
/// bridge that keeps up lives; the last bucket takes everything slower than a minute.
pub const BOUNDS: [u64; 22] = [
    250,
    500,
    1_000,
    1_500,
    2_500,
    4_000,
    6_500,
    10_000,
    15_000,
    25_000,
    40_000,
    65_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    u64::MAX,
];

/// For each power of two, the first bucket that a duration of that size can fall into.
const FIRST: [u8; 64] = first_buckets();

/// No power of two to the next holds more bounds than this, so an index is found by as many comparisons.
const BOUNDS_PER_OCTAVE: usize = 2;

/// Durations in microseconds, counted in fixed buckets. Recording costs a few nanoseconds and no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one duration of `us` microseconds.
    #[inline]
    pub fn record(&mut self, us: u64) {
        self.record_n(us, 1);
    }

    /// Counts `n` durations of `us` microseconds each: a batch that arrived and was confirmed together.
    #[inline]
    pub fn record_n(&mut self, us: u64, n: u64) {
        if n == 0 {
            return;
        }
        self.buckets[bucket_of(us)] += n;
        self.count += n;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(n));
        self.max_us = self.max_us.max(us);
    }

    /// Adds the durations of another histogram, as if they had been recorded here.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The duration in microseconds that the fraction `q` (0 to 1) of all durations did not exceed, as far as
    /// the buckets tell: inside a bucket durations are taken as evenly spread. 0 when nothing was recorded.
    pub fn quantile(&self, q: f64) -> u64 {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).max(f64::MIN_POSITIVE);
        let mut below = 0;
        let mut lower = 0;
        for (bound, n) in BOUNDS.into_iter().zip(self.buckets) {
            let upper = bound.min(self.max_us);
            if n > 0 && (below + n) as f64 >= rank {
                let inside = (rank - below as f64) / n as f64;
                return lower + ((upper.saturating_sub(lower)) as f64 * inside).round() as u64;
            }
            below += n;
            lower = upper;
        }
        self.max_us
    }

    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their sum in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us
    }

    /// The longest in microseconds, 0 when nothing was recorded.
    pub fn max_us(&self) -> u64 {
        self.max_us
    }

    /// Each bucket's inclusive upper bound in microseconds and its own count, not cumulated. The last bound is
    /// `u64::MAX`.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> {
        BOUNDS.into_iter().zip(self.buckets)
    }

    /// The figures that `/status` shows.
    pub fn to_contract(&self) -> Latency {
        Latency {
            p50_us: self.quantile(0.5),
            p99_us: self.quantile(0.99),
            max_us: self.max_us,
        }
    }
}

/// The bucket whose bound is the first that is not below `us`.
#[inline]
fn bucket_of(us: u64) -> usize {
    let octave = 63 - (us | 1).leading_zeros() as usize;
    let mut bucket = usize::from(FIRST[octave]);
    for _ in 0..BOUNDS_PER_OCTAVE {
        bucket += usize::from(us > BOUNDS[bucket]);
    }
    bucket
}

const fn first_buckets() -> [u8; 64] {
    let mut first = [0; 64];
    let mut octave = 0;
    while octave < 64 {
        let mut bucket = 0;
        while BOUNDS[bucket] < 1 << octave {
            bucket += 1;
        }
        first[octave] = bucket as u8;
        octave += 1;
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket_by_search(us: u64) -> usize {
        BOUNDS.iter().position(|bound| us <= *bound).unwrap()
    }

    #[test]
    fn every_duration_falls_into_the_bucket_that_a_search_finds() {
        let around = |us: u64| [us.saturating_sub(1), us, us.saturating_add(1)];
        let bounds = BOUNDS.into_iter().flat_map(around);
        let powers = (0..64).flat_map(|octave| around(1 << octave));
        for us in bounds.chain(powers).chain(0..20_000) {
            assert_eq!(bucket_of(us), bucket_by_search(us), "{us} us");
        }
    }

    #[test]
    fn merging_equals_recording_in_one() {
        let (mut left, mut right, mut one) = (Histogram::new(), Histogram::new(), Histogram::new());
        for us in (0..3_000).map(|i| i * i) {
            if us % 3 == 0 {
                left.record(us)
            } else {
                right.record_n(us, 2)
            };
            one.record_n(us, if us % 3 == 0 { 1 } else { 2 });
        }
        left.merge(&right);
        assert_eq!(left, one);
        assert_eq!(left.count(), left.buckets().map(|(_, n)| n).sum::<u64>());
    }

    #[test]
    fn quantiles_are_linear_inside_a_bucket() {
        let mut latency = Histogram::new();
        latency.record_n(2_000, 50);
        latency.record_n(3_000, 50);
        assert_eq!(
            latency.quantile(0.25),
            2_000,
            "half of the way from 1.5 to 2.5 ms"
        );
        assert_eq!(latency.quantile(0.5), 2_500);
        assert_eq!(latency.quantile(1.0), 3_000, "never above the longest");
    }

    #[test]
    fn quantiles_ascend_and_stay_within_a_bucket_of_the_truth() {
        let mut latency = Histogram::new();
        let durations: Vec<u64> = (1..=10_000).map(|i| i * 17).collect();
        durations.iter().for_each(|us| latency.record(*us));
        let mut last = 0;
        for percent in 0..=100 {
            let seen = latency.quantile(f64::from(percent) / 100.0);
            let truth = durations[((percent as usize * durations.len()) / 100).min(durations.len() - 1)];
            assert!(seen >= last, "quantiles never fall");
            assert!(
                bucket_of(seen).abs_diff(bucket_of(truth)) <= 1,
                "{percent} %: {seen} for {truth}"
            );
            last = seen;
        }
        assert_eq!(last, 170_000);
    }

    #[test]
    fn an_empty_histogram_says_zero() {
        assert_eq!(Histogram::new().to_contract(), Latency::default());
        assert_eq!(Histogram::new().quantile(1.0), 0);
    }

    #[test]
    fn durations_beyond_the_last_bound_are_kept() {
        let mut latency = Histogram::new();
        latency.record(90_000_000);
        assert_eq!(
            latency.quantile(0.99),
            89_700_000,
            "between the last bound and the longest"
        );
        latency.record_n(u64::MAX, 3);
        assert_eq!(
            (latency.count(), latency.max_us(), latency.sum_us()),
            (4, u64::MAX, u64::MAX)
        );
    }
}

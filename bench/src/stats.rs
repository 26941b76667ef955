//! Percentiles of one run and the spread of several.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A histogram of microseconds up to ten minutes, exact to 0.2 %.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constants that hdrhistogram takes")
}

/// What is told of a distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of the values are at most this.
    pub p50: u64,
    /// 99 % of the values are at most this.
    pub p99: u64,
    /// The largest value.
    pub max: u64,
    /// How many values there are.
    pub count: u64,
}

impl Percentiles {
    /// Of this histogram.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            max: histogram.max(),
            count: histogram.len(),
        }
    }
}

/// The spread of a figure over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number, the mean of the two in the middle.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    /// Of these values. `None`: there are none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        };
        Some(Self { min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_does_not_depend_on_order_and_ignores_one_outlier() {
        let spread = Spread::of(&[3.0, 1.0, 2.0, 900.0, 2.5]).unwrap();
        assert_eq!(
            spread,
            Spread {
                min: 1.0,
                median: 2.5,
                max: 900.0
            }
        );
        assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentiles_count_what_was_recorded() {
        let mut recorded = histogram();
        for value in 1..=1000 {
            recorded.record(value).unwrap();
        }
        assert_eq!(
            Percentiles::of(&recorded),
            Percentiles {
                p50: 500,
                p99: 990,
                max: 1000,
                count: 1000
            }
        );
        assert_eq!(Percentiles::of(&histogram()).count, 0);
    }
}

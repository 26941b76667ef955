//! What one run of one bridge gave.

use millrace_contract::status::Latency;
use millrace_testkit::Usage;
use serde::{Deserialize, Serialize};

use crate::stats::Percentiles;

/// Which bridge was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// `bridge-worker`.
    Worker,
    /// What it is compared with: the straightforward bridge, where a case names nothing else.
    Contender,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    /// Whose run it was.
    pub subject: Subject,
    /// Messages acknowledged (or seen in Kafka, with the real brokers) in the interval.
    pub messages: u64,
    /// Length of the interval, in seconds.
    pub seconds: f64,
    /// CPU time of the bridge in the interval, in seconds.
    pub cpu_seconds: f64,
    /// Resident memory at the end, in MiB.
    pub resident_mib: f64,
    /// The most resident memory until the end, in MiB.
    pub peak_mib: f64,
    /// Latencies of the interval, in microseconds.
    pub latency_us: Percentiles,
    /// Acks that did not follow the one before.
    pub out_of_order: u64,
    /// Messages acknowledged per read that the synthetic broker made: how well acks are coalesced.
    pub acks_per_read: Option<f64>,
    /// Seconds until messages flowed again after Kafka had come back.
    pub recovery_seconds: Option<f64>,
    /// What the worker says itself, since its start: from receipt to delivery report.
    pub reported_latency: Option<Latency>,
    /// What must not happen and did; such a run of the worker fails the benchmark.
    pub violations: Vec<String>,
}

/// A figure that is taken from a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Metric {
    /// CPU time of all threads per message, in microseconds.
    CpuMicros,
    /// Messages per second.
    PerSecond,
    /// Resident memory at the end, in MiB.
    ResidentMib,
    /// The most resident memory, in MiB.
    PeakMib,
    /// Half of the messages took at most this, in milliseconds.
    P50Millis,
    /// 99 % of the messages took at most this, in milliseconds.
    P99Millis,
    /// From Kafka's return until messages flow, in seconds.
    RecoverySeconds,
}

impl Metric {
    /// Its name in the table, with the unit.
    pub fn label(self) -> &'static str {
        match self {
            Self::CpuMicros => "CPU us/message",
            Self::PerSecond => "messages/s",
            Self::ResidentMib => "resident MiB",
            Self::PeakMib => "peak resident MiB",
            Self::P50Millis => "p50 ms",
            Self::P99Millis => "p99 ms",
            Self::RecoverySeconds => "recovery s",
        }
    }

    /// Digits after the point in the table.
    pub fn digits(self) -> usize {
        match self {
            Self::PerSecond => 0,
            Self::ResidentMib | Self::PeakMib => 1,
            Self::CpuMicros | Self::P50Millis | Self::P99Millis | Self::RecoverySeconds => 2,
        }
    }

    /// Its value in a run. `None`: the run has none (no message came through).
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let value = match self {
            Self::CpuMicros => sample.cpu_seconds * 1e6 / sample.messages as f64,
            Self::PerSecond => sample.messages as f64 / sample.seconds,
            Self::ResidentMib => sample.resident_mib,
            Self::PeakMib => sample.peak_mib,
            Self::RecoverySeconds => sample.recovery_seconds.unwrap_or(f64::NAN),
            Self::P50Millis | Self::P99Millis if sample.latency_us.count == 0 => f64::NAN,
            Self::P50Millis => sample.latency_us.p50 as f64 / 1000.0,
            Self::P99Millis => sample.latency_us.p99 as f64 / 1000.0,
        };
        value.is_finite().then_some(value)
    }

    /// How many times what `theirs` costs `ours` does.
    pub fn cost(self, ours: f64, theirs: f64) -> f64 {
        1.0 / self.ratio(ours, theirs)
    }

    /// How many times better `ours` is than `theirs`.
    pub fn ratio(self, ours: f64, theirs: f64) -> f64 {
        if self == Self::PerSecond {
            ours / theirs
        } else {
            theirs / ours
        }
    }
}

impl Sample {
    /// A run with the bridge's usage at both ends of its interval; everything else is to be filled in.
    pub fn new(subject: Subject, messages: u64, seconds: f64, before: Usage, after: Usage) -> Self {
        const MIB: f64 = 1024.0 * 1024.0;
        Self {
            subject,
            messages,
            seconds,
            cpu_seconds: (after.cpu_micros - before.cpu_micros) as f64 / 1e6,
            resident_mib: after.rss_bytes as f64 / MIB,
            peak_mib: after.peak_rss_bytes as f64 / MIB,
            latency_us: Percentiles::default(),
            out_of_order: 0,
            acks_per_read: None,
            recovery_seconds: None,
            reported_latency: None,
            violations: Vec::new(),
        }
    }

    /// Notes as a violation if the messages were fewer than `rate` per second, where that is what was sent.
    pub fn expect_rate(&mut self, rate: Option<u64>) {
        let Some(rate) = rate.filter(|rate| *rate > 0) else {
            return;
        };
        let reached = self.messages as f64 / self.seconds;
        if reached < 0.98 * rate as f64 {
            self.violations
                .push(format!("only {reached:.0} of {rate} messages/s came through"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        let before = Usage {
            cpu_micros: 500_000,
            rss_bytes: 0,
            peak_rss_bytes: 0,
        };
        let after = Usage {
            cpu_micros: 2_000_000,
            rss_bytes: 10 << 20,
            peak_rss_bytes: 12 << 20,
        };
        let latency_us = Percentiles {
            p50: 900,
            p99: 1500,
            max: 2000,
            count: 10,
        };
        Sample {
            latency_us,
            ..Sample::new(Subject::Worker, 2_000_000, 2.0, before, after)
        }
    }

    #[test]
    fn figures_follow_from_the_counters() {
        assert_eq!(Metric::CpuMicros.of(&sample()), Some(0.75));
        assert_eq!(Metric::PerSecond.of(&sample()), Some(1e6));
        assert_eq!(Metric::P99Millis.of(&sample()), Some(1.5));
    }

    #[test]
    fn a_run_without_messages_has_no_cost_per_message() {
        let idle = Sample {
            messages: 0,
            latency_us: Percentiles::default(),
            ..sample()
        };
        assert_eq!(Metric::CpuMicros.of(&idle), None);
        assert_eq!(Metric::P50Millis.of(&idle), None);
        assert_eq!(Metric::ResidentMib.of(&idle), Some(10.0));
    }

    #[test]
    fn a_rate_that_is_not_reached_is_a_violation() {
        let mut sample = sample();
        for fine in [None, Some(0), Some(1_000_000)] {
            sample.expect_rate(fine);
        }
        assert!(sample.violations.is_empty());
        sample.expect_rate(Some(1_100_000));
        assert_eq!(
            sample.violations,
            ["only 1000000 of 1100000 messages/s came through"]
        );
    }

    #[test]
    fn a_cost_above_one_is_against_the_first() {
        assert_eq!(Metric::CpuMicros.cost(8.0, 4.0), 2.0);
        assert_eq!(Metric::PerSecond.cost(4.0, 8.0), 2.0);
    }

    #[test]
    fn a_ratio_above_one_is_always_in_our_favour() {
        assert_eq!(Metric::CpuMicros.ratio(1.0, 8.0), 8.0);
        assert_eq!(Metric::PerSecond.ratio(8.0, 1.0), 8.0);
    }
}

//! The matrix: what is run, what is read from it, and what it must be.

use std::time::Duration;

use millrace_contract::Compression;
use serde::Serialize;

use super::sample::{Metric, Subject};

/// One line of the matrix.
#[derive(Clone, Debug)]
pub struct Case {
    /// What `--only` selects.
    pub name: &'static str,
    /// What the table says.
    pub about: &'static str,
    /// How it is run.
    pub plan: Plan,
    /// What is compared.
    pub columns: Columns,
    /// The figures taken from it.
    pub rows: Vec<Row>,
    /// Run once: it is long, and its figure is a maximum.
    pub once: bool,
}

/// What is compared with what, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Columns {
    /// What the runs as the worker are called.
    pub first: &'static str,
    /// What the runs as the contender are called.
    pub second: &'static str,
    /// What their ratio says.
    pub ratio: Ratio,
}

impl Columns {
    /// What the runs as this are called.
    pub fn name(self, subject: Subject) -> &'static str {
        match subject {
            Subject::Worker => self.first,
            Subject::Contender => self.second,
        }
    }

    /// Whether such runs are of `bridge-worker`: both are where its own cost is told.
    pub fn is_product(self, subject: Subject) -> bool {
        subject == Subject::Worker || self.ratio == Ratio::Cost
    }
}

/// What a ratio says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ratio {
    /// How many times better the first is.
    Better,
    /// How many times the second's the first's is.
    Cost,
}

/// The worker and the straightforward bridge.
pub const BRIDGES: Columns = Columns {
    first: "bridge-worker",
    second: "contender",
    ratio: Ratio::Better,
};

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// Synthetic broker and mock Kafka.
    Synthetic(Synthetic),
    /// Synthetic broker and mock Kafka, which goes down for this long.
    Outage {
        /// The load until then.
        load: Synthetic,
        /// How long Kafka is down.
        down: Duration,
    },
    /// mosquitto and Apache Kafka, saturated or at this many messages per second.
    Real {
        /// Messages per second. `None`: as many as go.
        rate: Option<u64>,
    },
    /// mosquitto and Apache Kafka with TLS at both ends, beside the same worker without.
    Tls {
        /// Messages per second.
        rate: u64,
    },
    /// The other way, from Apache Kafka, saturated.
    Delivery {
        /// To mosquitto, beside a publisher that has nothing else to do; else to the synthetic broker.
        real: bool,
    },
}

impl Plan {
    /// Whether it runs with Apache Kafka.
    pub fn needs_kafka(&self) -> bool {
        matches!(self, Self::Real { .. } | Self::Tls { .. } | Self::Delivery { .. })
    }

    /// Whether there is something to compare the worker with.
    pub fn has_contender(&self) -> bool {
        !matches!(self, Self::Delivery { real: false })
    }
}

/// What the synthetic broker sends and how the producer batches.
#[derive(Clone, Copy, Debug)]
pub struct Synthetic {
    /// 1 or 2.
    pub qos: u8,
    /// Bytes of a payload.
    pub size: usize,
    /// Messages per second. `None`: as many as the window allows; 0: none.
    pub rate: Option<u64>,
    /// The producer's linger, in milliseconds.
    pub linger_ms: u64,
    /// How batches are compressed.
    pub compression: Compression,
    /// Keep so many messages outstanding, whatever the client's Receive Maximum says.
    pub overrun: Option<u16>,
}

/// A figure and what it must be.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The figure.
    pub metric: Metric,
    /// What its median must be.
    pub bound: Bound,
    /// What the median ratio must be.
    pub ratio: Bound,
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Bound {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Anything: it is shown beside the others.
    Shown,
}

impl Bound {
    /// Whether `value` is as it must be.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtMost(limit) => value <= limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Shown => true,
        }
    }
}

/// How many times less CPU than the contender a saturated worker must use.
const CPU_RATIO: f64 = 7.0;

/// How many times the CPU without TLS a worker may use that has it at both ends.
const TLS_COST: f64 = 1.6;

/// How much of what a publisher alone reaches a worker must reach that reads Kafka as well.
const DELIVERY_RATIO: f64 = 0.8;

/// The whole matrix. `quick` shortens the outage from 60 to 15 s.
pub fn all(quick: bool) -> Vec<Case> {
    let mut cases = vec![
        // First, so that a machine without mosquitto or Java says so at once.
        Case {
            name: "real",
            about: "mosquitto to Apache Kafka, 100 B, saturated",
            plan: Plan::Real { rate: None },
            columns: BRIDGES,
            rows: vec![
                row(Metric::PerSecond, Bound::AtLeast(35_000.0)),
                row(Metric::CpuMicros, Bound::AtMost(7.0)),
                row(Metric::PeakMib, Bound::Shown),
            ],
            once: false,
        },
        Case {
            name: "real-steady",
            about: "mosquitto to Apache Kafka to a consumer, 100 B, 10,000/s",
            plan: Plan::Real { rate: Some(10_000) },
            columns: BRIDGES,
            rows: vec![
                row(Metric::P50Millis, Bound::AtMost(8.0)),
                row(Metric::P99Millis, Bound::AtMost(30.0)),
                row(Metric::CpuMicros, Bound::Shown),
            ],
            once: false,
        },
        Case {
            name: "tls",
            about: "mosquitto to Apache Kafka to a consumer, 100 B, 10,000/s",
            plan: Plan::Tls { rate: 10_000 },
            columns: Columns {
                first: "TLS at both ends",
                second: "without TLS",
                ratio: Ratio::Cost,
            },
            rows: vec![
                Row {
                    metric: Metric::CpuMicros,
                    bound: Bound::Shown,
                    ratio: Bound::AtMost(TLS_COST),
                },
                row(Metric::P99Millis, Bound::Shown),
            ],
            once: false,
        },
        Case {
            name: "deliver",
            about: "Apache Kafka to the synthetic broker, 100 B, QoS 1, saturated",
            plan: Plan::Delivery { real: false },
            columns: BRIDGES,
            rows: vec![
                row(Metric::CpuMicros, Bound::AtMost(2.5)),
                row(Metric::PerSecond, Bound::AtLeast(300_000.0)),
                row(Metric::PeakMib, Bound::AtMost(64.0)),
            ],
            once: false,
        },
        Case {
            name: "deliver-real",
            about: "Apache Kafka to mosquitto, 100 B, QoS 1, saturated",
            plan: Plan::Delivery { real: true },
            columns: Columns {
                second: "publisher alone",
                ..BRIDGES
            },
            rows: vec![Row {
                metric: Metric::PerSecond,
                bound: Bound::Shown,
                ratio: Bound::AtLeast(DELIVERY_RATIO),
            }],
            once: false,
        },
        saturated("100b", "100 B, saturated", plain(100), Some((1.0, 850_000.0))),
        saturated("1k", "1 KiB, saturated", plain(1024), Some((1.6, 640_000.0))),
        saturated("100b-lz4", "100 B, saturated, LZ4", lz4(100), None),
        saturated("1k-lz4", "1 KiB, saturated, LZ4", lz4(1024), None),
        saturated(
            "100b-qos2",
            "100 B, saturated, QoS 2",
            Synthetic { qos: 2, ..plain(100) },
            None,
        ),
        latency("linger5", "100 B, 30,000/s, linger 5 ms", 30_000, 5, 6.5),
        latency("linger1", "100 B, 20,000/s, linger 1 ms", 20_000, 1, 2.5),
        latency("linger0", "100 B, 20,000/s, linger 0", 20_000, 0, 1.5),
        Case {
            name: "idle",
            about: "connected, no messages",
            plan: Plan::Synthetic(Synthetic {
                rate: Some(0),
                ..plain(100)
            }),
            columns: BRIDGES,
            rows: vec![row(Metric::ResidentMib, Bound::AtMost(12.0))],
            once: false,
        },
    ];
    let down = Duration::from_secs(if quick { 15 } else { 60 });
    for (name, about, overrun) in [
        ("outage", "1 KiB, Kafka away", None),
        (
            "outage-overrun",
            "1 KiB, Kafka away, broker ignores the receive maximum",
            Some(u16::MAX),
        ),
    ] {
        cases.push(Case {
            name,
            about,
            plan: Plan::Outage {
                load: Synthetic {
                    overrun,
                    ..plain(1024)
                },
                down,
            },
            columns: BRIDGES,
            rows: vec![
                row(Metric::PeakMib, Bound::AtMost(128.0)),
                row(Metric::RecoverySeconds, Bound::Shown),
            ],
            once: true,
        });
    }
    cases
}

fn row(metric: Metric, bound: Bound) -> Row {
    Row {
        metric,
        bound,
        ratio: Bound::Shown,
    }
}

fn plain(size: usize) -> Synthetic {
    Synthetic {
        qos: 1,
        size,
        rate: None,
        linger_ms: 5,
        compression: Compression::None,
        overrun: None,
    }
}

fn lz4(size: usize) -> Synthetic {
    Synthetic {
        compression: Compression::Lz4,
        ..plain(size)
    }
}

fn saturated(name: &'static str, about: &'static str, load: Synthetic, targets: Option<(f64, f64)>) -> Case {
    let (cpu, rate, memory, ratio) = match targets {
        Some((cpu, rate)) => (
            Bound::AtMost(cpu),
            Bound::AtLeast(rate),
            Bound::AtMost(32.0),
            Bound::AtLeast(CPU_RATIO),
        ),
        None => (Bound::Shown, Bound::Shown, Bound::Shown, Bound::Shown),
    };
    Case {
        name,
        about,
        plan: Plan::Synthetic(load),
        columns: BRIDGES,
        rows: vec![
            Row {
                metric: Metric::CpuMicros,
                bound: cpu,
                ratio,
            },
            row(Metric::PerSecond, rate),
            row(Metric::PeakMib, memory),
            row(Metric::P99Millis, Bound::Shown),
        ],
        once: false,
    }
}

fn latency(name: &'static str, about: &'static str, rate: u64, linger_ms: u64, p99: f64) -> Case {
    Case {
        name,
        about,
        plan: Plan::Synthetic(Synthetic {
            rate: Some(rate),
            linger_ms,
            ..plain(100)
        }),
        columns: BRIDGES,
        rows: vec![
            row(Metric::P50Millis, Bound::Shown),
            row(Metric::P99Millis, Bound::AtMost(p99)),
            row(Metric::CpuMicros, Bound::Shown),
        ],
        once: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_case_has_a_figure() {
        let cases = all(false);
        let mut names: Vec<_> = cases.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len());
        assert!(cases.iter().all(|case| !case.rows.is_empty()));
    }

    #[test]
    fn a_limit_itself_is_good_enough() {
        assert!(Bound::AtMost(1.0).holds(1.0) && !Bound::AtMost(1.0).holds(1.01));
        assert!(Bound::AtLeast(1.0).holds(1.0) && !Bound::AtLeast(1.0).holds(0.99));
    }
}

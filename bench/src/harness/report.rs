//! From samples to verdicts, the table and `results.json`.

use serde::Serialize;

use super::cases::{Bound, Case, Columns, Ratio, Row};
use super::sample::{Metric, Sample, Subject};
use crate::stats::Spread;
use crate::table;

/// A case with its runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The case.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// What is compared.
    pub columns: Columns,
    /// Its figures.
    pub figures: Vec<Figure>,
    /// What must not happen and did, in runs of the product.
    pub violations: Vec<String>,
    /// All runs, in order.
    pub samples: Vec<Sample>,
}

/// One figure over all runs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Which.
    pub metric: Metric,
    /// What the worker's median must be.
    pub bound: Bound,
    /// What the median ratio must be.
    pub ratio_bound: Bound,
    /// The worker's. `None`: no run gave it.
    pub worker: Option<Spread>,
    /// The contender's.
    pub contender: Option<Spread>,
    /// Of worker and contender, run by run.
    pub ratio: Option<Spread>,
    /// Whether all that is asked for holds.
    pub holds: bool,
}

impl Outcome {
    /// Judges the runs of a case.
    pub fn new(case: &Case, samples: Vec<Sample>) -> Self {
        let figures = case.rows.iter();
        let figures = figures
            .map(|row| figure(row, case.columns.ratio, &samples))
            .collect();
        let violations = samples
            .iter()
            .filter(|sample| case.columns.is_product(sample.subject))
            .flat_map(|sample| sample.violations.iter().cloned())
            .collect();
        Self {
            name: case.name,
            about: case.about,
            columns: case.columns,
            figures,
            violations,
            samples,
        }
    }

    /// Whether all that is asked for holds.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.figures.iter().all(|figure| figure.holds)
    }
}

fn figure(row: &Row, says: Ratio, samples: &[Sample]) -> Figure {
    let values = |subject| -> Vec<f64> {
        samples
            .iter()
            .filter(|s| s.subject == subject)
            .filter_map(|s| row.metric.of(s))
            .collect()
    };
    let (ours, theirs) = (values(Subject::Worker), values(Subject::Contender));
    let ratios: Vec<f64> = ours
        .iter()
        .zip(&theirs)
        .map(|(our, their)| match says {
            Ratio::Better => row.metric.ratio(*our, *their),
            Ratio::Cost => row.metric.cost(*our, *their),
        })
        .collect();
    let (worker, ratio) = (Spread::of(&ours), Spread::of(&ratios));
    let in_bound = worker.is_some_and(|spread| row.bound.holds(spread.median));
    let is_asked = row.ratio != Bound::Shown;
    let far_enough = !is_asked || ratio.is_some_and(|spread| row.ratio.holds(spread.median));
    Figure {
        metric: row.metric,
        bound: row.bound,
        ratio_bound: row.ratio,
        worker,
        contender: Spread::of(&theirs),
        ratio,
        holds: in_bound && far_enough,
    }
}

/// A table of the outcomes for each kind of comparison, with the violations below.
pub fn render(outcomes: &[Outcome]) -> String {
    let tables = outcomes.chunk_by(|one, other| one.columns == other.columns);
    let tables: Vec<String> = tables.map(table_of).collect();
    let mut text = tables.join("\n");
    for outcome in outcomes {
        for violation in &outcome.violations {
            text.push_str(&format!("\n{}: {violation}", outcome.name));
        }
    }
    text
}

/// Of outcomes that compare the same.
fn table_of(outcomes: &[Outcome]) -> String {
    let Some(columns) = outcomes.first().map(|outcome| outcome.columns) else {
        return String::new();
    };
    let heads = [
        "case",
        "figure",
        "target",
        columns.first,
        "min..max",
        columns.second,
        "min..max",
        match columns.ratio {
            Ratio::Better => "times better",
            Ratio::Cost => "ratio",
        },
        "ok",
    ];
    let mut rows = Vec::new();
    for outcome in outcomes {
        for (index, figure) in outcome.figures.iter().enumerate() {
            rows.push(cells(if index == 0 { outcome.about } else { "" }, figure));
        }
    }
    table::render(&heads, &rows)
}

fn cells(about: &str, figure: &Figure) -> Vec<String> {
    let digits = figure.metric.digits();
    let number = |value: f64| format!("{value:.digits$}");
    let bound = match figure.bound {
        Bound::AtMost(limit) => Some(format!("<= {}", number(limit))),
        Bound::AtLeast(limit) => Some(format!(">= {}", number(limit))),
        Bound::Shown => None,
    };
    let ratio_bound = match figure.ratio_bound {
        Bound::AtMost(limit) => Some(format!("<= {limit}x")),
        Bound::AtLeast(limit) => Some(format!(">= {limit}x")),
        Bound::Shown => None,
    };
    let targets: Vec<String> = bound.into_iter().chain(ratio_bound).collect();
    let (target, asked) = (targets.join(", "), !targets.is_empty());
    let spread = |spread: Option<Spread>| match spread {
        Some(s) => [number(s.median), format!("{}..{}", number(s.min), number(s.max))],
        None => [String::from("-"), String::new()],
    };
    let ([ours, our_range], [theirs, their_range]) = (spread(figure.worker), spread(figure.contender));
    let ratio = figure
        .ratio
        .map_or_else(String::new, |s| format!("{:.2}x", s.median));
    let verdict = match (asked, figure.holds) {
        (false, _) => "",
        (true, true) => "yes",
        (true, false) => "NO",
    };
    let label = figure.metric.label().to_owned();
    vec![
        about.to_owned(),
        label,
        target,
        ours,
        our_range,
        theirs,
        their_range,
        ratio,
        verdict.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use millrace_testkit::Usage;

    use super::*;
    use crate::harness::cases;
    use crate::stats::Percentiles;

    fn sample(subject: Subject, cpu_seconds: f64) -> Sample {
        let before = Usage {
            cpu_micros: 0,
            rss_bytes: 0,
            peak_rss_bytes: 0,
        };
        let after = Usage {
            cpu_micros: (cpu_seconds * 1e6) as u64,
            rss_bytes: 20 << 20,
            peak_rss_bytes: 20 << 20,
        };
        Sample {
            latency_us: Percentiles {
                p50: 1,
                p99: 2,
                max: 3,
                count: 4,
            },
            ..Sample::new(subject, 1_000_000, 1.0, before, after)
        }
    }

    fn saturated() -> Case {
        cases::all(true)
            .into_iter()
            .find(|case| case.name == "100b")
            .unwrap()
    }

    fn outcome(ours: f64, theirs: f64, violations: &[&str]) -> Outcome {
        let mut worker = sample(Subject::Worker, ours);
        worker.violations = violations.iter().map(ToString::to_string).collect();
        Outcome::new(&saturated(), vec![worker, sample(Subject::Contender, theirs)])
    }

    #[test]
    fn a_target_or_a_ratio_that_is_missed_fails() {
        assert!(outcome(1.0, 7.0, &[]).holds());
        assert!(!outcome(1.1, 9.0, &[]).holds(), "too slow");
        assert!(
            !outcome(0.9, 6.0, &[]).holds(),
            "not much better than the contender"
        );
    }

    #[test]
    fn a_violation_fails_whatever_the_speed() {
        let failed = outcome(0.1, 7.0, &["1 acks out of order"]);
        assert!(!failed.holds());
        assert!(render(&[failed]).ends_with("100b: 1 acks out of order"));
    }

    #[test]
    fn what_tls_costs_is_said_as_that_and_bounded() {
        let tls = || {
            cases::all(true)
                .into_iter()
                .find(|case| case.name == "tls")
                .unwrap()
        };
        let cost = |with, without| {
            let samples = vec![sample(Subject::Worker, with), sample(Subject::Contender, without)];
            Outcome::new(&tls(), samples)
        };
        assert!(cost(8.0, 5.0).holds());
        assert!(!cost(8.1, 5.0).holds());
        let text = render(&[cost(7.5, 5.0)]);
        for said in ["TLS at both ends", "without TLS", "<= 1.6x", "1.50x"] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("contender"), "{text}");
    }

    #[test]
    fn no_sample_is_no_success() {
        assert!(!Outcome::new(&saturated(), Vec::new()).holds());
    }
}

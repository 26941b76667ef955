//! What `/metrics` says of the operator. `docs/metrics.md` lists it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Pass {
    controller: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    verb: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    code: u16,
}

/// What is counted. Cheap to clone: all clones count together.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    passes: Family<Pass, Counter>,
    durations: Family<Controller, Histogram>,
    active: Family<Controller, Gauge>,
    calls: Family<Call, Counter>,
    leading: Gauge,
    metrics_api_requests: Family<Answer, Counter>,
    metrics_api_published: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        let passes = Family::default();
        registry.register(
            "millrace_operator_reconciles",
            "Passes over an object, by outcome: ok, rejected, error, panic, abandoned",
            passes.clone(),
        );
        let durations = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register_with_unit(
            "millrace_operator_reconcile_duration",
            "How long a pass took",
            Unit::Seconds,
            durations.clone(),
        );
        let active = Family::default();
        registry.register(
            "millrace_operator_reconciling",
            "Objects that are being passed over now",
            active.clone(),
        );
        let calls = Family::default();
        registry.register(
            "millrace_operator_api_calls",
            "Calls to the API server but watches, by verb and result: ok or the kind of error",
            calls.clone(),
        );
        let leading = Gauge::default();
        registry.register(
            "millrace_operator_leading",
            "1 in the process that acts",
            leading.clone(),
        );
        let metrics_api_requests = Family::default();
        registry.register(
            "millrace_operator_metrics_api_requests",
            "Requests to the metrics API, by HTTP status",
            metrics_api_requests.clone(),
        );
        let metrics_api_published = Gauge::default();
        registry.register(
            "millrace_operator_metrics_api_published",
            "1 while the API server passes requests for custom.metrics.k8s.io on to this process",
            metrics_api_published.clone(),
        );
        Self {
            registry: Arc::new(Mutex::new(registry)),
            passes,
            durations,
            active,
            calls,
            leading,
            metrics_api_requests,
            metrics_api_published,
        }
    }
}

impl Metrics {
    /// A pass begins; the guard ends it.
    pub(crate) fn pass(&self, controller: &'static str) -> PassGuard {
        self.active.get_or_create(&Controller { controller }).inc();
        PassGuard {
            metrics: self.clone(),
            controller,
            since: std::time::Instant::now(),
            outcome: "abandoned",
        }
    }

    pub(crate) fn api_call(&self, verb: &'static str, error: Option<&'static str>) {
        let result = error.unwrap_or("ok");
        self.calls.get_or_create(&Call { verb, result }).inc();
    }

    pub(crate) fn leading(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    pub(crate) fn metrics_api_request(&self, code: u16) {
        self.metrics_api_requests.get_or_create(&Answer { code }).inc();
    }

    pub(crate) fn published(&self, is_published: bool) {
        self.metrics_api_published.set(i64::from(is_published));
    }

    /// The page says this as well from now on.
    pub(crate) fn add(&self, collector: Box<dyn Collector>) {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(collector);
    }

    /// The page as Prometheus reads it.
    pub fn page(&self) -> String {
        let mut page = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String does not fail.
        text::encode(&mut page, &registry).ok();
        page
    }

    /// Calls to the API server that write, so far, but for the Lease's.
    #[doc(hidden)]
    pub fn writes(&self) -> u64 {
        let verbs = [
            "patch",
            "patch_status",
            "create",
            "update",
            "delete",
            "create_event",
        ];
        verbs
            .iter()
            .map(|verb| self.calls.get_or_create(&Call { verb, result: "ok" }).get())
            .sum()
    }
}

fn durations() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0])
}

/// A pass that is under way.
pub(crate) struct PassGuard {
    metrics: Metrics,
    controller: &'static str,
    since: std::time::Instant,
    outcome: &'static str,
}

impl PassGuard {
    /// How it ended; `abandoned` if it never did.
    pub(crate) fn outcome(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for PassGuard {
    fn drop(&mut self) {
        let (controller, outcome) = (self.controller, self.outcome);
        let took: Duration = self.since.elapsed();
        self.metrics
            .passes
            .get_or_create(&Pass { controller, outcome })
            .inc();
        self.metrics
            .durations
            .get_or_create(&Controller { controller })
            .observe(took.as_secs_f64());
        self.metrics
            .active
            .get_or_create(&Controller { controller })
            .dec();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::flow::{Flows, Sight};

    #[test]
    fn every_metric_is_documented() {
        let metrics = Metrics::default();
        metrics.add(Box::new(Flows(Sight::default())));
        metrics.pass("routes").outcome("ok");
        metrics.api_call("patch", None);
        metrics.leading(true);
        metrics.metrics_api_request(200);
        let page = metrics.page();
        let about = |keyword: &str| -> Vec<(String, String)> {
            let lines = page
                .lines()
                .filter_map(|line| line.strip_prefix("# ")?.strip_prefix(keyword));
            let words = lines.filter_map(|line| line.trim().split_once(' '));
            words
                .map(|(name, rest)| (name.to_owned(), rest.to_owned()))
                .collect()
        };
        let reported = about("HELP").into_iter().zip(about("TYPE"));
        let reported: BTreeSet<[String; 3]> = reported
            .map(|((name, help), (_, kind))| {
                let suffix = if kind == "counter" { "_total" } else { "" };
                [
                    format!("{name}{suffix}"),
                    kind,
                    help.trim_end_matches('.').to_owned(),
                ]
            })
            .collect();
        let docs = std::fs::read_to_string("../docs/metrics.md").expect("docs/metrics.md");
        let table = docs
            .split("The operator serves")
            .nth(1)
            .expect("the operator's table");
        let rows = table.lines().take_while(|line| !line.starts_with("## "));
        let documented: BTreeSet<[String; 3]> = rows
            .filter_map(|line| line.strip_prefix("| `"))
            .map(|row| {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                [
                    cells[0].trim_end_matches('`').into(),
                    cells[1].into(),
                    cells[4].into(),
                ]
            })
            .collect();
        assert_eq!(reported, documented);
    }
}

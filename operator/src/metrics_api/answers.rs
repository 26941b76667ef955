//! What is answered, as `custom.metrics.k8s.io/v1beta2` has it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::flow::Flow;

/// The group that is served.
pub(super) const GROUP: &str = "custom.metrics.k8s.io";
/// Its version.
pub(super) const VERSION: &str = "v1beta2";
/// What the metrics are of, as the group names it.
pub(super) const RESOURCE: &str = "topicroutes.millrace.dev";

/// A metric of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    /// The sum of its workers' loads.
    Load,
    /// Messages per second.
    Rate,
}

impl Metric {
    const ALL: [Self; 2] = [Self::Load, Self::Rate];

    /// Its name, which is that of the same metric for Prometheus.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Load => "millrace_route_load",
            Self::Rate => "millrace_route_rate",
        }
    }

    /// The metric of a name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|metric| metric.name() == name)
    }

    fn of(self, flow: &Flow) -> f64 {
        match self {
            Self::Load => flow.load,
            Self::Rate => flow.rate,
        }
    }
}

/// Which metrics there are, an APIResourceList.
pub(super) fn discovery() -> Value {
    let resources = Metric::ALL.map(|metric| {
        json!({
            "name": format!("{RESOURCE}/{}", metric.name()),
            "singularName": "",
            "namespaced": true,
            "kind": "MetricValueList",
            "verbs": ["get"],
        })
    });
    json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": format!("{GROUP}/{VERSION}"),
        "resources": resources,
    })
}

/// The metric of some routes, a MetricValueList. A HorizontalPodAutoscaler takes one with a single item.
pub(super) fn values(metric: Metric, flows: &[Flow], now: Timestamp) -> Value {
    let timestamp = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let items = flows.iter().map(|flow| {
        json!({
            "describedObject": {
                "kind": "TopicRoute",
                "apiVersion": "millrace.dev/v1alpha1",
                "namespace": flow.namespace,
                "name": flow.name,
            },
            "metric": {"name": metric.name()},
            "timestamp": timestamp,
            "value": quantity(metric.of(flow)),
        })
    });
    json!({
        "kind": "MetricValueList",
        "apiVersion": format!("{GROUP}/{VERSION}"),
        "metadata": {},
        "items": items.collect::<Vec<_>>(),
    })
}

/// A Status that says why there is no answer.
pub(super) fn refusal(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    })
}

/// A Kubernetes quantity, in thousandths.
fn quantity(value: f64) -> String {
    // Loads and rates are measured: neither negative nor without bound.
    format!("{}m", (value * 1e3).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_reads_as_an_autoscaler_expects() {
        let flow = Flow {
            namespace: "plants".into(),
            name: "sensors".into(),
            load: 1.4004,
            rate: 3000.0,
        };
        let flows = [flow];
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        assert_eq!(
            values(Metric::Load, &flows, now),
            json!({
                "kind": "MetricValueList",
                "apiVersion": "custom.metrics.k8s.io/v1beta2",
                "metadata": {},
                "items": [{
                    "describedObject": {
                        "kind": "TopicRoute", "apiVersion": "millrace.dev/v1alpha1",
                        "namespace": "plants", "name": "sensors",
                    },
                    "metric": {"name": "millrace_route_load"},
                    "timestamp": "2026-01-02T03:04:05Z",
                    "value": "1400m",
                }],
            })
        );
        assert_eq!(values(Metric::Rate, &flows, now)["items"][0]["value"], "3000000m");
        assert_eq!(Metric::named("millrace_route_load"), Some(Metric::Load));
        assert_eq!(Metric::named("load"), None);
    }
}

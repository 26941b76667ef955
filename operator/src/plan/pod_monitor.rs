use serde_json::json;
use serde_json::value::to_raw_value;

use super::Desired;
use super::meta::Family;
use crate::names;
use crate::observed::ChildKind;

/// Has the Prometheus operator scrape the workers.
pub(super) fn monitor(family: &Family) -> Desired {
    let meta = family.child(names::workers(&family.owner.name), names::component::WORKER);
    Desired {
        kind: ChildKind::PodMonitor,
        namespace: family.owner.namespace.clone(),
        name: names::workers(&family.owner.name),
        body: to_raw_value(&json!({
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": "PodMonitor",
            "metadata": meta,
            "spec": {
                "selector": family.selector(names::component::WORKER),
                "podMetricsEndpoints": [{"port": "admin", "path": "/metrics"}],
            },
        }))
        .unwrap_or_default(),
    }
}

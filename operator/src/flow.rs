//! What flows through each route, as its workers say: what an autoscaler acts by.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::names;
use crate::observed::{Family, Observed, Owner, Workers};
use crate::plan;

/// What flows through a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow {
    /// The namespace of the route.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The sum of its workers' loads: 1 is what one worker can do.
    pub load: f64,
    /// Messages per second received from MQTT.
    pub rate: f64,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct Labels {
    namespace: String,
    route: String,
}

/// What has been seen in one scope. All clones see the same.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// What has been seen of children.
    pub observed: Arc<Observed>,
    /// What workers have said.
    pub workers: Arc<Workers>,
}

impl Sight {
    /// What flows through a route; none while not all of its workers have said it, or it has none.
    pub fn flow(&self, namespace: &str, name: &str) -> Option<Flow> {
        let owner = Owner {
            kind: names::kind::ROUTE,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        self.observed
            .look(&owner, |family| flow(&owner, family, &self.workers))?
    }

    /// Of all routes of which every worker that runs has answered: with a part of them missing, a sum would have
    /// an autoscaler remove workers.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = Vec::new();
        self.observed.visit(|owner, family| {
            if owner.kind == names::kind::ROUTE {
                flows.extend(flow(owner, family, &self.workers));
            }
        });
        flows
    }
}

/// Of a route. None while that of a worker is not known, or there is none.
fn flow(owner: &Owner, family: &Family, workers: &Workers) -> Option<Flow> {
    let mut sum = None;
    for (child, _) in plan::workers(family).filter(|(_, pod)| pod.ready && !pod.deleting) {
        let (its_load, its_rate) = workers.flow(&child.uid)?;
        let (load, rate) = sum.unwrap_or_default();
        sum = Some((load + its_load, rate + its_rate));
    }
    let (load, rate) = sum?;
    Some(Flow {
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        load,
        rate,
    })
}

/// The same for Prometheus.
#[derive(Debug)]
pub(crate) struct Flows(pub(crate) Sight);

impl Collector for Flows {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let flows = self.0.flows();
        let mut gauge = |name, help, value: fn(&Flow) -> f64| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for flow in &flows {
                let labels = Labels {
                    namespace: flow.namespace.clone(),
                    route: flow.name.clone(),
                };
                ConstGauge::new(value(flow)).encode(family.encode_family(&labels)?)?;
            }
            Ok(())
        };
        gauge(
            "millrace_route_load",
            "The sum of the loads of the route's workers: 1 is what one worker can do",
            |flow| flow.load,
        )?;
        gauge(
            "millrace_route_rate",
            "Messages per second that the route's workers receive from MQTT",
            |flow| flow.rate,
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use k8s_openapi::api::core::v1::Pod;
    use millrace_contract::status::RouteStatus;
    use serde_json::{from_value, json};

    use super::*;
    use crate::observed::{self, ChildKind};

    fn pod(observed: &Observed, number: u32) {
        let pod: Pod = from_value(json!({
            "metadata": {
                "name": format!("sensors-worker-{number}"), "namespace": "plants", "uid": number.to_string(),
                "resourceVersion": "1",
                "labels": {
                    names::OWNER_KIND: names::kind::ROUTE, names::INSTANCE: "sensors",
                    names::COMPONENT: names::component::WORKER,
                },
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap();
        observed.apply(ChildKind::Pod, &pod.metadata, observed::pod(&pod));
    }

    #[test]
    fn a_route_has_a_load_when_all_its_workers_have_said_theirs() {
        let sight = Sight::default();
        let (observed, workers) = (&sight.observed, &sight.workers);
        assert_eq!(sight.flows(), []);
        pod(observed, 0);
        pod(observed, 1);
        let says = |uid: &str, load| {
            let status = RouteStatus {
                load,
                received_per_second: 100.0,
                ..RouteStatus::default()
            };
            workers.answered(uid, Ok(status), Instant::now());
        };
        says("0", 0.5);
        assert_eq!(sight.flows(), [], "half of it would be too little");
        assert_eq!(sight.flow("plants", "sensors"), None);
        says("1", 0.25);
        let flow = Flow {
            namespace: "plants".into(),
            name: "sensors".into(),
            load: 0.75,
            rate: 200.0,
        };
        assert_eq!(sight.flow("plants", "sensors"), Some(flow.clone()));
        assert_eq!(sight.flow("plants", "others"), None);
        assert_eq!(sight.flows(), [flow]);
        let mut page = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register_collector(Box::new(Flows(sight)));
        prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
        let line = r#"millrace_route_load{namespace="plants",route="sensors"} 0.75"#;
        assert!(page.lines().any(|one| one == line), "{page}");
    }
}

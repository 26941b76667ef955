//! Where pods of a route may run.

use k8s_openapi::api::core::v1::{PodSpec, Toleration};
use millrace_crds::TopicRoute;
use millrace_crds::api::{TaintEffect, TolerationOperator};

/// Puts a pod where the workers of its route may run: a probe that ran elsewhere would find other networks, or no node
/// at all.
pub(super) fn place(spec: &mut PodSpec, route: &TopicRoute) {
    let pod = &route.spec.worker.pod_template.spec;
    spec.node_selector = (!pod.node_selector.is_empty()).then(|| pod.node_selector.clone());
    spec.tolerations = (!pod.tolerations.is_empty()).then(|| tolerations(route));
}

fn tolerations(route: &TopicRoute) -> Vec<Toleration> {
    let written = route
        .spec
        .worker
        .pod_template
        .spec
        .tolerations
        .iter()
        .map(|one| Toleration {
            key: one.key.clone(),
            operator: one.operator.map(|operator| match operator {
                TolerationOperator::Equal => "Equal".into(),
                TolerationOperator::Exists => "Exists".into(),
            }),
            value: one.value.clone(),
            effect: one.effect.map(|effect| match effect {
                TaintEffect::NoSchedule => "NoSchedule".into(),
                TaintEffect::PreferNoSchedule => "PreferNoSchedule".into(),
                TaintEffect::NoExecute => "NoExecute".into(),
            }),
            toleration_seconds: one.toleration_seconds,
        });
    written.collect()
}

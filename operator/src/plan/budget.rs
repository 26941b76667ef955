use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Desired;
use super::meta::Family;
use crate::names;
use crate::observed::ChildKind;

/// One worker at a time is taken from its node on purpose. Workers that are not ready anyway never hold up the
/// draining of a node: during an outage of a broker that would be all of them.
pub(super) fn budget(family: &Family) -> Desired {
    let budget = PodDisruptionBudget {
        metadata: family.child(names::workers(&family.owner.name), names::component::WORKER),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(1)),
            selector: Some(family.selector(names::component::WORKER)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    };
    Desired::of(ChildKind::PodDisruptionBudget, &budget)
}

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Desired;
use super::meta::Family;
use crate::names;
use crate::observed::ChildKind;

/// Workers are reached on their admin port only, and reach what `egress` says: everything, if it says nothing.
pub(super) fn policy(family: &Family, egress: &[NetworkPolicyEgressRule]) -> Desired {
    let mut types = vec!["Ingress".to_owned()];
    if !egress.is_empty() {
        types.push("Egress".to_owned());
    }
    let policy = NetworkPolicy {
        metadata: family.child(names::workers(&family.owner.name), names::component::WORKER),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(family.selector(names::component::WORKER)),
            policy_types: Some(types),
            ingress: Some(vec![NetworkPolicyIngressRule {
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(names::ADMIN_PORT)),
                    protocol: Some("TCP".into()),
                    end_port: None,
                }]),
                from: None,
            }]),
            egress: (!egress.is_empty()).then(|| egress.to_vec()),
        }),
    };
    Desired::of(ChildKind::NetworkPolicy, &policy)
}

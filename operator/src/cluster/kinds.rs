use kube::core::{ApiResource, GroupVersionKind};

use crate::observed::ChildKind;

/// How the API server calls a kind.
pub(super) fn resource(kind: ChildKind) -> ApiResource {
    let (group, version, plural) = match kind {
        ChildKind::StatefulSet => ("apps", "v1", "statefulsets"),
        ChildKind::Pod => ("", "v1", "pods"),
        ChildKind::Job => ("batch", "v1", "jobs"),
        ChildKind::ConfigMap => ("", "v1", "configmaps"),
        ChildKind::Service => ("", "v1", "services"),
        ChildKind::ServiceAccount => ("", "v1", "serviceaccounts"),
        ChildKind::PodDisruptionBudget => ("policy", "v1", "poddisruptionbudgets"),
        ChildKind::NetworkPolicy => ("networking.k8s.io", "v1", "networkpolicies"),
        ChildKind::PodMonitor => ("monitoring.coreos.com", "v1", "podmonitors"),
    };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, name(kind)), plural)
}

/// A kind's name.
pub(super) fn name(kind: ChildKind) -> &'static str {
    match kind {
        ChildKind::StatefulSet => "StatefulSet",
        ChildKind::Pod => "Pod",
        ChildKind::Job => "Job",
        ChildKind::ConfigMap => "ConfigMap",
        ChildKind::Service => "Service",
        ChildKind::ServiceAccount => "ServiceAccount",
        ChildKind::PodDisruptionBudget => "PodDisruptionBudget",
        ChildKind::NetworkPolicy => "NetworkPolicy",
        ChildKind::PodMonitor => "PodMonitor",
    }
}

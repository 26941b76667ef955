use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Desired;
use super::meta::Family;
use crate::names;
use crate::observed::ChildKind;

/// Gives the StatefulSet's pods their names; nobody connects through it.
pub(super) fn service(family: &Family) -> Desired {
    let service = Service {
        metadata: family.child(names::workers(&family.owner.name), names::component::WORKER),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".into()),
            selector: Some(family.selector_labels(names::component::WORKER)),
            ports: Some(vec![ServicePort {
                name: Some("admin".into()),
                port: names::ADMIN_PORT,
                target_port: Some(IntOrString::String("admin".into())),
                protocol: Some("TCP".into()),
                ..ServicePort::default()
            }]),
            publish_not_ready_addresses: Some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    Desired::of(ChildKind::Service, &service)
}

/// An account without a token: workers do not talk to Kubernetes.
pub(super) fn account(family: &Family) -> Desired {
    let account = ServiceAccount {
        metadata: family.child(names::workers(&family.owner.name), names::component::WORKER),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    Desired::of(ChildKind::ServiceAccount, &account)
}

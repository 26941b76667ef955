//! What people type: the definitions are applied as they are, and explain themselves.

use std::time::Duration;

use millrace_testkit::wait_until;

use crate::real::{Cluster, User, kubectl};

const DEFINITIONS: &str = "../crds";
const NAMES: [&str; 3] = ["kafkasinks", "mqttbrokers", "topicroutes"];

const FIELDS: [&str; 3] = [
    "topicroute.spec.from.mqtt.subscriptions",
    "kafkasink.spec.topics",
    "mqttbroker.spec.urls",
];

/// The API server tells of the fields of new definitions within this time.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_definitions_are_applied_by_kubectl_and_every_kind_is_explained() {
    let cluster = Cluster::start().await;
    let kubeconfig = cluster.kubeconfig(User::Admin);
    let told = tokio::task::spawn_blocking(move || {
        let kubectl = |arguments: &[&str]| kubectl(&kubeconfig, arguments);
        let outcome = |outcome: &str| {
            let line = |name: &&str| {
                format!("customresourcedefinition.apiextensions.k8s.io/{name}.millrace.dev {outcome}\n")
            };
            Ok(NAMES.iter().map(line).collect::<String>())
        };
        // The cluster has been given them already, in another way.
        kubectl(&["delete", "--wait", "-f", DEFINITIONS])?;
        assert_eq!(kubectl(&["apply", "-f", DEFINITIONS]), outcome("created"));
        kubectl(&["wait", "--for=condition=Established", "crd", "--all"])?;
        assert_eq!(kubectl(&["apply", "-f", DEFINITIONS]), outcome("unchanged"));
        FIELDS
            .map(|field| {
                let mut told = Err(String::new());
                wait_until(PATIENCE, &format!("{field} to be explained"), || {
                    told = kubectl(&["explain", field]);
                    told.is_ok()
                });
                told.map(|told| (field, told))
            })
            .into_iter()
            .collect::<Result<Vec<_>, String>>()
    });
    for (field, told) in told.await.expect("no panic").expect("kubectl") {
        let (_, description) = told.split_once("DESCRIPTION:").expect("a description");
        assert!(!description.contains("<empty>"), "{field}: {told}");
    }
}

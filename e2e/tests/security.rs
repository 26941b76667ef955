//! What nobody is to be able to do, or to see.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_e2e::{Brokers, Manifests, Namespace, RouteHandle, kubectl, try_kubectl};

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_operator_can_read_no_secret() {
    let account = kubectl(&[
        "get",
        "deployment",
        "-n",
        "millrace-system",
        "-l",
        "app.kubernetes.io/name=millrace",
        "-o",
        "jsonpath={.items[0].spec.template.spec.serviceAccountName}",
    ]);
    let user = format!("--as=system:serviceaccount:millrace-system:{account}");
    for verb in ["get", "list", "watch", "create", "patch"] {
        let answer =
            try_kubectl(&["auth", "can-i", verb, "secrets", "-A", &user]).unwrap_or_else(|answer| answer);
        assert!(!answer.contains("yes"), "{verb} secrets: {answer}");
    }
    // The check can see a permission.
    assert!(kubectl(&["auth", "can-i", "list", "topicroutes.millrace.dev", "-A", &user]).contains("yes"));
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn no_secret_value_is_anywhere_to_be_seen() {
    const CANARY: &str = "canary-5up3r-s3cr3t";
    let _brokers = Brokers::start();
    let namespace = Namespace::create("e2e-canary");
    let mut manifests = Manifests::new("canary");
    manifests.port = 1884;
    manifests.broker = "  auth: {basic: {secretRef: {name: login}, username: plant}}\n".into();
    namespace.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\nstringData: {{password: {CANARY}}}\n"
    ));
    namespace.apply(&manifests.yaml());
    let refused = RouteHandle::new(&namespace, "canary").wait_for(
        "ConfigurationApplied",
        "False",
        "BrokerRefused",
        millrace_e2e::SOON,
    );
    assert!(refused.message.contains("password"), "{}", refused.message);
    let seen = [
        namespace.kubectl(&[
            "get",
            "all,configmaps,events,mqttbrokers,kafkasinks,topicroutes",
            "-o",
            "yaml",
        ]),
        namespace.kubectl(&["describe", "pods"]),
        namespace.kubectl(&[
            "logs",
            "-l",
            "app.kubernetes.io/managed-by=millrace",
            "--tail=-1",
            "--prefix",
        ]),
        kubectl(&[
            "logs",
            "-n",
            "millrace-system",
            "-l",
            "app.kubernetes.io/name=millrace",
            "--tail=-1",
        ]),
    ];
    for text in seen {
        assert!(text.len() > 10, "there is something to look at");
        assert!(!text.contains(CANARY), "{text}");
    }
}

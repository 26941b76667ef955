//! What nobody is to be able to do, or to see.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use millrace_e2e::{
    Brokers, Confinement, Manifests, Namespace, Process, Release, RouteHandle, SOON, SYSTEM,
    all_that_is_seen, kill_worker, kubectl, login, try_kubectl, wait_restarted,
};
use millrace_testkit::{Publisher, wait_until};

/// A password that mosquitto knows, of a user of the same name as what it begins with.
const CANARY: &str = "canary-5up3r-s3cr3t";
/// All that can be logged, of libraries too.
const TRACE: &str = "trace\\,librdkafka=trace\\,rdkafka=trace\\,rumqttc=trace\\,mqtt5=trace\\,hyper=trace";

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn the_operator_can_read_no_secret() {
    let account = kubectl(&[
        "get",
        "deployment",
        "-n",
        SYSTEM,
        "-l",
        "app.kubernetes.io/name=millrace",
        "-o",
        "jsonpath={.items[0].spec.template.spec.serviceAccountName}",
    ]);
    let user = format!("--as=system:serviceaccount:{SYSTEM}:{account}");
    for verb in ["get", "list", "watch", "create", "patch"] {
        let answer =
            try_kubectl(&["auth", "can-i", verb, "secrets", "-A", &user]).unwrap_or_else(|answer| answer);
        assert!(!answer.contains("yes"), "{verb} secrets: {answer}");
    }
    // The check can see a permission.
    assert!(kubectl(&["auth", "can-i", "list", "topicroutes.millrace.dev", "-A", &user]).contains("yes"));
}

/// Pods of a component, as JSON.
fn pods(namespace: &str, component: &str) -> Vec<serde_json::Value> {
    let selector = format!("app.kubernetes.io/component={component}");
    let json = kubectl(&["get", "pods", "-n", namespace, "-l", &selector, "-o", "json"]);
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn has_token(pod: &serde_json::Value) -> bool {
    let spec = &pod["spec"];
    pod.to_string().contains("serviceAccountToken") || spec["automountServiceAccountToken"] != false
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn all_pods_run_where_only_restricted_ones_may_and_only_the_operator_has_a_token() {
    let _brokers = Brokers::start();
    let namespace = Namespace::create("e2e-restricted");
    for name in [SYSTEM, namespace.name()] {
        let refused = try_kubectl(&[
            "run",
            "root",
            "-n",
            name,
            "--image=any",
            "--privileged",
            "--dry-run=server",
        ]);
        let refused = refused.unwrap_err();
        assert!(refused.contains("PodSecurity"), "{refused}");
    }
    let operator = pods(SYSTEM, "operator");
    assert!(
        operator.iter().all(has_token) && !operator.is_empty(),
        "the check can see a token"
    );

    namespace.apply(&Manifests::new("restricted").yaml());
    let route = RouteHandle::new(&namespace, "restricted");
    route.wait_ready();
    // The kernel's word for it; e2e/tests/image.rs shows that another could be seen.
    let workers = route.pods().into_iter().map(|pod| (namespace.name(), pod));
    let operators = operator.iter().map(|pod| {
        let name = pod["metadata"]["name"].as_str().unwrap();
        (SYSTEM, format!("pod/{name}"))
    });
    for (namespace, pod) in workers.chain(operators) {
        let confinement = Process::of(namespace, &pod).confinement();
        let expected = Confinement {
            users: vec![65532; 4],
            capabilities: 0,
            no_new_privileges: true,
            writable_root: false,
        };
        assert_eq!(confinement, expected, "{pod}");
    }
    for component in ["worker", "probe"] {
        let pods = pods(namespace.name(), component);
        assert!(!pods.is_empty(), "there is a {component}");
        assert!(!pods.iter().any(has_token), "{pods:?}");
    }
    route.pause();
    namespace.kubectl(&["delete", "topicroute", "restricted", "--wait=false"]);
    let mut leaving = Vec::new();
    wait_until(SOON, "a Job that ends the sessions", || {
        leaving = pods(namespace.name(), "leave");
        !leaving.is_empty()
    });
    assert!(!leaving.iter().any(has_token), "{leaving:?}");
    wait_until(SOON, "the route to be gone", || route.get().is_none());
}

/// Where the canary was seen; Secrets have it in Base64.
fn sightings(seen: &[(String, String)]) -> Vec<&str> {
    let spellings = [CANARY, "Y2FuYXJ5LTV1cDNyLXMzY3Iz"];
    spellings
        .into_iter()
        .flat_map(|spelling| millrace_e2e::sightings(seen, spelling))
        .collect()
}

/// A pod that shows the canary in its arguments and its log.
fn indiscreet() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: indiscreet}}
spec:
  restartPolicy: Never
  nodeSelector: {{node-role.kubernetes.io/control-plane: \"\"}}
  tolerations: [{{key: node-role.kubernetes.io/control-plane, operator: Exists}}]
  securityContext: {{runAsNonRoot: true, runAsUser: 1883, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: mosquitto
    image: millrace.dev/e2e/mosquitto:2.0.11
    imagePullPolicy: Never
    command: [mosquitto_pub, --{CANARY}]
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
"
    )
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn no_secret_value_is_anywhere_to_be_seen() {
    let release = Release::to_be_changed();
    let (operator, workers) = (
        format!("log.filter={TRACE}"),
        format!("worker.log.filter={TRACE}"),
    );
    release.upgrade("millrace", &[&operator, &workers]);
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-canary");
    let mut manifests = Manifests::new("canary");
    manifests.port = 1884;
    manifests.broker = "  auth: {basic: {secretRef: {name: login}, username: canary}}\n".into();
    manifests.spec = "  replicas: 2\n  timeouts: {leave: 15s}\n".into();
    let route = RouteHandle::new(&namespace, "canary");
    let mut seen = Vec::new();

    // Refused at first, by a probe.
    namespace.apply(&login(&format!("{CANARY}-wrong")));
    namespace.apply(&manifests.yaml());
    let refused = route.wait_for("ConfigurationApplied", "False", "BrokerRefused", SOON);
    assert!(refused.message.contains("password"), "{}", refused.message);
    seen.extend(all_that_is_seen(namespace.name()));

    // In use, by a worker that is killed.
    namespace.apply(&login(CANARY));
    route.wait_ready();
    let publisher = Publisher::builder(brokers.mqtt())
        .messages(1_000)
        .topic_of(manifests.topic_of())
        .start();
    publisher.finish(SOON);
    let pods = route.pods();
    kill_worker(&namespace, &pods[0]);
    wait_restarted(&namespace, &pods[0]);
    route.wait_ready();

    // Refused by workers.
    namespace.apply(&login(&format!("{CANARY}-changed")));
    route.wait_for(
        "CredentialsApplied",
        "False",
        "CredentialsRefused",
        Duration::from_secs(180),
    );
    seen.extend(all_that_is_seen(namespace.name()));

    // And by a Job that would end the sessions.
    route.pause();
    namespace.kubectl(&["delete", "topicroute", "canary", "--wait=false"]);
    let leave = [
        "logs",
        "-n",
        namespace.name(),
        "-l",
        "app.kubernetes.io/component=leave",
        "--tail=-1",
    ];
    wait_until(SOON, "the Job to be refused", || {
        try_kubectl(&leave).is_ok_and(|log| log.contains("refused"))
    });
    seen.extend(all_that_is_seen(namespace.name()));
    wait_until(SOON, "the route to be gone", || route.get().is_none());
    seen.extend(all_that_is_seen(namespace.name()));
    seen.extend(all_that_is_seen(SYSTEM));

    assert_eq!(sightings(&seen), [""; 0]);
    let traced = |of: &str, what: &str| {
        let logs = seen
            .iter()
            .filter(|(place, _)| place.contains(of) && place.contains(" logs "));
        logs.filter(|(_, text)| text.contains("TRACE")).count() > 0 || panic!("{what} logs all there is")
    };
    assert!(traced("canary-worker", "a worker"));
    assert!(traced("--previous", "a worker that was killed"));
    assert!(traced("probe", "a probe"));
    assert!(traced("leave", "a Job"));
    assert!(traced(SYSTEM, "the operator"));

    // The search finds it where it is shown.
    namespace.apply(&indiscreet());
    wait_until(SOON, "the pod to end", || {
        namespace.kubectl(&["get", "pod", "indiscreet", "-o", "jsonpath={.status.phase}"]) == "Failed"
    });
    let found = all_that_is_seen(namespace.name());
    let found = sightings(&found);
    for command in ["get", "describe", "logs"] {
        let is_found = found
            .iter()
            .any(|place| place.contains(&format!("kubectl {command} ")));
        assert!(is_found, "{command}: {found:?}");
    }
}

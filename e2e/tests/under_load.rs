//! A constant load of 2,000 QoS 1 messages a second through a route in the cluster, while its pods, its nodes, its
//! operator and its brokers are ended, changed and started again. What was acknowledged is in Kafka, and the first
//! occurrences of each key are in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use millrace_e2e::{
    BROKERS, OperatorAway, Plant, SOON, SYSTEM, docker, kill_worker, kubectl, login, node_of, wait_restarted,
};
use millrace_testkit::wait_until;

/// A change that needs no other workers is in use by then.
const CHANGED: Duration = Duration::from_secs(5);
const RESTARTS: &str = ".status.containerStatuses[0].restartCount";

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn no_fault_of_pods_loses_a_message() {
    let plant = Plant::start("pods", |_| {});
    let pods = plant.route().pods();
    assert_eq!(pods.len(), 2);

    plant.namespace().kubectl(&["delete", &pods[0], "--wait=false"]);
    plant.wait_flow("a worker's pod was deleted");
    plant.route().wait_ready();

    kill_worker(plant.namespace(), &pods[1]);
    plant.wait_flow("a worker was killed");
    wait_restarted(plant.namespace(), &pods[1]);
    plant.route().wait_ready();

    kubectl(&[
        "delete",
        "pod",
        "-n",
        SYSTEM,
        "-l",
        "app.kubernetes.io/component=operator",
        "--wait=false",
    ]);
    plant.wait_flow("the operator was deleted");

    plant
        .namespace()
        .kubectl(&["rollout", "restart", "statefulset/pods-worker"]);
    plant
        .namespace()
        .kubectl(&["rollout", "status", "statefulset/pods-worker", "--timeout=120s"]);
    plant.wait_flow("all workers were replaced");
    plant.route().wait_ready();
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn no_fault_of_brokers_loses_a_message() {
    let plant = Plant::start("parts", |_| {});
    kubectl(&["delete", "pod", "-n", BROKERS, "kafka-0"]);
    kubectl(&[
        "rollout",
        "status",
        "-n",
        BROKERS,
        "statefulset/kafka",
        "--timeout=180s",
    ]);
    plant.wait_flow("Kafka was started again");
    // The broker saves what it has told the publisher when it is told to end.
    kubectl(&["delete", "pod", "-n", BROKERS, "mosquitto-0"]);
    kubectl(&[
        "rollout",
        "status",
        "-n",
        BROKERS,
        "statefulset/mosquitto",
        "--timeout=180s",
    ]);
    plant.wait_flow("mosquitto was started again");
    plant.route().wait_ready();
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn no_fault_of_nodes_loses_a_message() {
    let plant = Plant::start("nodes", |_| {});
    let pods = plant.route().pods();
    let node = node_of(plant.namespace(), &pods[0]);
    kubectl(&[
        "drain",
        &node,
        "--ignore-daemonsets",
        "--delete-emptydir-data",
        "--timeout=120s",
    ]);
    plant.wait_flow("a node was drained");
    kubectl(&["uncordon", &node]);
    plant.route().wait_ready();

    let node = node_of(plant.namespace(), &plant.route().pods()[0]);
    docker(&["stop", "-t", "1", &node]);
    eprintln!("{node} is stopped");
    // Nobody helps: the pods of the node are given up, others take their place.
    wait_until(Duration::from_secs(300), "all workers to run elsewhere", || {
        let pods = plant.namespace().kubectl(&[
            "get", "pods", "-l", "app.kubernetes.io/component=worker", "-o",
            "jsonpath={range .items[*]}{.spec.nodeName} {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}",
        ]);
        pods.lines().count() == 2
            && pods
                .lines()
                .filter_map(|line| line.split_once(' '))
                .all(|(at, ready)| ready == "True" && at != node)
    });
    plant.wait_flow("a node was stopped");
    docker(&["start", &node]);
    kubectl(&[
        "wait",
        "--for=condition=Ready",
        &format!("node/{node}"),
        "--timeout=180s",
    ]);
    plant.wait_flow("the node is back");
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn an_operator_that_is_away_for_a_minute_is_not_missed() {
    let plant = Plant::start("away", |_| {});
    let pods = plant.route().pods();
    let away = OperatorAway::start();
    let (since, start) = (plant.publisher().acknowledged(), Instant::now());

    let before = plant.uids();
    plant.namespace().kubectl(&["delete", &pods[0]]);
    wait_until(SOON, "another pod to be ready in its place", || {
        let ready = plant.of_workers(".status.conditions[?(@.type==\"Ready\")].status");
        plant.uids() != before && ready == ["True", "True"]
    });
    let told = ".metadata.annotations.millrace\\.dev/assignment";
    let told = plant
        .namespace()
        .kubectl(&["get", &pods[0], "-o", &format!("jsonpath={{{told}}}")]);
    assert_eq!(told, "", "nobody has told the new pod its lanes");
    let lanes: Vec<usize> = plant.statuses().iter().map(|status| status.lanes.len()).collect();
    assert_eq!(lanes, [2, 2]);
    plant.wait_flow("a worker's pod was deleted without an operator");

    plant.wait_load(since, Duration::from_secs(60));
    eprintln!("the operator is away for {:.0} s", start.elapsed().as_secs_f64());
    assert_eq!(plant.of_workers(RESTARTS), ["0", "0"]);
    let uids = plant.uids();
    drop(away);
    let mut changed = plant.manifests().clone();
    changed.filters.push("more/+key".into());
    plant.namespace().apply(&changed.yaml());
    plant.route().wait_applied(SOON);
    plant.route().wait_ready();
    plant.wait_flow("the operator is back");
    assert_eq!(plant.uids(), uids, "no worker was replaced");
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_changed_route_and_a_changed_secret_lose_nothing_and_restart_nothing() {
    let mut plant = Plant::start("changes", |manifests| {
        manifests.port = 1884;
        manifests.broker = "  auth: {basic: {secretRef: {name: login}}}\n".into();
    });
    let uids = plant.uids();

    let mut changed = plant.manifests().clone();
    changed.filters.push("more/+key".into());
    let since = Instant::now();
    plant.namespace().apply(&changed.yaml());
    plant.pass_one("changes/more/0");
    let first = since.elapsed();
    plant.route().wait_applied(SOON);
    let applied = since.elapsed();
    eprintln!(
        "a filter was added: its first message is in Kafka after {:.1} s, the status says so after {:.1} s",
        first.as_secs_f64(),
        applied.as_secs_f64()
    );
    assert!(first < CHANGED && applied < CHANGED, "{first:?}, {applied:?}");
    plant.wait_flow("a filter was added");

    let wrong = "no-such-password-4711";
    plant.namespace().apply(&login(wrong));
    let refused = plant.route().wait_for(
        "CredentialsApplied",
        "False",
        "CredentialsRefused",
        Duration::from_secs(180),
    );
    assert!(
        !refused.message.contains(wrong),
        "no password in {}",
        refused.message
    );
    plant.wait_flow("a wrong password was written");
    plant.namespace().apply(&login("millrace"));
    plant
        .route()
        .wait_for("CredentialsApplied", "True", "", Duration::from_secs(180));
    assert_eq!(plant.uids(), uids, "no worker was replaced");
    assert_eq!(plant.of_workers(RESTARTS), ["0", "0"]);
    plant.finish();
}

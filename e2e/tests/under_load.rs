//! A constant load of 2,000 QoS 1 messages a second through a route in the cluster, while its pods, its nodes, its
//! operator and its brokers are ended, changed and started again. What was acknowledged is in Kafka, and the first
//! occurrences of each key are in order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::Duration;

use millrace_e2e::{BROKERS, Brokers, Manifests, Namespace, RouteHandle, SOON, kubectl};
use millrace_testkit::{Observer, Publisher, check, wait_until};

const RATE: f64 = 2_000.0;

struct Plant {
    brokers: Brokers,
    namespace: Namespace,
    manifests: Manifests,
    publisher: Publisher,
    observer: Observer,
}

impl Plant {
    fn start(name: &str, change: impl FnOnce(&mut Manifests)) -> Self {
        let brokers = Brokers::start();
        let namespace = Namespace::create(&format!("e2e-{name}"));
        let mut manifests = Manifests::new(name);
        change(&mut manifests);
        namespace.apply(&secret("millrace"));
        namespace.apply(&manifests.yaml());
        RouteHandle::new(&namespace, name).wait_ready();
        let observer = Observer::start(&brokers.bootstrap(), &[&manifests.topic]);
        let publisher = Publisher::builder(brokers.mqtt_port())
            .qos(1)
            .keys(100)
            .rate(RATE)
            .topic_of(manifests.topic_of())
            .start();
        let plant = Self {
            brokers,
            namespace,
            manifests,
            publisher,
            observer,
        };
        plant.wait_flow("the load flows");
        plant
    }

    fn route(&self) -> RouteHandle<'_> {
        RouteHandle::new(&self.namespace, &self.manifests.name)
    }

    /// Waits until Kafka has more messages than are acknowledged by now.
    fn wait_flow(&self, what: &str) {
        let goal = self.publisher.acknowledged() + 4_000;
        let took = self.observer.wait_for(goal, SOON);
        eprintln!(
            "{what}: {goal} messages are in Kafka after {:.1} s",
            took.as_secs_f64()
        );
    }

    /// Compares the accounts of both ends.
    fn finish(self) {
        let report = self.publisher.finish(SOON);
        self.observer.wait_for(report.acknowledged(), SOON);
        let records = self.observer.finish();
        let verdict = check(&report, &records);
        verdict.assert_nothing_lost();
        eprintln!(
            "{} sent, {} acknowledged, {} in Kafka, {} distinct",
            report.sent(),
            report.acknowledged(),
            records.seen().len(),
            records.distinct()
        );
        drop(self.brokers);
    }
}

fn secret(password: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: login}}
stringData: {{username: plant, password: {password}}}
"
    )
}

fn docker(arguments: &[&str]) {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn node_of(plant: &Plant, pod: &str) -> String {
    plant
        .namespace
        .kubectl(&["get", pod, "-o", "jsonpath={.spec.nodeName}"])
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn no_fault_of_pods_loses_a_message() {
    let plant = Plant::start("pods", |_| {});
    let pods = plant.route().pods();
    assert_eq!(pods.len(), 2);

    plant.namespace.kubectl(&["delete", &pods[0], "--wait=false"]);
    plant.wait_flow("a worker's pod was deleted");
    plant.route().wait_ready();

    let node = node_of(&plant, &pods[1]);
    let uid = plant
        .namespace
        .kubectl(&["get", &pods[1], "-o", "jsonpath={.metadata.uid}"]);
    let kill = format!(
        "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -q '^/usr/local/bin/bridge-worker run' && grep -q \
         {uid} $p/cgroup $p/mountinfo; then kill -9 ${{p#/proc/}}; fi; done"
    );
    docker(&["exec", &node, "sh", "-c", &kill]);
    plant.wait_flow("a worker was killed");
    let restarts = || {
        plant.namespace.kubectl(&[
            "get",
            &pods[1],
            "-o",
            "jsonpath={.status.containerStatuses[0].restartCount}",
        ])
    };
    wait_until(SOON, "the kubelet to start it again", || restarts() != "0");
    plant.route().wait_ready();

    kubectl(&[
        "delete",
        "pod",
        "-n",
        "millrace-system",
        "-l",
        "app.kubernetes.io/component=operator",
        "--wait=false",
    ]);
    plant.wait_flow("the operator was deleted");

    plant
        .namespace
        .kubectl(&["rollout", "restart", "statefulset/pods-worker"]);
    plant
        .namespace
        .kubectl(&["rollout", "status", "statefulset/pods-worker", "--timeout=120s"]);
    plant.wait_flow("all workers were replaced");
    plant.route().wait_ready();
    plant.finish();
}

#[test]
#[ignore = "needs a cluster: make e2e"]
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
    // The broker saves every second what it is told; what it has told the publisher since is kept by its SIGTERM.
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
#[ignore = "needs a cluster: make e2e"]
fn no_fault_of_nodes_loses_a_message() {
    let plant = Plant::start("nodes", |_| {});
    let pods = plant.route().pods();
    let node = node_of(&plant, &pods[0]);
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

    let node = node_of(&plant, &plant.route().pods()[0]);
    docker(&["stop", "-t", "1", &node]);
    eprintln!("{node} is stopped");
    // Nobody helps: the pods of the node are given up, others take their place.
    wait_until(Duration::from_secs(300), "all workers to run elsewhere", || {
        let pods = plant.namespace.kubectl(&[
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
#[ignore = "needs a cluster: make e2e"]
fn a_changed_route_and_a_changed_secret_lose_nothing_and_restart_nothing() {
    let plant = Plant::start("changes", |manifests| {
        manifests.port = 1884;
        manifests.broker = "  auth: {basic: {secretRef: {name: login}}}\n".into();
    });
    let uids = || {
        plant.namespace.kubectl(&[
            "get",
            "pods",
            "-o",
            "jsonpath={.items[*].metadata.uid}",
            "-l",
            "app.kubernetes.io/component=worker",
        ])
    };
    let before = uids();

    let mut changed = plant.manifests.clone();
    changed.filters.push("more/+key".into());
    let since = std::time::Instant::now();
    plant.namespace.apply(&changed.yaml());
    let applied = plant.route().wait_for("ConfigurationApplied", "True", "", SOON);
    eprintln!(
        "a filter was added within {:.1} s: {}",
        since.elapsed().as_secs_f64(),
        applied.message
    );
    plant.wait_flow("a filter was added");

    let wrong = "no-such-password-4711";
    plant.namespace.apply(&secret(wrong));
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
    plant.namespace.apply(&secret("millrace"));
    plant
        .route()
        .wait_for("CredentialsApplied", "True", "", Duration::from_secs(180));
    assert_eq!(uids(), before, "no worker was replaced");
    plant.finish();
}

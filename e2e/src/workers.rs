use std::process::Command;

use millrace_testkit::wait_until;

use crate::SOON;
use crate::kubectl::kubectl;
use crate::namespace::Namespace;

/// Runs `docker`: the nodes are its containers.
pub fn docker(arguments: &[&str]) {
    let output = Command::new("docker").args(arguments).output().expect("docker");
    assert!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The node that a pod is on.
pub fn node_of(namespace: &Namespace, pod: &str) -> String {
    namespace.kubectl(&["get", pod, "-o", "jsonpath={.spec.nodeName}"])
}

/// Waits until the kubelet has started the worker in a pod again.
pub fn wait_restarted(namespace: &Namespace, pod: &str) {
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    wait_until(SOON, "the kubelet to start it again", || {
        namespace.kubectl(&["get", pod, "-o", restarts]) != "0"
    });
}

/// Kills the worker in a pod: the kubelet starts it again in the same pod. No other signal ends the first process of a
/// container that has no handler for it.
pub fn kill_worker(namespace: &Namespace, pod: &str) {
    signal(namespace.name(), pod, "KILL");
}

/// Sends a signal to the worker or the operator in a pod.
pub fn signal(namespace: &str, pod: &str, signal: &str) {
    let place = [
        "get",
        "-n",
        namespace,
        pod,
        "-o",
        "jsonpath={.metadata.uid} {.spec.nodeName}",
    ];
    let place = kubectl(&place);
    let (uid, node) = place.split_once(' ').expect("a uid and a node");
    let kill = format!(
        "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -qE \
         '^/usr/local/bin/(bridge-worker|millrace-operator) run' && grep -q {uid} $p/cgroup $p/mountinfo; then kill -{signal} \
         ${{p#/proc/}}; fi; done"
    );
    docker(&["exec", node, "sh", "-c", &kill]);
}

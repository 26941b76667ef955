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

/// Whether so many pods that a selector finds are there, all of them ready.
pub fn are_ready(namespace: &str, selector: &str, pods: usize) -> bool {
    let ready = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
    let ready = kubectl(&["get", "pods", "-n", namespace, "-l", selector, "-o", ready]);
    ready.split_whitespace().eq(std::iter::repeat_n("True", pods))
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
    Process::of(namespace.name(), pod).signal("KILL");
}

/// The worker or the operator in a pod, which may be gone by now.
#[derive(Debug)]
pub struct Process {
    uid: String,
    node: String,
}

impl Process {
    /// The one in a pod that there is.
    pub fn of(namespace: &str, pod: &str) -> Self {
        let place = "jsonpath={.metadata.uid} {.spec.nodeName}";
        let place = kubectl(&["get", "-n", namespace, pod, "-o", place]);
        let (uid, node) = place.split_once(' ').expect("a uid and a node");
        Self {
            uid: uid.to_owned(),
            node: node.to_owned(),
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let send = format!(
            "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -qE \
             '^/usr/local/bin/(bridge-worker|millrace-operator) run' && grep -q {} $p/cgroup $p/mountinfo; then \
             kill -{signal} ${{p#/proc/}}; fi; done",
            self.uid
        );
        docker(&["exec", &self.node, "sh", "-c", &send]);
    }
}

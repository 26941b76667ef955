use std::process::Command;

use millrace_testkit::wait_until;

use crate::SOON;
use crate::kubectl::kubectl;
use crate::namespace::Namespace;

/// Runs `docker`, whose containers are the nodes, and returns what it prints.
pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().expect("docker");
    assert!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
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
        self.on_its_node(&format!("kill -{signal} ${{p#/proc/}}"));
    }

    /// What the kernel says of it.
    pub fn confinement(&self) -> Confinement {
        Confinement::read(&self.on_its_node("cat $p/status $p/mounts"))
    }

    /// Runs a command on its node, where `$p` is its folder in `/proc`.
    fn on_its_node(&self, command: &str) -> String {
        let found = format!(
            "for p in /proc/[0-9]*; do if tr '\\0' ' ' <$p/cmdline | grep -qE \
             '^/usr/local/bin/(bridge-worker|millrace-operator) run' && grep -q {} $p/cgroup $p/mountinfo; then \
             {command}; fi; done",
            self.uid
        );
        docker(&["exec", &self.node, "sh", "-c", &found])
    }
}

/// What the kernel lets a process do.
#[derive(Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Real, effective, saved and of the file system.
    pub users: Vec<u32>,
    /// Capabilities that it has, or could get.
    pub capabilities: u64,
    /// Whether it can get more by starting a program.
    pub no_new_privileges: bool,
    /// Whether `/` can be written to.
    pub writable_root: bool,
}

impl Confinement {
    /// Of `/proc/PID/status` and `/proc/PID/mounts`, one after the other.
    pub fn read(text: &str) -> Self {
        let values = |key: &str| {
            let mut lines = text.lines();
            let values = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            values.unwrap_or_else(|| panic!("no {key}: {text}")).trim()
        };
        // Inherited, permitted, effective, the bounding set, ambient.
        let sets = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];
        let sets = sets.map(|set| u64::from_str_radix(values(set), 16).expect("a set of capabilities"));
        let mut mounts = text.lines().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            (words.next()? == "/").then(|| words.nth(1))?
        });
        let root = mounts.next_back().expect("a root");
        Self {
            users: values("Uid")
                .split_whitespace()
                .map(|user| user.parse().expect("a number"))
                .collect(),
            capabilities: sets.iter().fold(0, |all, set| all | set),
            no_new_privileges: values("NoNewPrivs") == "1",
            writable_root: root.split(',').any(|option| option == "rw"),
        }
    }
}

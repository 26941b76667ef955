//! The names that the operator gives to things in a cluster. Each is written once, here.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Who writes the fields that the operator owns.
pub const FIELD_MANAGER: &str = "millrace-operator";
/// Holds a TopicRoute back until its MQTT sessions are gone.
pub const FINALIZER: &str = "millrace.dev/sessions";

/// On everything the operator makes.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "millrace");
/// What a child is for: one of [`component`].
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// The TopicRoute, MqttBroker or KafkaSink that a child belongs to.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// The lower-case kind of what a child belongs to: one of [`kind`].
pub const OWNER_KIND: &str = "millrace.dev/kind";

/// Annotation of a pod and its template: which settings it was made for.
pub const SETTINGS: &str = "millrace.dev/settings";
/// Annotation of a worker's pod and its template: where the MQTT sessions are that it reads.
pub const WHEREABOUTS: &str = "millrace.dev/whereabouts";
/// Annotation of a ConfigMap: hash of the live configuration in it.
pub const LIVE: &str = "millrace.dev/live";
/// Annotation of a worker's pod: its part of the lane record.
pub const ASSIGNMENT: &str = "millrace.dev/assignment";
/// Annotation of a worker's pod: the live configuration it is to have. A change makes the kubelet look at the pod's
/// volumes at once.
pub const NUDGE: &str = "millrace.dev/nudge";
/// Annotation of a probe's pod: what is asked.
pub const REQUEST: &str = "millrace.dev/probe-request";
/// Annotation of a probe's pod: how many failed before it.
pub const ATTEMPT: &str = "millrace.dev/attempt";
/// Annotation of a leave Job's pod: the settings it reads.
pub const LEAVE_SETTINGS: &str = "millrace.dev/leave-settings";
/// Annotation of a leave Job's pod: the live configuration it reads.
pub const LEAVE_LIVE: &str = "millrace.dev/leave-live";
/// Annotation of a TopicRoute: delete it without waiting for its sessions.
pub const FORCE_DELETE: &str = "millrace.dev/force-delete";

/// Values of [`COMPONENT`].
pub mod component {
    /// A worker and what it needs.
    pub const WORKER: &str = "worker";
    /// A probe.
    pub const PROBE: &str = "probe";
    /// What ends the sessions of a deleted route.
    pub const LEAVE: &str = "leave";
}

/// Values of [`OWNER_KIND`].
pub mod kind {
    /// A TopicRoute.
    pub const ROUTE: &str = "topicroute";
    /// An MqttBroker.
    pub const BROKER: &str = "mqttbroker";
    /// A KafkaSink.
    pub const SINK: &str = "kafkasink";
}

/// The container of a worker, a probe or a leave Job.
pub const CONTAINER: &str = "bridge-worker";
/// The port of `/livez`, `/readyz`, `/metrics` and `/status`.
pub const ADMIN_PORT: i32 = 9090;

/// The name of an object of any namespace: `namespace/name`.
pub fn full(meta: &ObjectMeta) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&meta.namespace), part(&meta.name))
}

/// The StatefulSet, its Service and what else the workers of a route need.
pub fn workers(route: &str) -> String {
    format!("{route}-worker")
}

/// The ConfigMap of settings with a hash.
pub fn settings(route: &str, hash: &str) -> String {
    format!("{route}-{hash}")
}

/// The ConfigMap of what a worker takes over while it runs.
pub fn live(route: &str) -> String {
    format!("{route}-live")
}

/// The ConfigMap of the lane record.
pub fn lanes(route: &str) -> String {
    format!("{route}-lanes")
}

/// The pod that probes for a route, a broker or a sink, after `attempt` others that failed.
pub fn probe(kind: &str, owner: &str, hash: &str, attempt: u32) -> String {
    // Names of brokers and sinks may be long; a pod's name that is a label as well has 63 letters at most.
    let owner: String = owner.chars().take(26).collect();
    let short = match kind {
        kind::BROKER => "broker",
        kind::SINK => "sink",
        _ => "route",
    };
    format!(
        "{}-{short}-probe-{hash}-{attempt}",
        owner.trim_end_matches(['-', '.']).replace('.', "-")
    )
}

/// The Job that ends the sessions of a deleted route, and its ConfigMap.
pub fn leave(route: &str) -> String {
    format!("{route}-leave")
}

/// What tells one content from another, short enough for a name: the first 10 hexadecimal digits of its SHA-256.
pub fn hash(content: &[u8]) -> String {
    let mut hash = full_hash(content);
    hash.truncate(10);
    hash
}

/// SHA-256.
pub type Digest = [u8; 32];

/// SHA-256, as bytes.
pub fn digest(content: &[u8]) -> Digest {
    use sha2::Digest as _;
    sha2::Sha256::digest(content).into()
}

/// SHA-256 in hexadecimal.
pub fn full_hash(content: &[u8]) -> String {
    digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

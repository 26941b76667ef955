//! What the operator was told when it was started.

use std::time::Duration;

use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;

/// What the operator was told when it was started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The image of workers, probes and leave Jobs.
    pub worker_image: String,
    /// `IfNotPresent` or another of Kubernetes' policies.
    pub worker_image_pull_policy: String,
    /// Secrets to pull the image with.
    pub worker_image_pull_secrets: Vec<String>,
    /// What workers log: a filter such as `info`.
    pub worker_log: String,
    /// So many routes may be replacing their workers at once. One that takes longer than 10 minutes no longer counts.
    pub max_concurrent_routes: usize,
    /// How often a worker that is as it should be is asked for its status.
    pub scrape_interval: Duration,
    /// Workers are reached on their admin port only.
    pub network_policy: bool,
    /// Where workers may connect to. Empty: anywhere.
    pub egress: Vec<NetworkPolicyEgressRule>,
    /// Workers are scraped by a PodMonitor, because the cluster has that kind.
    pub pod_monitor: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            worker_image: "millrace.dev/millrace:latest".into(),
            worker_image_pull_policy: "IfNotPresent".into(),
            worker_image_pull_secrets: Vec::new(),
            worker_log: "info".into(),
            max_concurrent_routes: 10,
            scrape_interval: Duration::from_secs(15),
            network_policy: true,
            egress: Vec::new(),
            pod_monitor: false,
        }
    }
}

impl Settings {
    /// What workers are replaced for, beside their route's own settings, and what is tried before.
    pub(crate) fn of_workers(&self) -> String {
        format!("{} {}", self.worker_image, self.worker_log)
    }
}

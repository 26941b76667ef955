//! What the operator was told when it was started.

use std::time::Duration;

use k8s_openapi::api::core::v1::{PodSecurityContext, SeccompProfile};
use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;

/// The user that runs in the image.
const USER: i64 = 65532;

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
    /// As whom workers, probes and leave Jobs run.
    pub pod_security: PodSecurityContext,
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
            pod_security: restricted(),
            pod_monitor: false,
        }
    }
}

/// As the user of the image, to whom files that are mounted belong.
pub(crate) fn restricted() -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        run_as_group: Some(USER),
        fs_group: Some(USER),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".into(),
            localhost_profile: None,
        }),
        ..PodSecurityContext::default()
    }
}

impl Settings {
    /// What workers are replaced for, beside their route's own settings, and what is tried before.
    pub(crate) fn of_workers(&self) -> String {
        let default = Self::default();
        let mut all = vec![self.worker_image.clone(), self.worker_log.clone()];
        // What is as it always was is left out: workers are not replaced because a release can be told more.
        if self.worker_image_pull_policy != default.worker_image_pull_policy {
            all.push(self.worker_image_pull_policy.clone());
        }
        all.extend(self.worker_image_pull_secrets.iter().cloned());
        if self.pod_security != default.pod_security {
            all.push(serde_json::to_string(&self.pod_security).unwrap_or_default());
        }
        all.join(" ")
    }
}

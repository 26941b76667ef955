//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use k8s_openapi::api::core::v1::PodSecurityContext;
use k8s_openapi::api::networking::v1::NetworkPolicyEgressRule;

use crate::cluster::lease::Candidate;
use crate::cluster::watch::Scope;
use crate::metrics_api::Address;
use crate::settings::{Settings, restricted};

/// Runs routes between MQTT and Kafka in Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "millrace-operator", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the operator until it is told to stop.
    Run(Box<Run>),
    /// Prints the CustomResourceDefinitions.
    Crds(Crds),
    /// Stops the operator and lets all routes go: what a chart does before it is uninstalled.
    Uninstall(Uninstall),
}

/// What `run` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// A namespace to look after; may be given several times. None: all.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub(crate) watch_namespaces: Vec<String>,
    /// The image of workers.
    #[arg(long, value_name = "IMAGE", env = "WORKER_IMAGE")]
    pub(crate) worker_image: String,
    /// When the workers' image is pulled.
    #[arg(long, value_name = "POLICY", default_value = "IfNotPresent")]
    pub(crate) worker_image_pull_policy: String,
    /// A Secret to pull the workers' image with; may be given several times.
    #[arg(long = "worker-image-pull-secret", value_name = "NAME")]
    pub(crate) worker_image_pull_secrets: Vec<String>,
    /// What workers log: `info`, or `info,bridge_worker=debug`.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) worker_log_filter: String,
    /// So many routes may be replacing their workers at once. One that takes longer than 10 minutes no longer counts.
    #[arg(long, value_name = "NUMBER", default_value_t = 10)]
    pub(crate) max_concurrent_routes: usize,
    /// How often workers are asked for their status: `15s`.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub(crate) scrape_interval: Duration,
    /// Whether workers get a NetworkPolicy.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    pub(crate) worker_network_policy: bool,
    /// Egress rules of that NetworkPolicy, as JSON. None: workers reach everything.
    #[arg(long, value_name = "JSON", value_parser = egress)]
    pub(crate) worker_egress: Option<Egress>,
    /// As whom workers, probes and leave Jobs run: a PodSecurityContext, as JSON. None: as the image's user.
    #[arg(long, value_name = "JSON", value_parser = pod_security)]
    pub(crate) worker_pod_security: Option<PodSecurity>,
    /// Whether workers get a PodMonitor of the Prometheus operator.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = clap::ArgAction::Set)]
    pub(crate) worker_pod_monitor: bool,
    /// Where to serve /livez, /readyz and /metrics.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:9090")]
    pub(crate) admin: SocketAddr,
    /// Serves custom.metrics.k8s.io to the API server, by this Service in the operator's namespace.
    #[arg(long, value_name = "NAME", requires = "lease_namespace")]
    pub(crate) metrics_api_service: Option<String>,
    /// Where to serve it.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:10250")]
    pub(crate) metrics_api: SocketAddr,
    /// The Lease that makes one of several operators act.
    #[arg(long, value_name = "NAME", default_value = "millrace-operator")]
    pub(crate) lease_name: String,
    /// Where the Lease is. None: no Lease, and this must be the only operator.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub(crate) lease_namespace: Option<String>,
    /// What this process calls itself in the Lease.
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub(crate) identity: Option<String>,
    /// How logs are written to standard error.
    #[arg(long, value_enum, default_value = "auto")]
    pub(crate) log_format: LogFormat,
    /// What is logged: `info`, or `debug,kube=info`.
    #[arg(long, value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log_filter: String,
}

/// What `crds` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Crds {
    /// Writes those with these names to the cluster instead of printing all; without a name, all.
    #[arg(long, value_name = "NAME", num_args = 0..)]
    pub(crate) apply: Option<Vec<String>>,
}

/// What `uninstall` takes.
#[derive(Debug, clap::Args)]
pub(crate) struct Uninstall {
    /// The operator's Deployment.
    #[arg(long, value_name = "NAME")]
    pub(crate) deployment: String,
    /// Its namespace.
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub(crate) namespace: String,
    /// A namespace it looked after; may be given several times. None: all.
    #[arg(long = "watch-namespace", value_name = "NAMESPACE")]
    pub(crate) watch_namespaces: Vec<String>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    Pretty,
    Json,
}

/// As whom a pod runs.
#[derive(Clone, Debug)]
pub(crate) struct PodSecurity(pub(crate) PodSecurityContext);

/// Rules of a NetworkPolicy.
#[derive(Clone, Debug)]
pub(crate) struct Egress(pub(crate) Vec<NetworkPolicyEgressRule>);

impl Run {
    /// Where it looks after routes.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> {
        let everywhere = self.watch_namespaces.is_empty().then_some(Scope::All);
        let named = self.watch_namespaces.iter().cloned().map(Scope::Namespace);
        everywhere.into_iter().chain(named)
    }

    /// The Lease it waits for; none if it is the only operator.
    pub(crate) fn candidate(&self) -> Option<Candidate> {
        let identity = self.identity.clone();
        Some(Candidate {
            namespace: self.lease_namespace.clone()?,
            name: self.lease_name.clone(),
            identity: identity.unwrap_or_else(|| format!("millrace-operator-{}", std::process::id())),
        })
    }

    /// Where the API server is to find the metrics API, if it is served.
    pub(crate) fn metrics_api_address(&self, lease: &Candidate) -> Option<Address> {
        Some(Address {
            namespace: lease.namespace.clone(),
            service: self.metrics_api_service.clone()?,
            process: lease.identity.clone(),
        })
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings {
            worker_image: self.worker_image.clone(),
            worker_image_pull_policy: self.worker_image_pull_policy.clone(),
            worker_image_pull_secrets: self.worker_image_pull_secrets.clone(),
            worker_log: self.worker_log_filter.clone(),
            max_concurrent_routes: self.max_concurrent_routes.max(1),
            scrape_interval: self.scrape_interval,
            network_policy: self.worker_network_policy,
            egress: self
                .worker_egress
                .clone()
                .map(|egress| egress.0)
                .unwrap_or_default(),
            pod_security: self
                .worker_pod_security
                .clone()
                .map_or_else(restricted, |security| security.0),
            pod_monitor: self.worker_pod_monitor,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    millrace_crds::units::GepDuration::new(text)
        .parse()
        .map_err(|error| error.to_string())
}

fn filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("is no filter such as `info` or `info,kube=debug`: {error}"))
}

fn pod_security(text: &str) -> Result<PodSecurity, String> {
    serde_json::from_str(text)
        .map(PodSecurity)
        .map_err(|error| format!("is no PodSecurityContext: {error}"))
}

fn egress(text: &str) -> Result<Egress, String> {
    serde_json::from_str(text)
        .map(Egress)
        .map_err(|error| format!("is no list of egress rules: {error}"))
}

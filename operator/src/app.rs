//! Joins everything: what `main` calls.

use std::net::SocketAddr;

use anyhow::Context as _;
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::admin::{self, Readiness};
use crate::cli::{Cli, Command, Crds, Run};
use crate::cluster::lease::Candidate;
use crate::cluster::watch::Scope;
use crate::cluster::{Cluster, definitions};
use crate::controllers::{self, Controllers};
use crate::flow::Sight;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{metrics_api, telemetry, uninstall};

/// Does what the command line asks for.
///
/// # Errors
/// Why it could not, for a person.
pub fn main(cli: Cli) -> anyhow::Result<()> {
    // The first one wins, and there is no other.
    rustls::crypto::ring::default_provider().install_default().ok();
    match cli.command {
        Command::Crds(Crds { apply: None }) => {
            print!("{}", millrace_crds::crd_yaml()?);
            Ok(())
        }
        Command::Crds(Crds { apply: Some(names) }) => runtime()?.block_on(async {
            telemetry::init(crate::cli::LogFormat::Auto, "info")?;
            let cluster = connect(Metrics::default()).await?;
            definitions::apply(&cluster, &names)
                .await
                .context("the CustomResourceDefinitions cannot be written")
        }),
        Command::Run(args) => runtime()?.block_on(run(*args)),
        Command::Uninstall(args) => runtime()?.block_on(async {
            telemetry::init(crate::cli::LogFormat::Auto, "info")?;
            uninstall::run(&connect(Metrics::default()).await?, &args).await
        }),
    }
}

/// One thread: the operator waits, it does not compute.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

async fn connect(metrics: Metrics) -> anyhow::Result<Cluster> {
    let config = Config::infer()
        .await
        .context("there is no way to a cluster: no kubeconfig, and not in a pod")?;
    let client = Client::try_from(config).context("a client for the cluster cannot be made")?;
    Ok(Cluster::new(client, metrics))
}

async fn run(args: Run) -> anyhow::Result<()> {
    telemetry::init(args.log_format, &args.log_filter)?;
    let metrics = Metrics::default();
    let cluster = connect(metrics.clone()).await?;
    let listener = listen(args.admin).await?;
    let readiness = Readiness::default();
    let (end, ended) = oneshot::channel::<()>();
    let admin = tokio::spawn(admin::serve(
        listener,
        metrics.clone(),
        readiness.clone(),
        async move {
            // A sender that was dropped means the same.
            ended.await.ok();
        },
    ));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let result = work(&args, &cluster, &metrics, &readiness, stop).await;
    readiness.set(false);
    end.send(()).ok();
    admin.await??;
    result
}

/// Looks after all scopes until `stop`, or until the Lease is lost.
async fn work(
    args: &Run,
    cluster: &Cluster,
    metrics: &Metrics,
    readiness: &Readiness,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::pin!(stop);
    tokio::select! {
        checked = definitions::check(cluster) => checked?,
        () = &mut stop => return Ok(()),
    }
    let operator = Operator {
        cluster,
        metrics,
        settings: args.settings(),
        scopes: args.scopes().map(|scope| (scope, Sight::default())).collect(),
    };
    let lease = args.candidate();
    let api = match lease.as_ref().and_then(|lease| args.metrics_api_address(lease)) {
        Some(address) => Some((listen(args.metrics_api).await?, address)),
        None => None,
    };
    // One that waits for the Lease is as ready as it can be.
    readiness.set(true);
    let Some(lease) = lease else {
        tokio::select! {
            () = operator.act() => {}
            () = stop => {}
        }
        return Ok(());
    };
    let Some((listener, address)) = api else {
        return operator.lead(&lease, std::future::pending(), stop).await;
    };
    let sights = operator.scopes.iter().map(|(_, sight)| sight.clone()).collect();
    tokio::select! {
        result = operator.lead(&lease, operator.follow(), stop) => result,
        () = metrics_api::run(listener, &address, cluster, sights, metrics) => Ok(()),
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

/// What one process does.
struct Operator<'a> {
    cluster: &'a Cluster,
    metrics: &'a Metrics,
    settings: Settings,
    scopes: Vec<(Scope, Sight)>,
}

impl Operator<'_> {
    /// Waits for the Lease, doing `meanwhile`, and acts until `stop`, or until the Lease is lost.
    async fn lead(
        &self,
        lease: &Candidate,
        meanwhile: impl Future<Output = ()>,
        stop: impl Future<Output = ()>,
    ) -> anyhow::Result<()> {
        tokio::pin!(stop);
        let mut held = tokio::select! {
            held = lease.acquire(self.cluster) => held,
            () = meanwhile => return Ok(()),
            () = &mut stop => return Ok(()),
        };
        self.metrics.leading(true);
        tokio::select! {
            () = self.act() => {}
            lost = held.keep(self.cluster) => {
                // Another may act from now on: this process must not, so it ends.
                return Err(lost.into());
            }
            () = &mut stop => {}
        }
        tracing::info!("stopping");
        held.release(self.cluster).await;
        Ok(())
    }

    /// Runs all controllers.
    async fn act(&self) {
        let runs = self.scopes.iter().map(|(scope, sight)| {
            Controllers::run(
                self.cluster.clone(),
                scope.clone(),
                sight.clone(),
                self.settings.clone(),
                self.metrics.clone(),
                move || {
                    tracing::info!(?scope, "all that exists has been seen");
                },
            )
        });
        futures::future::join_all(runs).await;
    }

    /// Knows what flows through routes, and does nothing else.
    async fn follow(&self) {
        let all = self
            .scopes
            .iter()
            .map(|(scope, sight)| controllers::follow(self.cluster, scope, sight, &self.settings));
        futures::future::join_all(all).await;
    }
}

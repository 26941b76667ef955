//! Joins everything: what `main` calls.

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
use crate::controllers::Controllers;
use crate::metrics::Metrics;
use crate::{telemetry, uninstall};

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
    let listener = TcpListener::bind(args.admin)
        .await
        .with_context(|| format!("cannot listen on {}", args.admin))?;
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

/// Waits for the Lease and runs the controllers until `stop`, or until the Lease is lost.
async fn work(
    args: &Run,
    cluster: &Cluster,
    metrics: &Metrics,
    readiness: &Readiness,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    tokio::pin!(stop);
    definitions::check(cluster).await?;
    // One that waits for the Lease is as ready as it can be.
    readiness.set(true);
    let Some(namespace) = &args.lease_namespace else {
        tokio::select! {
            () = controllers(args, cluster, metrics) => {}
            () = &mut stop => {}
        }
        return Ok(());
    };
    let candidate = Candidate {
        namespace: namespace.clone(),
        name: args.lease_name.clone(),
        identity: args
            .identity
            .clone()
            .unwrap_or_else(|| format!("millrace-operator-{}", std::process::id())),
    };
    let mut held = tokio::select! {
        held = candidate.acquire(cluster) => held,
        () = &mut stop => return Ok(()),
    };
    metrics.leading(true);
    tokio::select! {
        () = controllers(args, cluster, metrics) => {}
        lost = held.keep(cluster) => {
            // Another may act from now on: this process must not, so it ends.
            return Err(lost.into());
        }
        () = &mut stop => {}
    }
    tracing::info!("stopping");
    held.release(cluster).await;
    Ok(())
}

async fn controllers(args: &Run, cluster: &Cluster, metrics: &Metrics) {
    let scopes = match args.watch_namespaces.as_slice() {
        [] => vec![Scope::All],
        names => names.iter().map(|name| Scope::Namespace(name.clone())).collect(),
    };
    let runs = scopes.into_iter().map(|scope| {
        let seen = scope.clone();
        Controllers::run(
            cluster.clone(),
            scope,
            args.settings(),
            metrics.clone(),
            move || {
                tracing::info!(scope = ?seen, "all that exists has been seen");
            },
        )
    });
    futures::future::join_all(runs).await;
}

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use millrace_contract::{Document, Settings};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::operated::{Operated, Pod};
use super::{AnyLive, UsageError, read_json};
use crate::delivery::Delivery;
use crate::route::Route;
use crate::worker::Worker;

/// Arguments of `bridge-worker run`.
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The worker's document (JSON): all lanes of the route are run, and nothing changes.
    #[arg(long, value_name = "FILE", required_unless_present = "settings")]
    document: Option<PathBuf>,
    #[command(flatten)]
    parts: Option<Parts>,
    /// Where to serve /livez, /readyz, /metrics and /status.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
}

/// The document in parts, as an operator mounts them. POD_NAME (`<name>-<ordinal>`) and POD_UID say whose the process
/// is.
#[derive(Debug, clap::Args)]
#[group(conflicts_with = "document")]
struct Parts {
    /// The part of the worker's document that it keeps (JSON).
    #[arg(long, value_name = "FILE", required = false, requires_all = ["live", "record", "assignment"])]
    settings: PathBuf,
    /// The part that it takes over while it runs (JSON).
    #[arg(long, value_name = "FILE", required = false)]
    live: PathBuf,
    /// Who owns which lanes (JSON); it need not exist.
    #[arg(long, value_name = "FILE", required = false)]
    record: PathBuf,
    /// This pod's part of it (JSON), which comes sooner; it need not exist and may be empty.
    #[arg(long, value_name = "FILE", required = false)]
    assignment: PathBuf,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        match (self.document, self.parts) {
            (Some(document), _) => {
                let document = super::read_document(&document)?;
                runtime.block_on(serve(self.admin, || Ok((Route::start(document)?, None))))
            }
            (None, Some(parts)) => {
                let pod = Pod::from_env().map_err(UsageError)?;
                let settings: Settings = read_json(&parts.settings, "the settings of a worker")?;
                let (live, hash) = super::read_live(&parts.live, &settings)?;
                let operated = Operated::new(&pod, parts.live, &hash, parts.record, parts.assignment);
                runtime.block_on(serve(self.admin, || {
                    let route = match live {
                        AnyLive::ToKafka(live) => {
                            let document = Document { settings, live };
                            Route::ToKafka(Worker::operated(document, hash, Some(pod.uid))?)
                        }
                        AnyLive::ToMqtt(live) => {
                            let document = Document { settings, live };
                            let ordinal = pod.ordinal.into();
                            Route::ToMqtt(Box::new(Delivery::operated(document, hash, pod.uid, ordinal)?))
                        }
                    };
                    Ok((route, Some(operated)))
                }))
            }
            (None, None) => Err(UsageError("neither --document nor --settings is given".into()).into()),
        }
    }
}

async fn serve(
    admin: SocketAddr,
    start: impl FnOnce() -> anyhow::Result<(Route, Option<Operated>)>,
) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(admin)
        .await
        .with_context(|| format!("cannot listen on {admin}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (route, operated) = start()?;
    let route = Arc::new(route);
    tracing::info!(admin = %listener.local_addr()?, "started");
    let seen = Arc::clone(&route);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(crate::admin::serve(
        listener,
        Arc::new(move || vec![seen.snapshot()]),
        async move { ended.await.unwrap_or(()) },
    ));
    let told = async {
        match operated {
            Some(mut operated) => operated.follow(&route).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = told => {}
    }
    tracing::info!("draining: no new messages are read");
    route.stop();
    tokio::select! {
        () = route.wait() => {}
        _ = terminate.recv() => route.abort(),
        _ = interrupt.recv() => route.abort(),
    }
    tokio::time::timeout(Duration::from_secs(10), route.wait())
        .await
        .ok();
    // Nobody waits for the admin port any more.
    end.send(()).ok();
    admin.await??;
    let ledger = route.snapshot().status.ledger;
    tracing::info!(?ledger, "ended");
    Ok(if ledger.in_flight == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

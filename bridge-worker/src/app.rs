//! The `bridge-worker` process.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand, ValueEnum};
use millrace_contract::Document;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::telemetry::{self, LogFormat};
use crate::worker::Worker;

/// Moves the messages of one route.
#[derive(Debug, Parser)]
#[command(name = "bridge-worker", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a route until SIGTERM, then drain: what is in flight is confirmed and acknowledged first.
    Run(Run),
}

#[derive(Debug, clap::Args)]
struct Run {
    /// The worker's document (JSON).
    #[arg(long, value_name = "FILE")]
    document: PathBuf,
    /// Where to serve /livez, /readyz, /metrics and /status.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// How logs are written to standard error.
    #[arg(long, value_enum, default_value = "auto")]
    log_format: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Pretty on a terminal, JSON otherwise.
    Auto,
    Pretty,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Auto => Self::Auto,
            Format::Pretty => Self::Pretty,
            Format::Json => Self::Json,
        }
    }
}

/// Runs the process.
///
/// # Errors
/// When the document cannot be read or run, or the admin port cannot be opened.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let Command::Run(run) = cli.command;
    telemetry::init(run.log_format.into(), "info")?;
    let text = std::fs::read_to_string(&run.document)
        .with_context(|| format!("cannot read the document {}", run.document.display()))?;
    let document: Document = serde_json::from_str(&text)
        .with_context(|| format!("{} is not a worker's document", run.document.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(document, run.admin))
}

async fn serve(document: Document, admin: SocketAddr) -> anyhow::Result<ExitCode> {
    let listener = TcpListener::bind(admin)
        .await
        .with_context(|| format!("cannot listen on {admin}"))?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let worker = Arc::new(Worker::start(document)?);
    tracing::info!(admin = %listener.local_addr()?, "started");
    let seen = Arc::clone(&worker);
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let admin = tokio::spawn(crate::admin::serve(
        listener,
        Arc::new(move || vec![seen.snapshot()]),
        async move { ended.await.unwrap_or(()) },
    ));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining: no new messages are read");
    worker.stop();
    tokio::select! {
        () = worker.wait() => {}
        _ = terminate.recv() => worker.abort(),
        _ = interrupt.recv() => worker.abort(),
    }
    tokio::time::timeout(Duration::from_secs(10), worker.wait())
        .await
        .ok();
    // Nobody waits for the admin port any more.
    end.send(()).ok();
    admin.await??;
    let ledger = worker.snapshot().status.ledger;
    tracing::info!(?ledger, "ended");
    Ok(if ledger.in_flight == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

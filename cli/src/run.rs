//! `millrace run`: the routes of manifests, without Kubernetes.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use bridge_worker::telemetry::{self, LogFormat};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::app::Run;
use crate::exit::Exit;
use crate::fleet::Fleet;
use crate::live::{drain, watch};
use crate::manifests;
use crate::plan::{self, Plan};
use crate::report;
use crate::secrets::Secrets;
use crate::signals::Signals;
use crate::validate::colour;
use crate::view::output::{Output, Stage};
use crate::view::text::{Line, Style, counted};

/// Validates, starts, shows, drains.
pub(crate) fn main(args: &Run) -> anyhow::Result<Exit> {
    let report = millrace_crds::validate(&manifests::read(&args.files)?);
    if !report.findings.is_empty() {
        eprint!("{}", report::text(&report, colour(&io::stderr())));
    }
    if report.has_errors() {
        return Ok(Exit::Failed);
    }
    let secrets = Secrets {
        directory: args.secret_dir.clone(),
    };
    let is_set = |variable: &str| std::env::var_os(variable).is_some();
    let plan = plan::plan(&report.objects, &args.instance, &secrets, &is_set)?;
    runtime()?.block_on(run(args, plan))
}

/// The runtime of the view and the admin port. Messages are moved by the workers' own threads.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

async fn run(args: &Run, plan: Plan) -> anyhow::Result<Exit> {
    let mut output = Output::new(args.output);
    logs(&output)?;
    let mut signals = Signals::listen()?;
    let listener = match args.admin {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let fleet = Fleet::start(plan.documents)?;
    let admin = match listener {
        Some(listener) => Some(Admin::serve(listener, &fleet)?),
        None => None,
    };

    let caption = |stage| caption(stage, admin.as_ref().map(|admin| admin.address), &plan.paused);
    watch(&fleet, &mut output, &caption, signals.next()).await;
    let outcome = drain(&fleet, &mut output, &caption, &mut signals).await;
    let exit = outcome.exit();
    output.end(&outcome.lines(), &outcome, exit.code())?;
    if let Some(admin) = admin {
        admin.stop().await;
    }
    Ok(exit)
}

/// Log lines go to standard error. Where that is the terminal with the live view, they pass above it, and only
/// errors: the view says in words what is wrong with a route.
pub(crate) fn logs(output: &Output) -> anyhow::Result<()> {
    match output {
        Output::Screen(screen) if io::stderr().is_terminal() => {
            telemetry::init_to(LogFormat::Auto, "error", true, screen.log())?;
        }
        _ => telemetry::init(LogFormat::Auto, "info")?,
    }
    Ok(())
}

/// Listens on an admin address.
pub(crate) async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on the admin address {address}"))
}

/// The admin port of a fleet.
pub(crate) struct Admin {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<io::Result<()>>,
}

impl Admin {
    /// Answers on `listener` from now on.
    pub(crate) fn serve(listener: TcpListener, fleet: &Fleet) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // A sender that was dropped means the same.
            stopped.await.unwrap_or(());
        };
        let fleet = fleet.clone();
        let ended = tokio::spawn(bridge_worker::serve_admin(
            listener,
            Arc::new(move || fleet.snapshots()),
            shutdown,
        ));
        Ok(Self { address, stop, ended })
    }

    /// Ends after the answers that are under way.
    pub(crate) async fn stop(self) {
        if self.stop.send(()).is_ok() {
            // The process is ending: how the server ended changes nothing any more.
            self.ended.await.ok();
        }
    }
}

fn caption(stage: Stage, admin: Option<SocketAddr>, paused: &[String]) -> (Vec<Line>, Vec<Line>) {
    let mut below = vec![Line::new()];
    if !paused.is_empty() {
        below.push(Line::styled(format!("paused: {}", paused.join(", ")), Style::Dim));
    }
    below.push(match stage {
        Stage::Running => {
            let admin = admin
                .map(|address| format!("http://{address}/status · "))
                .unwrap_or_default();
            Line::styled(format!("{admin}Ctrl-C drains and ends"), Style::Dim)
        }
        _ => progress(stage),
    });
    (vec![], below)
}

/// How far the drain is, in words.
pub(crate) fn progress(stage: Stage) -> Line {
    let text = match stage {
        Stage::Running => return Line::new(),
        Stage::Draining(0) => "Closing the connections; the broker keeps the sessions ...".to_owned(),
        Stage::Draining(waiting) => format!(
            "Waiting for {} to be confirmed by Kafka ... Ctrl-C gives up",
            counted(waiting, "message")
        ),
        Stage::GivingUp => "Giving up: what is not confirmed stays at the broker ...".to_owned(),
    };
    Line::styled(text, Style::Warn)
}

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use millrace_contract::probe::MAX_BYTES;
use millrace_contract::status::{LaneState, Reason, RouteStatus};
use millrace_contract::{Assignment, Document, LeaveReport, MAX_LANES, NotEnded, Settings};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval, timeout};

use super::report::Destination;
use super::{AnyLive, UsageError, read_json};
use crate::probe::cut;
use crate::worker::Worker;

/// How often it is looked whether all sessions have ended.
const LOOK: Duration = Duration::from_millis(100);
/// How long the last acks and goodbyes may take when the time is over.
const GOODBYE: Duration = Duration::from_secs(5);

/// Arguments of `bridge-worker leave`.
#[derive(Debug, clap::Args)]
pub(super) struct Leave {
    /// The part of the worker's document that it keeps (JSON).
    #[arg(long, value_name = "FILE")]
    settings: PathBuf,
    /// The part that it takes over while it runs (JSON): its filters, retired ones included, are unsubscribed.
    #[arg(long, value_name = "FILE")]
    live: PathBuf,
    /// How many lanes may have a session.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_LANES)))]
    lanes: u16,
    /// How long it may take: `45s`.
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = super::time)]
    timeout: Duration,
    #[command(flatten)]
    destination: Destination,
}

impl Leave {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let settings: Settings = read_json(&self.settings, "the settings of a worker")?;
        let (AnyLive::ToKafka(live), hash) = super::read_live(&self.live, &settings)? else {
            return Err(UsageError("a route from Kafka has no sessions to leave".into()).into());
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let report = runtime.block_on(leave(Document { settings, live }, hash, self.lanes, self.timeout))?;
        let is_done = report.failed.is_empty();
        self.destination.write(&fit(report))?;
        Ok(if is_done {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// Ends the session of every lane of the route, those included that no filter falls to: it may have been otherwise.
async fn leave(document: Document, hash: String, lanes: u16, most: Duration) -> anyhow::Result<LeaveReport> {
    let mut terminate = signal(SignalKind::terminate())?;
    let worker = Worker::operated(document, hash, None)?;
    worker.assign(&Assignment {
        generation: 1,
        leaving: (0..lanes).collect(),
        ..Assignment::default()
    })?;
    let until = Instant::now() + most;
    let mut ticks = interval(LOOK);
    let is_left = |status: &RouteStatus| status.lanes.iter().all(|lane| lane.state == LaneState::Left);
    while Instant::now() < until && !is_left(&worker.snapshot().status) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = terminate.recv() => break,
        }
    }
    // Before it is stopped: that makes lanes that have not left look as if they had not tried.
    let report = report(&worker.snapshot().status, most);
    worker.stop();
    if timeout(GOODBYE, worker.wait()).await.is_err() {
        worker.abort();
        timeout(GOODBYE, worker.wait()).await.ok();
    }
    let ledger = worker.snapshot().status.ledger;
    tracing::info!(?ledger, ended = report.ended.len(), "left");
    Ok(report)
}

fn report(status: &RouteStatus, most: Duration) -> LeaveReport {
    let stop = status
        .problems
        .iter()
        .find(|problem| problem.reason == Reason::MessageUndeliverable);
    let mut report = LeaveReport::default();
    for lane in &status.lanes {
        if lane.state == LaneState::Left {
            report.ended.push(lane.client_id.clone());
            continue;
        }
        let why = stop.map(|problem| problem.message.clone());
        let why = why.or_else(|| lane.last_error.clone());
        report.failed.push(NotEnded {
            client_id: lane.client_id.clone(),
            message: why.unwrap_or_else(|| {
                format!(
                    "messages still came, or waited for Kafka, after {} s",
                    most.as_secs()
                )
            }),
        });
    }
    report
}

/// As JSON that fits into a termination message: 64 client ids do, so only messages are cut.
fn fit(mut report: LeaveReport) -> String {
    let mut bytes = 600;
    loop {
        let json = serde_json::to_string(&report).unwrap_or_default();
        if json.len() <= MAX_BYTES || bytes < 10 {
            return json;
        }
        for failed in &mut report.failed {
            cut(&mut failed.message, bytes);
        }
        bytes /= 2;
    }
}

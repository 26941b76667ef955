//! What the demonstration says around the table: what is running, where, and what to try.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::PATH;
use super::audit::{self, Audit};
use super::kafka::Kafka;
use crate::app::Demo;
use crate::run::progress;
use crate::view::output::Stage;
use crate::view::text::{Line, Style, count};

/// How far the demonstration is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// The routes are connecting.
    Connecting,
    /// The plants publish since then.
    Publishing(Instant),
    /// The plants have stopped; the routes write what they have.
    CatchingUp,
}

/// The words around the table.
pub(crate) struct Show {
    heading: Vec<Line>,
    hint: Line,
    duration: Duration,
    audit: Arc<Mutex<Audit>>,
    step: Mutex<Step>,
}

impl Show {
    pub(crate) fn new(
        args: &Demo,
        broker: SocketAddr,
        kafka: &Kafka,
        admin: SocketAddr,
        audit: Arc<Mutex<Audit>>,
    ) -> Self {
        let part = |name: &str, place: &str, what: &str| {
            Line::plain(format!("  {name:<7} "))
                .with(format!("{place:<22}"), Style::Good)
                .with(format!("  {what}"), Style::Dim)
        };
        let first = kafka.bootstrap_servers().into_iter().next().unwrap_or_default();
        let heading = vec![
            Line::styled("millrace demo", Style::Bold).with(
                format!(
                    ": {} plants publish {} messages/s; each is looked up in Kafka",
                    args.plants,
                    count(args.rate)
                ),
                Style::Plain,
            ),
            part("MQTT", &format!("mqtt://{broker}"), "embedded MQTT 5 broker"),
            part("Kafka", &first, "embedded Kafka (librdkafka's mock cluster)"),
            part("Routes", PATH, "as they are; only the addresses are replaced"),
            Line::new(),
        ];
        let hint = Line::styled("Try: ", Style::Dim)
            .with(format!("curl http://{admin}/status"), Style::Plain)
            .with("  (/readyz, /metrics)   Ctrl-C ends", Style::Dim);
        Self {
            heading,
            hint,
            duration: args.duration,
            audit,
            step: Mutex::new(Step::Connecting),
        }
    }

    /// Notes how far the demonstration is.
    pub(crate) fn step(&self, step: Step) {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
    }

    /// The lines above and below the table.
    pub(crate) fn caption(&self, stage: Stage) -> (Vec<Line>, Vec<Line>) {
        let step = *self.step.lock().unwrap_or_else(PoisonError::into_inner);
        let (published, found) = {
            let audit = audit::lock(&self.audit);
            (audit.published(), audit.found())
        };
        let now = match (stage, step) {
            (Stage::Draining(_) | Stage::GivingUp, _) => progress(stage),
            (_, Step::Connecting) => Line::styled("Connecting the routes ...", Style::Warn),
            (_, Step::Publishing(since)) => bar(since.elapsed().min(self.duration), self.duration),
            (_, Step::CatchingUp) => Line::styled(
                "The plants have stopped; the last messages are on their way ...",
                Style::Warn,
            ),
        };
        let counted = Line::plain("Published ")
            .with(count(published), Style::Bold)
            .with(", read back from Kafka ", Style::Plain)
            .with(count(found), Style::Bold);
        (
            self.heading.clone(),
            vec![Line::new(), counted, now, self.hint.clone()],
        )
    }
}

/// `[####----]  4 of 8 s`.
fn bar(elapsed: Duration, whole: Duration) -> Line {
    const CELLS: usize = 30;
    let done = (elapsed.as_secs_f64() / whole.as_secs_f64().max(f64::MIN_POSITIVE) * CELLS as f64) as usize;
    let done = done.min(CELLS);
    Line::styled("█".repeat(done), Style::Good)
        .with("░".repeat(CELLS - done), Style::Dim)
        .with(
            format!("  {} of {} s", elapsed.as_secs(), whole.as_secs()),
            Style::Plain,
        )
}

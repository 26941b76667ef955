//! Where the state of routes is shown, and in which form.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use millrace_contract::status::RouteStatus;
use serde::Serialize;

use super::json::{Event, JsonLine, Remarkable, now};
use super::screen::{self, Screen};
use super::table::{Size, frame};
use super::text::Line;
use crate::outcome::Outcome;
use crate::validate::colour;

/// How often lines are written when nothing changes.
const INTERVAL: Duration = Duration::from_secs(5);
/// And while routes drain, when somebody waits for the end.
const DRAIN_INTERVAL: Duration = Duration::from_secs(1);
/// A table that is not on a terminal has no size to fit.
pub(crate) const PAPER: Size = Size {
    width: 160,
    height: usize::MAX,
};

/// How the state of routes is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// A live table on a terminal, else JSON lines.
    #[default]
    Auto,
    /// A table: live on a terminal, else one now and then.
    Table,
    /// JSON lines: every few seconds, and when a phase or problem changes.
    Json,
}

/// What the routes are doing, as far as the view cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Running.
    Running,
    /// Told to stop; so many messages wait for Kafka.
    Draining(u64),
    /// Told to end without waiting.
    GivingUp,
}

/// Text around the table: above it and below it.
pub(crate) type Caption<'a> = &'a dyn Fn(Stage) -> (Vec<Line>, Vec<Line>);

/// Where and how.
pub(crate) enum Output {
    /// In place, on a terminal.
    Screen(Screen),
    /// Tables one below the other.
    Paper(Pace),
    /// JSON lines.
    Json(Pace),
}

/// When the next line is due.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    written: Option<Instant>,
    seen: Remarkable,
    draining: bool,
}

impl Output {
    /// As asked, on standard output.
    pub(crate) fn new(format: OutputFormat) -> Self {
        let terminal = io::stdout().is_terminal();
        match format {
            OutputFormat::Auto | OutputFormat::Table if terminal => {
                Self::Screen(Screen::new(io::stdout(), colour(&io::stdout())))
            }
            OutputFormat::Table => Self::Paper(Pace::default()),
            OutputFormat::Auto | OutputFormat::Json => Self::Json(Pace::default()),
        }
    }

    /// Shows the state. Called twice a second; forms that are not live write when something is due.
    pub(crate) fn show(
        &mut self,
        routes: &[RouteStatus],
        stage: Stage,
        caption: Caption<'_>,
    ) -> io::Result<()> {
        match self {
            Self::Screen(screen) => {
                let (above, below) = caption(stage);
                let terminal = screen::size();
                // The last row stays free for the cursor: a frame that fills it would scroll.
                let size = Size {
                    height: terminal.height.saturating_sub(1),
                    ..terminal
                };
                screen.draw(&frame(&above, routes, &below, size), terminal)
            }
            Self::Paper(pace) => match pace.due(routes, stage) {
                Some(_) => {
                    let (above, _) = caption(stage);
                    print(&frame(&above, routes, &[Line::new()], PAPER), false)
                }
                None => Ok(()),
            },
            Self::Json(pace) => match pace.due(routes, stage) {
                Some(event) => {
                    let waiting = routes.iter().map(|route| route.ledger.in_flight).sum();
                    write_line(&JsonLine {
                        time: now(),
                        event,
                        waiting,
                        exit_code: None,
                        routes,
                    })
                }
                None => Ok(()),
            },
        }
    }

    /// Shows the end: `lines` for people, the outcome for programs.
    pub(crate) fn end(&mut self, lines: &[Line], outcome: &Outcome, exit_code: u8) -> io::Result<()> {
        match self {
            Self::Screen(screen) => {
                screen.leave()?;
                print(lines, colour(&io::stdout()))
            }
            Self::Paper(_) => print(lines, false),
            Self::Json(_) => write_line(&JsonLine {
                time: now(),
                event: Event::Ended,
                waiting: outcome.left,
                exit_code: Some(exit_code),
                routes: &outcome.routes,
            }),
        }
    }
}

impl Pace {
    /// Whether to write now, and why.
    fn due(&mut self, routes: &[RouteStatus], stage: Stage) -> Option<Event> {
        let seen = Remarkable::of(routes);
        let draining = stage != Stage::Running;
        let interval = if draining { DRAIN_INTERVAL } else { INTERVAL };
        let late = self.written.is_none_or(|written| written.elapsed() >= interval);
        let event = if draining {
            (late || !self.draining).then_some(Event::Draining)
        } else if seen != self.seen {
            Some(Event::Changed)
        } else {
            late.then_some(Event::Status)
        };
        if event.is_some() {
            self.written = Some(Instant::now());
            self.seen = seen;
            self.draining = draining;
        }
        event
    }
}

/// Prints lines for people to standard output.
pub(crate) fn print(lines: &[Line], colour: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{}", line.render(colour))?;
    }
    out.flush()
}

/// Writes a value as one JSON line to standard output.
pub(crate) fn write_line(line: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::table::tests::route;

    #[test]
    fn lines_are_due_now_and_then_and_when_something_changes() {
        let mut pace = Pace::default();
        let mut routes = [route("telemetry")];
        assert_eq!(pace.due(&routes, Stage::Running), Some(Event::Changed));
        routes[0].ledger.received += 1;
        assert_eq!(
            pace.due(&routes, Stage::Running),
            None,
            "counts alone are no news"
        );
        routes[0].phase = millrace_contract::status::Phase::Stopped;
        assert_eq!(pace.due(&routes, Stage::Running), Some(Event::Changed));
        pace.written = Instant::now().checked_sub(INTERVAL);
        assert_eq!(pace.due(&routes, Stage::Running), Some(Event::Status));
        assert_eq!(
            pace.due(&routes, Stage::Draining(1)),
            Some(Event::Draining),
            "the drain is told at once"
        );
        assert_eq!(pace.due(&routes, Stage::Draining(1)), None);
    }
}

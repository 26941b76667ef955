//! What became of the messages when routes have ended. Pure.

use millrace_contract::status::{Phase, RouteStatus};

use crate::exit::Exit;
use crate::view::table::equation;
use crate::view::text::{Line, Style, counted};

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The last status of each route.
    pub(crate) routes: Vec<RouteStatus>,
    /// Messages received before the end and not accounted for: they are still at the MQTT broker.
    pub(crate) left: u64,
    /// Whether a route had stopped at a message.
    pub(crate) stopped: bool,
}

impl Outcome {
    /// From the statuses when the routes were told to stop and when they had ended. What a connection lost before
    /// that is the broker's to send again, as always; what the drain did not confirm is `left`.
    pub(crate) fn new(at_stop: &[RouteStatus], routes: Vec<RouteStatus>) -> Self {
        let returned = |routes: &[RouteStatus]| routes.iter().map(|route| route.ledger.returned).sum::<u64>();
        let in_flight: u64 = routes.iter().map(|route| route.ledger.in_flight).sum();
        let left = in_flight + returned(&routes).saturating_sub(returned(at_stop));
        let stopped = at_stop.iter().any(|route| route.phase == Phase::Stopped);
        Self {
            routes,
            left,
            stopped,
        }
    }

    /// A route that stopped outranks messages left: it needs somebody to look at it.
    pub(crate) fn exit(&self) -> Exit {
        match (self.stopped, self.left) {
            (true, _) => Exit::RouteStopped,
            (false, 0) => Exit::Success,
            (false, _) => Exit::MessagesLeft,
        }
    }

    /// The final ledger, and what it means.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        for route in &self.routes {
            lines.push(Line::styled(id(route), Style::Bold));
            lines.push(Line::plain(format!("  {}", equation(&route.ledger))));
        }
        for route in self.routes.iter().filter(|_| self.stopped) {
            for problem in &route.problems {
                lines.push(Line::styled(
                    format!("{} stopped: {}", id(route), problem.message),
                    Style::Bad,
                ));
            }
        }
        lines.push(if self.left == 0 {
            Line::styled("Drained: every message received is accounted for.", Style::Good)
        } else {
            let left = counted(self.left, "message");
            Line::styled(
                format!("{left} not confirmed by Kafka: still at the MQTT broker, to be sent again."),
                Style::Warn,
            )
        });
        lines
    }
}

fn id(route: &RouteStatus) -> String {
    format!("{}/{}", route.namespace, route.name)
}

#[cfg(test)]
mod tests {
    use millrace_contract::Ledger;

    use super::*;
    use crate::view::table::tests::route;

    fn with(phase: Phase, ledger: Ledger) -> RouteStatus {
        RouteStatus {
            phase,
            ledger,
            ..route("telemetry")
        }
    }

    #[test]
    fn nothing_in_flight_is_success() {
        let ledger = Ledger {
            received: 9,
            written: 9,
            ..Ledger::default()
        };
        let outcome = Outcome::new(&[with(Phase::Running, ledger)], vec![with(Phase::Ended, ledger)]);
        assert_eq!((outcome.left, outcome.exit()), (0, Exit::Success));
    }

    #[test]
    fn messages_returned_by_an_earlier_outage_are_not_left_by_the_drain() {
        let before = Ledger {
            received: 9,
            written: 4,
            returned: 3,
            in_flight: 2,
            ..Ledger::default()
        };
        let after = Ledger {
            received: 9,
            written: 4,
            returned: 5,
            ..Ledger::default()
        };
        let outcome = Outcome::new(&[with(Phase::Running, before)], vec![with(Phase::Ended, after)]);
        assert_eq!((outcome.left, outcome.exit()), (2, Exit::MessagesLeft));
        let text: Vec<String> = outcome.lines().iter().map(|line| line.render(false)).collect();
        assert_eq!(
            text[2],
            "2 messages not confirmed by Kafka: still at the MQTT broker, to be sent again."
        );
    }

    #[test]
    fn a_stopped_route_shows_in_the_exit_code() {
        let ledger = Ledger {
            received: 1,
            in_flight: 1,
            ..Ledger::default()
        };
        let outcome = Outcome::new(&[with(Phase::Stopped, ledger)], vec![with(Phase::Ended, ledger)]);
        assert_eq!(outcome.exit(), Exit::RouteStopped);
    }
}

//! Shows routes while they run, and brings them to an end.

use std::future::Future;
use std::time::Duration;

use millrace_contract::status::{Phase, RouteStatus};
use tokio::time::MissedTickBehavior;

use crate::fleet::Fleet;
use crate::outcome::Outcome;
use crate::signals::Signals;
use crate::view::output::{Caption, Output, Stage};

const REDRAW: Duration = Duration::from_millis(500);
/// How often to look whether draining workers have ended.
const LOOK: Duration = Duration::from_millis(50);

/// Shows the routes until `until` resolves or none of them is running any more.
pub(crate) async fn watch(
    fleet: &Fleet,
    output: &mut Output,
    caption: Caption<'_>,
    until: impl Future<Output = ()>,
) {
    let mut redraw = tokio::time::interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(until);
    loop {
        tokio::select! {
            _ = redraw.tick() => {}
            () = &mut until => return,
        }
        let routes = fleet.statuses();
        show(output, &routes, Stage::Running, caption);
        if routes
            .iter()
            .all(|route| matches!(route.phase, Phase::Stopped | Phase::Ended))
        {
            return;
        }
    }
}

/// Stops the routes and shows how far they are with that. A signal ends it without waiting for Kafka.
pub(crate) async fn drain(
    fleet: &Fleet,
    output: &mut Output,
    caption: Caption<'_>,
    signals: &mut Signals,
) -> Outcome {
    let at_stop = fleet.statuses();
    fleet.stop();
    let mut giving_up = false;
    let mut redraw = tokio::time::interval(REDRAW);
    let mut look = tokio::time::interval(LOOK);
    while !fleet.ended() {
        tokio::select! {
            _ = look.tick() => {}
            _ = redraw.tick() => {
                let routes = fleet.statuses();
                let waiting = routes.iter().map(|route| route.ledger.in_flight).sum();
                let stage = if giving_up { Stage::GivingUp } else { Stage::Draining(waiting) };
                show(output, &routes, stage, caption);
            }
            () = signals.next(), if !giving_up => {
                giving_up = true;
                fleet.abort();
            }
        }
    }
    Outcome::new(&at_stop, fleet.statuses())
}

/// A terminal or a reader that has gone away is no reason to stop moving messages: SIGHUP says what its owner wants.
fn show(output: &mut Output, routes: &[RouteStatus], stage: Stage, caption: Caption<'_>) {
    output.show(routes, stage, caption).ok();
}

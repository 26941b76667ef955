//! Records whose way has ended are entered in the books.

use std::time::Instant;

use super::Runner;
use crate::delivery::outgoing::{Failed, Outgoing, Step};
use crate::delivery::progress::Ticket;

/// How the way of a record has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The broker has confirmed it: so many bytes of payload.
    Written(u64),
    /// Kafka has confirmed its dead letter.
    DeadLettered,
    Discarded,
    Expired,
    /// It was not published after all, or not confirmed: it is read again.
    Dropped,
}

/// A record whose way has ended.
pub(super) struct Ended {
    ticket: Ticket,
    charge: usize,
    way: Way,
    read_us: Option<u64>,
}

impl Ended {
    pub(super) fn of_outgoing(outgoing: &Outgoing, way: Way) -> Self {
        Self {
            ticket: outgoing.ticket,
            charge: outgoing.charge(),
            way,
            read_us: Some(outgoing.read_us),
        }
    }

    pub(super) fn of_failed(failed: &Failed, way: Way) -> Self {
        Self {
            ticket: failed.ticket,
            charge: failed.charge,
            way,
            read_us: None,
        }
    }

    pub(super) fn of_step(step: &Step, way: Way) -> Self {
        match step {
            Step::Publish(outgoing) => Self::of_outgoing(outgoing, way),
            Step::Undeliverable(failed) => Self::of_failed(failed, way),
        }
    }
}

impl Runner {
    /// Enters in the books what has ended. The ledger balances before and after.
    pub(super) fn settle(&mut self) {
        if self.ended.is_empty() {
            return;
        }
        let shared = &self.task.shared;
        let now = shared.us(Instant::now());
        let mut charge = 0;
        {
            let mut progress = shared.progress();
            let mut view = shared.view();
            for ended in self.ended.drain(..) {
                charge += ended.charge;
                let is_ours = match ended.way {
                    Way::Dropped => progress.dropped(ended.ticket),
                    _ => progress.arrived(ended.ticket),
                };
                let ledger = &mut view.ledger;
                let bucket = match ended.way {
                    Way::Written(_) => &mut ledger.written,
                    Way::DeadLettered => &mut ledger.dead_lettered,
                    Way::Discarded => &mut ledger.discarded,
                    Way::Expired => &mut ledger.expired,
                    // Its partition went before: it has been counted then.
                    Way::Dropped if !is_ours => continue,
                    Way::Dropped => &mut ledger.returned,
                };
                *bucket += 1;
                match is_ours {
                    true => ledger.in_flight -= 1,
                    false => ledger.returned -= 1,
                }
                if let (Way::Written(bytes), Some(read_us)) = (ended.way, ended.read_us) {
                    view.bytes_written += bytes;
                    view.latency.record(now.saturating_sub(read_us));
                }
            }
        }
        shared.budget.give_back(charge);
        shared.fewer_are_under_way();
    }
}

//! The lanes of this process, and what each is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use millrace_contract::Live;
use millrace_contract::status::LaneState;
use tokio::sync::watch;

use super::totals::Totals;
use crate::config::LivePlan;
use crate::lane_report::LaneReport;
use crate::lane_task::{Command, Orders};
use crate::pipeline::Stop;

/// Bytes a worker may have in its producer, overhead included: its bound on memory while Kafka is away.
pub(super) const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// The lanes of this process, and what they are told.
pub(super) struct Lanes {
    pub(super) handles: BTreeMap<u16, Handle>,
    /// What those that have gone have done.
    pub(super) gone: Totals,
    /// What lanes act by, or take over just now.
    pub(super) live: Arc<LivePlan>,
    /// What that was made from.
    pub(super) written: Live,
    /// The hash of the last configuration that all lanes have acted by.
    pub(super) acting: String,
    /// The generation of the assignment.
    pub(super) generation: u64,
    /// Lanes to read.
    pub(super) owned: Vec<u16>,
    /// Lanes to end for good.
    pub(super) leaving: Vec<u16>,
    /// The message that stopped the route.
    pub(super) stopped: Option<Stop>,
    /// The route ends.
    pub(super) end: Option<Command>,
    /// A changed configuration that cannot be used, and why.
    pub(super) refused: Option<String>,
    pub(super) reloads: u64,
    pub(super) refusals: u64,
    /// Takes the threads that are to be waited for at the end; gone when it has them.
    pub(super) last: Option<Sender<Vec<JoinHandle<()>>>>,
}

/// A lane of this process.
pub(super) struct Handle {
    pub(super) report: Arc<LaneReport>,
    pub(super) orders: watch::Sender<Orders>,
    pub(super) thread: Option<JoinHandle<()>>,
    /// The login it is told to use.
    pub(super) login: u64,
    /// How often it has been told to connect anew for another reason.
    pub(super) again: u64,
}

impl Lanes {
    pub(super) fn new(live: LivePlan, written: Live, last: Sender<Vec<JoinHandle<()>>>) -> Self {
        Self {
            handles: BTreeMap::new(),
            gone: Totals::default(),
            acting: live.hash.clone(),
            live: Arc::new(live),
            written,
            generation: 0,
            owned: Vec::new(),
            leaving: Vec::new(),
            stopped: None,
            end: None,
            refused: None,
            reloads: 0,
            refusals: 0,
            last: Some(last),
        }
    }

    /// What a lane is to do.
    pub(super) fn command(&self, lane: u16, is_operated: bool) -> Command {
        let (owned, leaving) = (self.owned.contains(&lane), self.leaving.contains(&lane));
        match (self.end, &self.stopped) {
            (Some(end), _) => end,
            (None, Some(_)) if !is_operated => Command::Drain,
            (None, Some(_)) if owned || leaving => Command::Hold,
            (None, _) if owned => Command::Run,
            (None, _) if leaving => Command::Leave,
            (None, _) => Command::Release,
        }
    }

    /// The orders of a lane at this moment.
    pub(super) fn orders(
        &self,
        lane: u16,
        is_operated: bool,
        busy: usize,
        (login, again): (u64, u64),
    ) -> Orders {
        Orders {
            command: self.command(lane, is_operated),
            live: Arc::clone(&self.live),
            max_buffered: MAX_BUFFERED / busy.max(1),
            login,
            again,
        }
    }

    /// Gives every lane its orders, where they have changed.
    pub(super) fn tell(&self, is_operated: bool, busy: usize) {
        for (lane, handle) in &self.handles {
            let new = self.orders(*lane, is_operated, busy, (handle.login, handle.again));
            handle.orders.send_if_modified(|orders| {
                // Nothing follows giving up.
                let changed = orders.command != Command::Abort
                    && (orders.command != new.command
                        || orders.live.revision != new.live.revision
                        || orders.max_buffered != new.max_buffered
                        || orders.login != new.login
                        || orders.again != new.again);
                if changed {
                    *orders = new;
                }
                changed
            });
        }
    }

    /// Takes out the lanes that belong to this process no more and have nothing left to do.
    pub(super) fn take_idle(&mut self) -> Vec<Handle> {
        let is_over = |(lane, handle): &(&u16, &Handle)| {
            let (status, view, _) = handle.report.view();
            !self.owned.contains(lane)
                && !self.leaving.contains(lane)
                && matches!(status.state, LaneState::Down | LaneState::Left | LaneState::Idle)
                && view.waiting == 0
                && view.ledger.in_flight == 0
        };
        let over: Vec<u16> = self
            .handles
            .iter()
            .filter(is_over)
            .map(|(lane, _)| *lane)
            .collect();
        let over: Vec<Handle> = over.iter().filter_map(|lane| self.handles.remove(lane)).collect();
        for handle in &over {
            self.gone.add(&handle.report);
        }
        over
    }

    /// Hands over the threads to be waited for: the route ends.
    pub(super) fn hand_over(&mut self) {
        let threads = self
            .handles
            .values_mut()
            .filter_map(|handle| handle.thread.take());
        let threads: Vec<_> = threads.collect();
        if let Some(last) = self.last.take() {
            // Nobody waits only when that thread has panicked.
            last.send(threads).ok();
        }
    }
}

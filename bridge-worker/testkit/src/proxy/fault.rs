//! What the proxy does to its connections, changed by the test and read by the pumps.

use super::Direction;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to data in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Flow {
    #[default]
    Pass,
    Swallow,
    Stall,
    Slow {
        bytes_per_second: u32,
        delay: Duration,
    },
}

#[derive(Debug, Default)]
struct State {
    flows: [Flow; 2],
    cut: bool,
    /// Connections of an earlier generation are reset.
    generation: u64,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    state: Mutex<State>,
}

impl Faults {
    pub(super) fn pass(&self) {
        let mut state = self.lock();
        state.flows = [Flow::Pass; 2];
        state.cut = false;
    }

    pub(super) fn cut(&self) {
        let mut state = self.lock();
        state.cut = true;
        state.generation += 1;
    }

    pub(super) fn reset(&self) {
        self.lock().generation += 1;
    }

    pub(super) fn swallow(&self, direction: Direction) {
        self.lock().flows[direction as usize] = Flow::Swallow;
    }

    pub(super) fn stall(&self, direction: Direction) {
        self.lock().flows[direction as usize] = Flow::Stall;
    }

    pub(super) fn slow(&self, bytes_per_second: u32, delay: Duration) {
        self.lock().flows = [Flow::Slow {
            bytes_per_second,
            delay,
        }; 2];
    }

    pub(super) fn is_cut(&self) -> bool {
        self.lock().cut
    }

    pub(super) fn generation(&self) -> u64 {
        self.lock().generation
    }

    /// What to do with data of a connection of `generation` now; `None`: reset it.
    pub(super) fn flow(&self, direction: Direction, generation: u64) -> Option<Flow> {
        let state = self.lock();
        (state.generation == generation).then(|| state.flows[direction as usize])
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

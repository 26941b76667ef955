//! Lanes that had to go to a later url of the broker come back to an earlier one, lane by lane.

use std::sync::{Arc, Weak};

use millrace_contract::status::{LaneState, LaneStatus};

use super::{Route, lock};
use crate::failback::Failback;
use crate::lane_report::LaneView;

/// Looks at the earlier urls until the route has ended.
pub(super) async fn watch(route: Weak<Route>, mut failback: Failback) {
    loop {
        failback.pause().await;
        let Some(route) = route.upgrade() else {
            return;
        };
        if lock(&route.lanes).end.is_some() {
            return;
        }
        let away = route.away(0);
        let Some(farthest) = away.iter().map(|(_, place)| *place).max() else {
            failback.returned(true);
            continue;
        };
        if let Some(place) = failback.look(farthest, &route.credentials).await {
            failback.returned(route.go_back(place).await);
        }
    }
}

impl Route {
    /// Lanes that are up at a later url than this, and where.
    fn away(&self, than: usize) -> Vec<(u16, usize)> {
        let lanes = lock(&self.lanes);
        let places = lanes.handles.iter().map(|(lane, handle)| {
            let (status, view, _) = handle.report.view();
            (status.state == LaneState::Up).then_some((*lane, view.place))
        });
        places.flatten().filter(|(_, place)| *place > than).collect()
    }

    /// Has each of them in turn connect anew; the next one when it is up. Not all of them, if the first to come back finds
    /// the url gone again: then it is false.
    async fn go_back(self: &Arc<Self>, to: usize) -> bool {
        for (lane, _) in self.away(to) {
            let Some(connections) = self.tell_again(lane) else {
                continue;
            };
            let mut place = to;
            let is_new = |status: &LaneStatus, view: &LaneView| {
                place = view.place;
                status.connections > connections
            };
            if !self.wait_for_return(lane, is_new).await || place > to {
                return false;
            }
        }
        true
    }

    /// Tells a lane to connect anew. Returns how many connections it has had.
    fn tell_again(&self, lane: u16) -> Option<u64> {
        let mut lanes = lock(&self.lanes);
        if lanes.end.is_some() {
            return None;
        }
        let handle = lanes.handles.get_mut(&lane)?;
        handle.again += 1;
        let connections = handle.report.view().0.connections;
        self.tell(&lanes);
        Some(connections)
    }
}

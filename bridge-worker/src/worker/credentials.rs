//! Changed credentials are taken over lane by lane.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millrace_contract::status::{LaneState, LaneStatus};

use super::{Route, lock};
use crate::credentials::Trial;
use crate::lane_report::LaneView;

/// How long a lane may take to come back before the next one is told all the same.
const RETURN: Duration = Duration::from_secs(30);
/// How often a lane that is on its way back is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// Looks at the files until the route has ended.
pub(super) async fn watch(route: Weak<Route>) {
    let mut trial = Trial::default();
    loop {
        tokio::time::sleep(Trial::PACE).await;
        let Some(route) = route.upgrade() else {
            return;
        };
        if lock(&route.lanes).end.is_some() {
            return;
        }
        let session = route.plan.lane(0).session;
        let protocol = route.settings.broker.protocol_version;
        trial.look(&route.credentials, &session, protocol).await;
        // Another lane may have found it to work.
        route.take_over_login().await;
    }
}

impl Route {
    /// Has each lane in turn connect anew, unless it already has with the login in use; the next one when it is up.
    async fn take_over_login(self: &Arc<Self>) {
        let revision = self.credentials.known().revision();
        let lanes: Vec<u16> = lock(&self.lanes).handles.keys().copied().collect();
        for lane in lanes {
            if self.tell_login(lane, revision) {
                self.wait_for_return(lane, |_, view| view.login >= revision).await;
            }
        }
    }

    /// Tells a lane; false when there was nothing to tell.
    fn tell_login(&self, lane: u16, revision: u64) -> bool {
        let mut lanes = lock(&self.lanes);
        if lanes.end.is_some() {
            return false;
        }
        match lanes.handles.get_mut(&lane) {
            Some(handle) if handle.login < revision => handle.login = revision,
            _ => return false,
        }
        self.tell(&lanes);
        true
    }

    /// Waits until a lane that was told to connect anew is up with a connection that `is_new`, or has none that it would
    /// need. False: it takes too long.
    pub(super) async fn wait_for_return(
        &self,
        lane: u16,
        mut is_new: impl FnMut(&LaneStatus, &LaneView) -> bool,
    ) -> bool {
        let deadline = Instant::now() + RETURN;
        while !self.has_returned(lane, &mut is_new) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(GLANCE).await;
        }
        true
    }

    fn has_returned(&self, lane: u16, is_new: &mut impl FnMut(&LaneStatus, &LaneView) -> bool) -> bool {
        let lanes = lock(&self.lanes);
        lanes.end.is_some()
            || lanes.handles.get(&lane).is_none_or(|handle| {
                let (status, view, _) = handle.report.view();
                match status.state {
                    LaneState::Idle | LaneState::Down | LaneState::Left => true,
                    LaneState::Up | LaneState::Leaving => is_new(&status, &view),
                    LaneState::Connecting | LaneState::Waiting | LaneState::TakenOver => false,
                }
            })
    }
}

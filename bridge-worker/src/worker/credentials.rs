//! Changed credentials are taken over lane by lane.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millrace_contract::status::LaneState;

use super::{Route, lock};
use crate::credentials::Trial;

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
            let deadline = Instant::now() + RETURN;
            if !self.tell_login(lane, revision) {
                continue;
            }
            while Instant::now() < deadline && !self.uses(lane, revision) {
                tokio::time::sleep(GLANCE).await;
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

    /// Whether a lane is up with a login of this revision, or has no connection that would need it.
    fn uses(&self, lane: u16, revision: u64) -> bool {
        let lanes = lock(&self.lanes);
        lanes.end.is_some()
            || lanes.handles.get(&lane).is_none_or(|handle| {
                let (status, view, _) = handle.report.view();
                match status.state {
                    LaneState::Idle | LaneState::Down | LaneState::Left => true,
                    LaneState::Up | LaneState::Leaving => view.login >= revision,
                    LaneState::Connecting | LaneState::Waiting | LaneState::TakenOver => false,
                }
            })
    }
}

//! Changed credentials: tried on a connection of their own, then taken over lane by lane.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use millrace_contract::status::LaneState;

use super::{Route, lock};
use crate::backoff::Backoff;
use crate::logins::Attempt;
use crate::mqtt::{Goodbye, Login, negotiate};
use crate::random;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a lane may take to come back before the next one is told all the same.
const RETURN: Duration = Duration::from_secs(30);
/// How often a lane that is on its way back is looked at.
const GLANCE: Duration = Duration::from_millis(50);

/// Looks at the files until the route has ended.
pub(super) async fn watch(route: Weak<Route>) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(route) = route.upgrade() else {
            return;
        };
        if lock(&route.lanes).end.is_some() {
            return;
        }
        watch.look(&route).await;
    }
}

/// What has been tried.
#[derive(Default)]
struct Watch {
    tried: Option<Login>,
    again: Option<Instant>,
    backoff: Backoff,
}

impl Watch {
    async fn look(&mut self, route: &Arc<Route>) {
        let Some(login) = route.logins.changed() else {
            // Another lane may have found it to work.
            self.tried = None;
            route.take_over_login().await;
            return;
        };
        if self.tried.as_ref() != Some(&login) {
            (self.tried, self.again) = (Some(login.clone()), None);
            self.backoff.reset();
        }
        if self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        let mut options = route.plan.lane(0).session;
        let broker = &route.settings.broker;
        options.client_id = format!(
            "{}-{}-try-{}",
            broker.client_id_prefix,
            route.settings.route.session_id,
            random::word()
        );
        options.clean_start = true;
        options.session_expiry_seconds = 0;
        match negotiate(&options, Some(&login), broker.protocol_version).await {
            Ok((connection, _)) => {
                connection.disconnect(Goodbye::End).await;
                route.logins.has_worked(Attempt(Some(login)));
                tracing::info!("changed credentials work: lanes take them over one by one");
                route.take_over_login().await;
            }
            Err(error) => {
                if error.is_refusal() {
                    route.logins.was_refused(&error.to_string());
                }
                // A broker that is away says nothing of credentials.
                self.again = Some(Instant::now() + LOOK + self.backoff.next());
            }
        }
    }
}

impl Route {
    /// Has each lane in turn connect anew, unless it already has with the login in use; the next one when it is up.
    async fn take_over_login(self: &Arc<Self>) {
        let revision = self.logins.revision();
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

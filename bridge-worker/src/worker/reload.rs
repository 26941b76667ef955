//! Another configuration while the route runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use millrace_contract::Live;

use super::lanes::Lanes;
use super::{Route, Worker, lock};
use crate::config::{self, ConfigError};

impl Worker {
    /// Has every lane take over another configuration, between two messages and without a new connection. `hash` is
    /// what `/status` reports once all lanes act by it. A route that a message had stopped goes on: the message comes
    /// again and is mapped anew.
    ///
    /// # Errors
    /// When it cannot be used: the one before stays in use, and `/status` says so.
    pub fn reload(&self, live: &Live, hash: String) -> Result<(), ConfigError> {
        self.route.reload(live, hash)
    }

    /// A changed configuration cannot even be read: `message` says why. The one before stays in use, and `/status`
    /// says so until another one can be used.
    pub fn refuse_reload(&self, message: &str) {
        self.route.refuse(&mut lock(&self.route.lanes), message);
    }
}

impl Route {
    fn reload(&self, live: &Live, hash: String) -> Result<(), ConfigError> {
        let mut lanes = lock(&self.lanes);
        if lanes.refused.is_none() && lanes.written.without_survey() == live.without_survey() {
            // Nothing that a lane would act by is another.
            self.surveys.want(live.survey.clone());
            lanes.live = Arc::new(lanes.live.renamed(hash));
            return Ok(());
        }
        let dry = self.dry(&lanes);
        let checked = self.plan.check(live.lanes);
        let plan = match checked.and_then(|()| lanes.live.follow(live, hash, &dry)) {
            Ok(plan) => plan,
            Err(error) => {
                self.refuse(&mut lanes, &error.to_string());
                return Err(error);
            }
        };
        tracing::info!(live = plan.hash, "taking over a changed configuration");
        self.topics.renew(config::known_topics(live));
        self.producer.forget_topics();
        self.surveys.want(live.survey.clone());
        self.producer.set_max_message_bytes(plan.max_message_bytes);
        lanes.live = Arc::new(plan);
        lanes.written = live.clone();
        lanes.refused = None;
        lanes.stopped = None;
        lanes.reloads += 1;
        self.tell(&lanes);
        Ok(())
    }

    fn refuse(&self, lanes: &mut Lanes, message: &str) {
        let message = format!(
            "the changed configuration cannot be used: {message}; the one before is still in use: correct the route, \
             or use a worker of the operator's release"
        );
        tracing::error!("{message}");
        lanes.refused = Some(message);
        lanes.refusals += 1;
    }

    /// Filters that are not to be read any more and that have run dry in all lanes of this process.
    fn dry(&self, lanes: &Lanes) -> BTreeSet<String> {
        let mut dry = lanes.live.unread();
        for lane in &lanes.owned {
            match lanes.handles.get(lane).map(|handle| handle.report.view().1) {
                Some(view) if view.revision == lanes.live.revision => {
                    dry.retain(|filter| !view.late.contains(filter));
                }
                // It has still to learn which these are.
                _ => dry.clear(),
            }
        }
        dry
    }
}

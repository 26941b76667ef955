//! What a lane keeps for as long as it runs.

use std::sync::Arc;

use millrace_contract::{Ordering, ProtocolVersion, Settings, SharedSubscriptions, VERSION};

use super::{ConfigError, addresses, placement};
use crate::mqtt::SessionOptions;

/// What a lane keeps for as long as it runs.
#[derive(Clone, Debug)]
pub(crate) struct LanePlan {
    pub(crate) lane: u16,
    /// Of how many.
    pub(crate) lanes: u16,
    /// `namespace/name`, for dead letters and logs.
    pub(crate) route: Arc<str>,
    pub(crate) session: SessionOptions,
    pub(crate) protocol: ProtocolVersion,
    /// `$share/<prefix>-<session id>/`, when every lane reads every filter.
    pub(crate) share: Option<Arc<str>>,
    /// Share subscriptions even if the broker says it cannot.
    pub(crate) assume_shared: bool,
}

impl LanePlan {
    /// Whether this lane is the one, or one of those, to read a filter.
    pub(crate) fn reads(&self, wire: &str) -> bool {
        self.share.is_some() || placement::lane_of(wire, self.lanes) == self.lane
    }

    /// A filter as this lane subscribes to it.
    pub(crate) fn path(&self, wire: &str) -> String {
        match &self.share {
            Some(share) => format!("{share}{wire}"),
            None => wire.to_owned(),
        }
    }
}

/// Checks settings and says what each lane of the route is.
pub(crate) fn plan(settings: &Settings) -> Result<Vec<LanePlan>, ConfigError> {
    if settings.version.abs_diff(VERSION) > 1 {
        return Err(ConfigError::Version(settings.version));
    }
    let (broker, route) = (&settings.broker, &settings.route);
    let is_shared = settings.lanes.ordering == Ordering::Unordered;
    if is_shared && broker.shared_subscriptions == SharedSubscriptions::Unsupported {
        return Err(ConfigError::SharedUnsupported);
    }
    let addresses = addresses(broker)?;
    let name: Arc<str> = format!("{}/{}", route.namespace, route.name).into();
    let client = format!("{}-{}", broker.client_id_prefix, route.session_id);
    let share: Option<Arc<str>> = is_shared.then(|| format!("$share/{client}/").into());
    let lanes = settings.lanes.count.max(1);
    Ok((0..lanes)
        .map(|lane| LanePlan {
            lane,
            lanes,
            route: Arc::clone(&name),
            session: SessionOptions {
                addresses: addresses.clone(),
                client_id: format!("{client}-{lane}"),
                clean_start: false,
                session_expiry_seconds: broker.session_expiry_seconds,
                keep_alive_seconds: broker.keep_alive_seconds,
                receive_maximum: broker.receive_maximum,
                // Known when the lane connects.
                max_message_bytes: 0,
            },
            protocol: broker.protocol_version,
            share: share.clone(),
            assume_shared: broker.shared_subscriptions == SharedSubscriptions::Supported,
        })
        .collect())
}

//! What a lane keeps for as long as it runs.

use std::sync::Arc;

use millrace_contract::{Lanes, Ordering, ProtocolVersion, Settings, SharedSubscriptions, VERSION};

use super::{ConfigError, addresses, placement, server_name};
use crate::mqtt::SessionOptions;

/// What all lanes of a route keep for as long as they run.
#[derive(Clone, Debug)]
pub(crate) struct RoutePlan {
    /// `<prefix>-<session id>`
    client: String,
    /// That of lane 0.
    first: LanePlan,
    /// The MqttBroker says that it cannot share subscriptions.
    is_unsharing: bool,
}

/// What a lane keeps for as long as it runs.
#[derive(Clone, Debug)]
pub(crate) struct LanePlan {
    pub(crate) lane: u16,
    /// `namespace/name`, for dead letters and logs.
    pub(crate) route: Arc<str>,
    pub(crate) session: SessionOptions,
    pub(crate) protocol: ProtocolVersion,
    /// `$share/<prefix>-<session id>/`
    share: Arc<str>,
    /// Share subscriptions even if the broker says it cannot.
    pub(crate) assume_shared: bool,
}

impl RoutePlan {
    /// Checks settings.
    pub(crate) fn of(settings: &Settings) -> Result<Self, ConfigError> {
        if settings.version.abs_diff(VERSION) > 1 {
            return Err(ConfigError::Version(settings.version));
        }
        let (broker, route) = (&settings.broker, &settings.route);
        let client = format!("{}-{}", broker.client_id_prefix, route.session_id);
        let first = LanePlan {
            lane: 0,
            route: format!("{}/{}", route.namespace, route.name).into(),
            session: SessionOptions {
                addresses: addresses(broker)?,
                server_name: server_name(broker),
                client_id: format!("{client}-0"),
                clean_start: false,
                session_expiry_seconds: broker.session_expiry_seconds,
                keep_alive_seconds: broker.keep_alive_seconds,
                receive_maximum: broker.receive_maximum,
                // Known when the lane connects.
                max_message_bytes: 0,
            },
            protocol: broker.protocol_version,
            share: format!("$share/{client}/").into(),
            assume_shared: broker.shared_subscriptions == SharedSubscriptions::Supported,
        };
        Ok(Self {
            client,
            first,
            is_unsharing: broker.shared_subscriptions == SharedSubscriptions::Unsupported,
        })
    }

    pub(crate) fn lane(&self, lane: u16) -> LanePlan {
        let mut plan = self.first.clone();
        plan.lane = lane;
        plan.session.client_id = format!("{}-{lane}", self.client);
        plan
    }

    /// Whether the broker can be read by such lanes.
    pub(crate) fn check(&self, lanes: Lanes) -> Result<(), ConfigError> {
        if lanes.ordering == Ordering::Unordered && self.is_unsharing {
            return Err(ConfigError::SharedUnsupported);
        }
        Ok(())
    }
}

impl LanePlan {
    /// Whether this one of `lanes` is the one, or one of those, to read a filter.
    pub(super) fn reads(&self, wire: &str, lanes: Lanes) -> bool {
        match lanes.ordering {
            Ordering::Unordered => self.lane < lanes.count,
            Ordering::PerTopic => placement::lane_of(wire, lanes.count) == self.lane,
        }
    }

    /// A filter as this lane subscribes to it.
    pub(super) fn path(&self, wire: &str, ordering: Ordering) -> String {
        match ordering {
            Ordering::Unordered => format!("{}{wire}", self.share),
            Ordering::PerTopic => wire.to_owned(),
        }
    }
}

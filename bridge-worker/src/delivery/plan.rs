//! From a document to what the parts of a delivery need. Pure.

use std::sync::Arc;
use std::time::Duration;

use millrace_contract::{
    Consumer, ErrorAction, LiveToMqtt, NoMatchingSubscribers, ProtocolVersion, Settings, VERSION,
};
use millrace_mapping::RecordMapper;

use crate::config::{ConfigError, addresses, server_name};
use crate::mqtt::SessionOptions;

/// Largest packet taken from the broker, in bytes: it only answers.
const MAX_INBOUND: usize = 64 * 1024;

/// What a delivery keeps for as long as it runs.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `namespace/name`, for dead letters and logs.
    pub(crate) route: Arc<str>,
    pub(crate) consumer: Consumer,
    pub(crate) session: SessionOptions,
    pub(crate) protocol: ProtocolVersion,
    /// How many messages may be unanswered, as far as this side is concerned.
    pub(crate) window: u16,
}

impl Plan {
    /// Checks settings. `ordinal` tells this process from the route's others.
    pub(crate) fn of(settings: &Settings, ordinal: u32) -> Result<Self, ConfigError> {
        if settings.version.abs_diff(VERSION) > 1 {
            return Err(ConfigError::Version(settings.version));
        }
        let (broker, route) = (&settings.broker, &settings.route);
        let consumer = settings.consumer.clone().ok_or(ConfigError::Empty("consumer"))?;
        if consumer.topics.is_empty() {
            return Err(ConfigError::Empty("consumer.topics"));
        }
        Ok(Self {
            route: format!("{}/{}", route.namespace, route.name).into(),
            consumer,
            session: SessionOptions {
                addresses: addresses(broker)?,
                server_name: server_name(broker),
                client_id: format!("{}-{}-out-{ordinal}", broker.client_id_prefix, route.session_id),
                clean_start: true,
                session_expiry_seconds: broker.session_expiry_seconds,
                keep_alive_seconds: broker.keep_alive_seconds,
                receive_maximum: broker.receive_maximum,
                max_message_bytes: MAX_INBOUND,
            },
            protocol: broker.protocol_version,
            window: broker.receive_maximum.max(1),
        })
    }
}

/// What a delivery takes over while it runs: checked, so that it cannot fail on it.
#[derive(Debug)]
pub(crate) struct LivePlan {
    /// Grows with every plan of the process.
    pub(crate) revision: u64,
    /// SHA-256 of the configuration as it was read. Empty when it came with the rest of the document.
    pub(crate) hash: String,
    pub(crate) mapper: RecordMapper,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<Duration>,
    pub(crate) no_subscribers: NoMatchingSubscribers,
    pub(crate) action: ErrorAction,
    pub(crate) dead_letter_topic: Option<String>,
    /// Records that do not stop the route: `topic[partition]@offset`.
    pub(crate) skip: Vec<String>,
    pub(crate) max_message_bytes: usize,
    pub(crate) failover: Duration,
    pub(crate) drain: Duration,
}

impl LivePlan {
    /// # Errors
    /// What is wrong with the configuration, with its place.
    pub(crate) fn new(live: &LiveToMqtt, hash: String, revision: u64) -> Result<Self, ConfigError> {
        let publishing = &live.publishing;
        if publishing.qos > 2 {
            return Err(ConfigError::Qos(publishing.qos));
        }
        Ok(Self {
            revision,
            hash,
            mapper: RecordMapper::compile(publishing, live.payload).map_err(ConfigError::Mapping)?,
            qos: publishing.qos,
            retain: publishing.retain,
            expiry: publishing
                .message_expiry_seconds
                .map(|seconds| Duration::from_secs(seconds.into())),
            no_subscribers: publishing.no_matching_subscribers,
            action: live.on_error.action,
            dead_letter_topic: live.on_error.dead_letter_topic.clone(),
            skip: live.on_error.skip.clone(),
            max_message_bytes: usize::try_from(live.max_message_bytes).unwrap_or(usize::MAX),
            failover: Duration::from_millis(live.timeouts.failover_ms),
            drain: Duration::from_millis(live.timeouts.drain_ms),
        })
    }

    /// Whether records are kept until they have arrived, because they may become dead letters.
    pub(crate) fn keeps_records(&self) -> bool {
        self.action == ErrorAction::DeadLetter && self.dead_letter_topic.is_some()
    }
}

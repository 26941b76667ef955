//! From a document to what each part of the worker needs. Pure: what is wrong with a document is said here,
//! before anything connects.

use std::sync::Arc;

use millrace_contract::{Broker, Document, Ordering, ProtocolVersion, SharedSubscriptions, VERSION};
use millrace_mapping::{Filter, Mapper, MappingError, Template, TopicPattern};
use thiserror::Error;

use crate::kafka::Topics;
use crate::mqtt::SessionOptions;
use crate::pipeline::LaneConfig;

/// Bytes a worker may have in its producer, overhead included: its bound on memory while Kafka is away.
const MAX_BUFFERED: usize = 64 * 1024 * 1024;

/// Why a document cannot be run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Written by a version of Millrace too far from this one.
    #[error(
        "version: this worker reads documents of version {VERSION}, give or take one, not {0}; use a worker of the same release"
    )]
    Version(u32),
    /// A url that is not `mqtt://host:port`.
    #[error("broker.urls: {0:?} is not of the form mqtt://host:port")]
    Url(String),
    /// No broker or no filter to work with.
    #[error("{0}: must not be empty")]
    Empty(&'static str),
    /// A filter that is not one.
    #[error("source.subscriptions[{index}].filter: {message}")]
    Filter {
        /// Which subscription.
        index: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A quality of service that does not exist.
    #[error("source.qos: {0} is none of 0, 1, 2")]
    Qos(u8),
    /// Shared subscriptions are needed and declared unsupported.
    #[error(
        "source.ordering: Unordered needs shared subscriptions, which broker.sharedSubscriptions rules out; use PerTopic"
    )]
    SharedUnsupported,
    /// The mapping cannot be compiled.
    #[error("mapping: {}", .0.iter().map(|error| error.to_string()).collect::<Vec<_>>().join("; "))]
    Mapping(Vec<MappingError>),
    /// A pattern of the sink's topics that is not one.
    #[error("sink.topics[{index}].pattern: {message}")]
    Pattern {
        /// Which entry.
        index: usize,
        /// What is wrong with it.
        message: String,
    },
}

/// What one lane needs.
#[derive(Debug)]
pub(crate) struct LanePlan {
    pub(crate) session: SessionOptions,
    pub(crate) protocol: ProtocolVersion,
    pub(crate) lane: LaneConfig,
    /// The filters this lane reads, with their names.
    pub(crate) filters: Vec<Filter>,
    pub(crate) failover_ms: u64,
    pub(crate) drain_ms: u64,
}

impl LanePlan {
    /// Compiles the route's mapping for this lane.
    ///
    /// # Errors
    /// What is wrong with the mapping.
    pub(crate) fn mapper(&self, document: &Document) -> Result<Mapper, ConfigError> {
        let filters = parse_filters(document)?;
        Mapper::compile(&document.live.mapping, &filters, document.live.source.payload)
            .map_err(ConfigError::Mapping)
    }
}

/// Checks a document and divides its work among the lanes.
pub(crate) fn plan(document: &Document) -> Result<Vec<LanePlan>, ConfigError> {
    if document.settings.version.abs_diff(VERSION) > 1 {
        return Err(ConfigError::Version(document.settings.version));
    }
    if document.live.source.qos > 2 {
        return Err(ConfigError::Qos(document.live.source.qos));
    }
    let shared = document.settings.lanes.ordering == Ordering::Unordered;
    if shared && document.settings.broker.shared_subscriptions == SharedSubscriptions::Unsupported {
        return Err(ConfigError::SharedUnsupported);
    }
    let addresses = addresses(&document.settings.broker)?;
    let filters = parse_filters(document)?;
    let lanes = document.settings.lanes.count.max(1);
    let busy = if shared {
        usize::from(lanes)
    } else {
        filters.len().min(lanes.into())
    };
    let prefix = &document.settings.broker.client_id_prefix;
    let session_id = &document.settings.route.session_id;
    let route: Arc<str> = format!(
        "{}/{}",
        document.settings.route.namespace, document.settings.route.name
    )
    .into();
    let credentials = document
        .settings
        .broker
        .credentials
        .as_ref()
        .map(|login| (login.username.clone(), login.password.clone()));
    Ok((0..lanes)
        .map(|lane| {
            let filters: Vec<Filter> = filters
                .iter()
                .enumerate()
                .filter(|(index, _)| shared || index % usize::from(lanes) == usize::from(lane))
                .map(|(_, filter)| filter.clone())
                .collect();
            let path = |filter: &Filter| match shared {
                true => format!("$share/{prefix}-{session_id}/{}", filter.wire()),
                false => filter.wire().to_owned(),
            };
            LanePlan {
                session: SessionOptions {
                    addresses: addresses.clone(),
                    client_id: format!("{prefix}-{session_id}-{lane}"),
                    credentials: credentials.clone(),
                    session_expiry_seconds: document.settings.broker.session_expiry_seconds,
                    keep_alive_seconds: document.settings.broker.keep_alive_seconds,
                    receive_maximum: document.settings.broker.receive_maximum,
                    filters: filters.iter().map(path).collect(),
                    shared,
                    assume_shared: document.settings.broker.shared_subscriptions
                        == SharedSubscriptions::Supported,
                    qos: document.live.source.qos,
                    max_message_bytes: usize::try_from(document.live.max_message_bytes)
                        .unwrap_or(usize::MAX / 2),
                },
                protocol: document.settings.broker.protocol_version,
                lane: LaneConfig {
                    lane,
                    route: Arc::clone(&route),
                    action: document.live.on_error.action,
                    dead_letter_topic: document.live.on_error.dead_letter_topic.clone(),
                    max_buffered: MAX_BUFFERED / busy.max(1),
                },
                filters,
                failover_ms: document.live.timeouts.failover_ms,
                drain_ms: document.live.timeouts.drain_ms,
            }
        })
        .collect())
}

/// The topics of a document: what may be done about them, and which are known before the first message.
pub(crate) fn topics(document: &Document) -> Result<Topics, ConfigError> {
    let policies = document
        .settings
        .sink
        .topics
        .iter()
        .enumerate()
        .map(|(index, policy)| {
            TopicPattern::parse(&policy.pattern)
                .map(|pattern| (pattern, policy.clone()))
                .map_err(|error| ConfigError::Pattern {
                    index,
                    message: error.to_string(),
                })
        });
    let literal = Template::parse(&document.live.mapping.topic)
        .ok()
        .filter(Template::is_literal)
        .map(|template| template.literal_prefix().to_owned());
    let known = literal
        .into_iter()
        .chain(document.live.on_error.dead_letter_topic.clone());
    Ok(Topics::new(policies.collect::<Result<_, _>>()?, known))
}

fn parse_filters(document: &Document) -> Result<Vec<Filter>, ConfigError> {
    if document.live.source.subscriptions.is_empty() {
        return Err(ConfigError::Empty("source.subscriptions"));
    }
    let subscriptions = document.live.source.subscriptions.iter().enumerate();
    subscriptions
        .map(|(index, subscription)| {
            Filter::parse(&subscription.filter).map_err(|error| ConfigError::Filter {
                index,
                message: error.to_string(),
            })
        })
        .collect()
}

fn addresses(broker: &Broker) -> Result<Vec<(String, u16)>, ConfigError> {
    if broker.urls.is_empty() {
        return Err(ConfigError::Empty("broker.urls"));
    }
    broker
        .urls
        .iter()
        .map(|url| address(url).ok_or_else(|| ConfigError::Url(url.clone())))
        .collect()
}

/// Host and port of `mqtt://host:port`; the port may be left out, an IPv6 host is in brackets.
fn address(url: &str) -> Option<(String, u16)> {
    let rest = url.strip_prefix("mqtt://")?.trim_end_matches('/');
    let (host, port) = match rest.strip_prefix('[') {
        Some(v6) => {
            let (host, after) = v6.split_once(']')?;
            (host, after.strip_prefix(':'))
        }
        None => match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        },
    };
    let port = port.map_or(Ok(1883), str::parse).ok()?;
    (!host.is_empty() && !host.contains(['/', '@', '?', '#'])).then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_a_host_and_a_port() {
        assert_eq!(address("mqtt://plant:1884"), Some(("plant".into(), 1884)));
        assert_eq!(address("mqtt://plant"), Some(("plant".into(), 1883)));
        assert_eq!(address("mqtt://[::1]:1885/"), Some(("::1".into(), 1885)));
        for wrong in [
            "plant:1883",
            "mqtt://",
            "mqtt://a:b",
            "mqtt://user:pw@plant:1883",
            "mqtt://plant/x",
            "tcp://a:1",
        ] {
            assert_eq!(address(wrong), None, "{wrong}");
        }
    }
}

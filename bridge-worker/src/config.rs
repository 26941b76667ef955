//! From a document to what each part of the worker needs. Pure: what is wrong with a document is said here,
//! before anything connects.

mod address;
mod lanes;
mod live;
mod placement;

use millrace_contract::{Live, Sink, VERSION};
use millrace_mapping::{MappingError, Template, TopicPattern};
use thiserror::Error;

use crate::kafka::Policies;

pub(crate) use address::server_name;
pub(crate) use address::{Address, addresses};
pub(crate) use lanes::{LanePlan, RoutePlan};
pub(crate) use live::{LivePlan, Reading, is_shared};

/// Why a document cannot be run.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Written by a version of Millrace too far from this one.
    #[error(
        "version: this worker reads documents of version {VERSION}, give or take one, not {0}; use a worker of the same release"
    )]
    Version(u32),
    /// A url that is none.
    #[error("broker.urls: {0:?} is not of the form mqtt://host:port, or mqtts, ws or wss instead of mqtt")]
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
        "lanes.ordering: Unordered needs shared subscriptions, which broker.sharedSubscriptions rules out; use PerTopic"
    )]
    SharedUnsupported,
    /// An entry of filters that the route had before.
    #[error("retired[{index}]: {message}")]
    Retired {
        /// Which entry.
        index: usize,
        /// What is wrong with it.
        message: String,
    },
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

/// What may be done about the topics of a sink.
pub(crate) fn topic_policies(sink: &Sink) -> Result<Policies, ConfigError> {
    let policies = sink.topics.iter().enumerate();
    policies
        .map(|(index, policy)| {
            TopicPattern::parse(&policy.pattern)
                .map(|pattern| (pattern, policy.clone()))
                .map_err(|error| ConfigError::Pattern {
                    index,
                    message: error.to_string(),
                })
        })
        .collect()
}

/// The topics that are known before the first message.
pub(crate) fn known_topics(live: &Live) -> Vec<String> {
    let literal = Template::parse(&live.mapping.topic)
        .ok()
        .filter(Template::is_literal)
        .map(|template| template.literal_prefix().to_owned());
    let known = literal.into_iter().chain(live.on_error.dead_letter_topic.clone());
    known.collect()
}

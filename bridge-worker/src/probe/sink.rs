//! What is in a Kafka cluster, and what of it is missing.

use std::sync::Arc;
use std::time::Instant;

use millrace_contract::probe::{Failure, SinkFound, SinkRequest, TopicFound};
use millrace_contract::status::Reason;
use rdkafka::error::RDKafkaErrorCode;

use crate::config;
use crate::kafka::{
    Caller, ClientSettings, KafkaCredentials, MAX_BATCH_BYTES, Made, OptionsError, TopicMaker, client_config,
};

/// Asks a cluster until `deadline`.
pub(super) fn ask(request: &SinkRequest, deadline: Instant) -> Result<SinkFound, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure {
        reason: Reason::KafkaUnreachable,
        message: format!(
            "no Kafka client can be made of the KafkaSink: {error}; correct its spec.librdkafka or spec.topics"
        ),
    };
    let credentials = KafkaCredentials::read(&request.sink).map_err(|error| Failure {
        reason: match error {
            OptionsError::Certificates(_) => Reason::KafkaTlsFailed,
            OptionsError::TokenEndpoint(_) => Reason::TokenUnavailable,
            _ => Reason::KafkaRefused,
        },
        message: error.to_string(),
    })?;
    let settings = ClientSettings {
        sink: request.sink.clone(),
        credentials,
        client_id: "millrace-probe".into(),
        max_message_bytes: 0,
    };
    let config = client_config(&settings, MAX_BATCH_BYTES, true).map_err(|error| unusable(&error))?;
    let policies = config::topic_policies(&request.sink).map_err(|error| unusable(&error))?;
    let maker = TopicMaker::new(policies, &config, Arc::clone(&settings.credentials))
        .map_err(|error| unusable(&error))?;
    let caller = Caller::new(&config, settings.credentials.bearer(), deadline);
    let asking = Asking {
        caller: caller.map_err(|error| unusable(&error))?,
        maker,
    };
    let first = request.topics.first().map(String::as_str);
    let metadata = asking.caller.metadata(first).map_err(|trouble| {
        let trouble = trouble.looked_into(&request.sink);
        let servers = request.sink.bootstrap_servers.join(", ");
        Failure {
            reason: trouble.reason(),
            message: match trouble.reason() {
                Reason::TokenUnavailable => {
                    format!(
                        "Kafka at {servers} cannot be asked without a token: {}",
                        trouble.told("")
                    )
                }
                _ => format!("no Kafka broker of {} answers: {}", servers, trouble.told("")),
            },
        }
    })?;
    let mut topics: Vec<TopicFound> = request.topics.iter().map(|name| asking.topic(name)).collect();
    topics.dedup_by(|a, b| a.name == b.name);
    Ok(SinkFound {
        cluster_id: asking.caller.cluster_id(),
        brokers: u32::try_from(metadata.brokers().len()).unwrap_or(u32::MAX),
        topics,
    })
}

/// A cluster that is being asked.
struct Asking {
    caller: Caller,
    maker: TopicMaker,
}

impl Asking {
    fn topic(&self, name: &str) -> TopicFound {
        let mut found = TopicFound {
            name: name.to_owned(),
            partitions: 0,
            created: false,
            problem: None,
        };
        loop {
            match self.look(name) {
                Look::There(partitions) => {
                    found.partitions = partitions;
                    return found;
                }
                Look::Missing if !found.created => match self.maker.make(name) {
                    Made::Created => found.created = true,
                    Made::Exists => {}
                    Made::No(message) => return problem(found, message),
                    Made::Trouble(error) => {
                        let message = format!(
                            "Kafka did not answer when topic {name:?} was to be created: {error}; it is tried again: \
                             if that does not help, look at the cluster's controller with Kafka's tools"
                        );
                        return problem(found, message);
                    }
                },
                Look::Missing | Look::Later => {}
                Look::No(message) => return problem(found, message),
            }
            if self.caller.is_late() {
                return problem(
                    found,
                    format!("Kafka says nothing definite of topic {name:?}: look at it with Kafka's tools"),
                );
            }
            self.caller.pause();
        }
    }

    fn look(&self, name: &str) -> Look {
        let metadata = match self.caller.metadata(Some(name)) {
            Ok(metadata) => metadata,
            Err(trouble) => {
                return Look::No(format!(
                    "Kafka did not answer for topic {name:?}: {}; it is tried again: if that does not help, look \
                     at the topic with Kafka's tools",
                    trouble.text()
                ));
            }
        };
        let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return Look::Later;
        };
        match topic.error().map(RDKafkaErrorCode::from) {
            None if topic.partitions().is_empty() => Look::Later,
            None => Look::There(u32::try_from(topic.partitions().len()).unwrap_or(u32::MAX)),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Look::Missing,
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Look::No(format!(
                "this client may not look at topic {name:?}: give its user Describe and Write on it"
            )),
            Some(RDKafkaErrorCode::InvalidTopic) => Look::No(format!(
                "{name:?} is no name for a Kafka topic: correct spec.to.kafka.topic of the TopicRoute, or its dead-letter \
                 topic"
            )),
            Some(_) => Look::Later,
        }
    }
}

/// What metadata says of a topic.
enum Look {
    There(u32),
    Missing,
    Later,
    No(String),
}

fn problem(mut found: TopicFound, message: String) -> TopicFound {
    found.problem = Some(Failure {
        reason: Reason::TopicMissing,
        message,
    });
    found
}

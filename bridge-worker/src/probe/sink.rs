//! What is in a Kafka cluster, and what of it is missing.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::probe::{Failure, SinkFound, SinkRequest, TopicFound};
use millrace_contract::status::Reason;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

use crate::config;
use crate::kafka::{ClientSettings, MAX_BATCH_BYTES, Made, TopicMaker, client_config};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Brokers that all refuse are asked for so long: they may be starting.
const REFUSED: Duration = Duration::from_secs(5);
/// Complaints taken at once.
const EVENTS: usize = 50;
/// How long a new topic may take to show its partitions, between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Asks a cluster until `deadline`.
pub(super) fn ask(request: &SinkRequest, deadline: Instant) -> Result<SinkFound, Failure> {
    let unusable = |error: &dyn std::fmt::Display| Failure {
        reason: Reason::KafkaUnreachable,
        message: format!(
            "no Kafka client can be made of the KafkaSink: {error}; correct its spec.librdkafka or spec.topics"
        ),
    };
    let settings = ClientSettings {
        sink: request.sink.clone(),
        client_id: "millrace-probe".into(),
        max_message_bytes: 0,
    };
    let config = client_config(&settings, MAX_BATCH_BYTES, true).map_err(|error| unusable(&error))?;
    let policies = config::topic_policies(&request.sink).map_err(|error| unusable(&error))?;
    let maker = TopicMaker::new(policies, &config).map_err(|error| unusable(&error))?;
    let client = BaseProducer::from_config_and_context(&config, Trouble::default())
        .map_err(|error| unusable(&error))?;
    let asking = Asking {
        client,
        maker,
        started: Instant::now(),
        deadline,
    };
    let first = request.topics.first().map(String::as_str);
    let metadata = asking.metadata(first).map_err(|why| Failure {
        reason: Reason::KafkaUnreachable,
        message: format!(
            "no Kafka broker of {} answers: {why}; check the KafkaSink's spec.bootstrapServers and the network in between, and that \
             the listener speaks neither TLS nor SASL",
            request.sink.bootstrap_servers.join(", ")
        ),
    })?;
    let mut topics: Vec<TopicFound> = request.topics.iter().map(|name| asking.topic(name)).collect();
    topics.dedup_by(|a, b| a.name == b.name);
    Ok(SinkFound {
        cluster_id: asking.client.client().fetch_cluster_id(asking.left()),
        brokers: u32::try_from(metadata.brokers().len()).unwrap_or(u32::MAX),
        topics,
    })
}

/// A cluster that is being asked.
struct Asking {
    client: BaseProducer<Trouble>,
    maker: TopicMaker,
    started: Instant,
    deadline: Instant,
}

impl Asking {
    fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.clamp(Duration::from_millis(1), ANSWER)
    }

    /// What the cluster says of a topic, or of itself. The error is librdkafka's last word.
    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, String> {
        loop {
            let error = match self.client.client().fetch_metadata(topic, self.left()) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            self.hear();
            let trouble = self.client.context();
            let is_hopeless = trouble.all_down() && self.started.elapsed() >= REFUSED;
            if is_hopeless || Instant::now() >= self.deadline {
                return Err(trouble.last().unwrap_or_else(|| error.to_string()));
            }
            // An answer that came at once was no wait.
            self.client.poll(LOOK_AGAIN);
        }
    }

    /// Takes what librdkafka complains about: one event a call.
    fn hear(&self) {
        for _ in 0..EVENTS {
            self.client.poll(Duration::ZERO);
        }
    }

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
            if Instant::now() >= self.deadline {
                return problem(
                    found,
                    format!("Kafka says nothing definite of topic {name:?}: look at it with Kafka's tools"),
                );
            }
            self.client.poll(LOOK_AGAIN);
        }
    }

    fn look(&self, name: &str) -> Look {
        let metadata = match self.metadata(Some(name)) {
            Ok(metadata) => metadata,
            Err(error) => {
                return Look::No(format!(
                    "Kafka did not answer for topic {name:?}: {error}; it is tried again: if that does not help, look \
                     at the topic with Kafka's tools"
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

/// What librdkafka complains about.
#[derive(Default)]
struct Trouble(Mutex<(Option<String>, bool)>);

impl Trouble {
    fn all_down(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl ClientContext for Trouble {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => inner.1 = true,
            _ => inner.0 = Some(reason.to_owned()),
        }
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }
}

impl ProducerContext for Trouble {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

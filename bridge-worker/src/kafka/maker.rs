//! Creating topics, as far as the sink allows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use millrace_contract::{Create, TopicPolicy};
use millrace_mapping::TopicPattern;
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};

use super::{KafkaCredentials, Quiet};

const TIMEOUT: Duration = Duration::from_secs(5);

/// What may be done about topics, by pattern.
pub(crate) type Policies = Vec<(TopicPattern, TopicPolicy)>;

type Admin = AdminClient<Quiet>;

/// The configuration of a topic, by Kafka's names.
type Configuration = HashMap<String, Option<String>>;

/// Creates topics, and describes them.
pub(crate) struct TopicMaker {
    policies: Policies,
    config: ClientConfig,
    credentials: Arc<KafkaCredentials>,
    /// Made with the credentials of that revision. `None` behind a request without an answer: the next is made by another
    /// client. One whose cluster was away can have lost all its brokers, and then finds none again.
    admin: Mutex<Option<(u64, Admin)>>,
    runtime: tokio::runtime::Runtime,
    /// Topics created so far, by the index of their policy.
    created: Mutex<HashMap<usize, u32>>,
}

/// What came of an attempt to create a topic.
#[derive(Debug)]
pub(crate) enum Made {
    /// It did not exist and does now.
    Created,
    /// Somebody else was faster.
    Exists,
    /// It may not or cannot be created, and why.
    No(String),
    /// Kafka did not answer.
    Trouble(String),
}

impl TopicMaker {
    /// # Errors
    /// When librdkafka refuses the settings or the system gives no runtime.
    pub(crate) fn new(
        policies: Policies,
        config: &ClientConfig,
        credentials: Arc<KafkaCredentials>,
    ) -> Result<Self, KafkaError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| KafkaError::ClientCreation(error.to_string()))?;
        Ok(Self {
            policies,
            config: config.clone(),
            admin: Mutex::new(Some((
                credentials.known().revision(),
                Admin::from_config_and_context(config, Quiet)?,
            ))),
            credentials,
            runtime,
            created: Mutex::default(),
        })
    }

    /// The policy for a topic: the longest pattern that matches it.
    fn policy(&self, topic: &str) -> Option<(usize, &TopicPolicy)> {
        let policies = self.policies.iter().enumerate();
        policies
            .filter(|(_, (pattern, _))| pattern.matches(topic))
            .max_by_key(|(_, (pattern, _))| pattern.specificity())
            .map(|(index, (_, policy))| (index, policy))
    }

    /// Creates a topic that does not exist, if that is allowed.
    pub(crate) fn make(&self, name: &str) -> Made {
        let Some((index, policy)) = self
            .policy(name)
            .filter(|(_, policy)| policy.create == Create::IfMissing)
        else {
            return Made::No(format!(
                "Kafka has no topic {name:?}: create it, or allow its creation by an entry of the sink's \
                 spec.topics with a matching pattern and create: IfMissing"
            ));
        };
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        let created = created.entry(index).or_default();
        if *created >= policy.max_topics {
            return Made::No(format!(
                "Kafka has no topic {name:?}, and {created} topics have been created for pattern {:?} already \
                 (maxTopics): raise maxTopics if this is meant",
                policy.pattern
            ));
        }
        let options = AdminOptions::new()
            .operation_timeout(Some(TIMEOUT))
            .request_timeout(Some(TIMEOUT));
        let topic = new_topic(name, policy);
        let outcome = self.ask(async |admin| admin.create_topics([&topic], &options).await);
        match outcome.map(|results| results.into_iter().next()) {
            Ok(Some(Ok(_))) => {
                *created += 1;
                tracing::info!(
                    topic = name,
                    partitions = policy.partitions,
                    "created a Kafka topic"
                );
                Made::Created
            }
            Ok(Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists)))) | Ok(None) => Made::Exists,
            Ok(Some(Err((_, code)))) => Made::No(format!(
                "Kafka has no topic {name:?} and refused to create it: {code}; create it by hand, or correct \
                 partitions, replicationFactor and config of the sink's spec.topics entry {:?}",
                policy.pattern
            )),
            Err(error) => Made::Trouble(error.to_string()),
        }
    }

    /// The configuration of a topic, by Kafka's names.
    ///
    /// # Errors
    /// When Kafka does not tell, with what it says instead: not every Kafka lets every client describe configurations.
    pub(super) fn describe(&self, topic: &str) -> Result<Configuration, Option<RDKafkaErrorCode>> {
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let topic = [ResourceSpecifier::Topic(topic)];
        let outcome = self.ask(async |admin| admin.describe_configs(&topic, &options).await);
        let answers = outcome.map_err(|error| error.rdkafka_error_code())?;
        let resource = answers.into_iter().next().ok_or(None)?.map_err(Some)?;
        let entries = resource.entries.into_iter();
        Ok(entries.map(|entry| (entry.name, entry.value)).collect())
    }

    /// What of a topic with so many replicas is not as the sink says of those that it creates, but for the number of
    /// partitions.
    pub(crate) fn drift(&self, topic: &str, replicas: u32) -> Vec<String> {
        let policy = self
            .policy(topic)
            .filter(|(_, policy)| policy.create == Create::IfMissing);
        let Some((_, policy)) = policy else {
            return Vec::new();
        };
        let mut drift = Vec::new();
        if i64::from(replicas) != i64::from(policy.replication_factor) {
            drift.push(format!(
                "replication factor {replicas} instead of {}",
                policy.replication_factor
            ));
        }
        if policy.config.is_empty() {
            return drift;
        }
        let config = match self.describe(topic) {
            Ok(config) => config,
            Err(code) => {
                if code == Some(RDKafkaErrorCode::TopicAuthorizationFailed) {
                    drift.push(
                        "a configuration that this client may not see (grant its user DescribeConfigs on the topic)"
                            .to_owned(),
                    );
                }
                return drift;
            }
        };
        for (name, wanted) in &policy.config {
            let found = config.get(name).and_then(Option::as_deref);
            if let Some(found) = found.filter(|found| found != wanted) {
                drift.push(format!("{name} {found} instead of {wanted}"));
            }
        }
        drift
    }

    /// Adds partitions to a topic, until it has so many. The error says what to do.
    pub(crate) fn grow(&self, topic: &str, partitions: u32) -> Result<(), String> {
        let options = AdminOptions::new()
            .operation_timeout(Some(TIMEOUT))
            .request_timeout(Some(TIMEOUT));
        let wanted = NewPartitions::new(topic, partitions as usize);
        let outcome = self.ask(async |admin| admin.create_partitions([&wanted], &options).await);
        match outcome.map(|results| results.into_iter().next()) {
            Ok(Some(Ok(_))) | Ok(None) => Ok(()),
            Ok(Some(Err((_, RDKafkaErrorCode::TopicAuthorizationFailed)))) => Err(format!(
                "Kafka does not let this client add partitions to {topic:?}: grant its user Alter on the topic, or set \
                 growth.policy to Recommend"
            )),
            Ok(Some(Err((_, code)))) => Err(format!("Kafka does not add partitions to {topic:?}: {code}")),
            Err(error) => Err(format!("Kafka does not answer: {error}; it is tried again")),
        }
    }

    fn ask<T>(&self, request: impl AsyncFnOnce(&Admin) -> KafkaResult<T>) -> KafkaResult<T> {
        let mut kept = self.admin.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = self.credentials.known().revision();
        let admin = match kept.take() {
            Some((of, admin)) if of == revision => admin,
            _ => {
                let mut config = self.config.clone();
                self.credentials.apply(&mut config);
                Admin::from_config_and_context(&config, Quiet)?
            }
        };
        // Without one there is no answer; why there is none is said in status.
        self.credentials.bearer().arm_now(admin.inner()).ok();
        let answer = self.runtime.block_on(request(&admin));
        *kept = answer.is_ok().then_some((revision, admin));
        answer
    }
}

fn new_topic<'a>(name: &'a str, policy: &'a TopicPolicy) -> NewTopic<'a> {
    let replication = TopicReplication::Fixed(policy.replication_factor);
    let mut topic = NewTopic::new(name, policy.partitions, replication);
    for (key, value) in &policy.config {
        topic = topic.set(key, value);
    }
    if policy.replication_factor >= 3 && !policy.config.contains_key("min.insync.replicas") {
        topic = topic.set("min.insync.replicas", "2");
    }
    topic
}

#[cfg(test)]
mod tests {
    use millrace_contract::{Compression, Producer, Sink};

    use super::*;

    fn policy(replication_factor: i32) -> TopicPolicy {
        TopicPolicy {
            pattern: "*".into(),
            create: Create::IfMissing,
            max_topics: 1,
            partitions: 1,
            replication_factor,
            config: Default::default(),
        }
    }

    #[test]
    fn a_topic_of_three_replicas_confirms_what_two_have_unless_it_is_told_otherwise() {
        fn settings(policy: &TopicPolicy) -> Vec<(&str, &str)> {
            new_topic("out", policy).config
        }
        assert_eq!(settings(&policy(3)), [("min.insync.replicas", "2")]);
        assert_eq!(settings(&policy(2)), []);
        let mut told = policy(3);
        told.config.insert("min.insync.replicas".into(), "3".into());
        assert_eq!(settings(&told), [("min.insync.replicas", "3")]);
    }

    #[test]
    fn a_client_that_got_no_answer_is_replaced() {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:1");
        let pattern = TopicPattern::parse("*").expect("a pattern");
        let sink = Sink {
            bootstrap_servers: Vec::new(),
            tls: None,
            sasl: None,
            librdkafka: Default::default(),
            topics: Vec::new(),
            producer: Producer {
                linger_ms: 0,
                compression: Compression::None,
            },
        };
        let credentials = KafkaCredentials::read(&sink).expect("nothing to read");
        let maker = TopicMaker::new(vec![(pattern, policy(1))], &config, credentials).expect("a maker");
        let has_client = || {
            let kept = maker.admin.lock().expect("no panic under it");
            kept.is_some()
        };
        assert!(has_client());
        assert!(matches!(maker.make("out"), Made::Trouble(_)));
        assert!(!has_client());
        // By another client, not a panic about none.
        assert!(matches!(maker.make("out"), Made::Trouble(_)));
    }
}

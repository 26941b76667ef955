//! Looking at topics, and at the consumer groups of others. Writes nothing.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use millrace_librdkafka::groups::{self, Group, Position};
use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};

use super::{ClientSettings, KafkaCredentials, OptionsError, Quiet, consumer_config};

const TIMEOUT: Duration = Duration::from_secs(5);
/// A group that is never joined, and has no offsets: see [`groups::committed`].
const GROUP: &str = "millrace.survey";

/// Asks Kafka.
pub(crate) struct Looker {
    config: ClientConfig,
    credentials: Arc<KafkaCredentials>,
    /// Made when it is first needed, and anew after a question without an answer, or with other credentials.
    client: RefCell<Option<(u64, BaseConsumer<Quiet>)>>,
}

impl Looker {
    /// # Errors
    /// When the settings cannot be used.
    pub(crate) fn new(settings: &ClientSettings) -> Result<Self, OptionsError> {
        let mut config = consumer_config(settings, GROUP, Duration::ZERO)?;
        config
            .set("statistics.interval.ms", "0")
            .set("allow.auto.create.topics", "false");
        Ok(Self {
            config,
            credentials: Arc::clone(&settings.credentials),
            client: RefCell::default(),
        })
    }

    /// Lets go of the client: nothing is asked for some time.
    pub(crate) fn rest(&self) {
        self.client.replace(None);
    }

    /// How many partitions a topic has, and how many replicas each of them; 0 if there is no such topic.
    pub(crate) fn shape(&self, topic: &str) -> Result<(u32, u32), String> {
        let metadata = self.ask(|client| client.fetch_metadata(Some(topic), TIMEOUT));
        let metadata = metadata.map_err(|error| error.to_string())?;
        let found = metadata.topics().iter().find(|one| one.name() == topic);
        let partitions = found.map_or(&[][..], |topic| topic.partitions());
        let replicas = partitions
            .iter()
            .map(|partition| partition.replicas().len())
            .min();
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Ok((number(partitions.len()), number(replicas.unwrap_or(0))))
    }

    /// The ends of partitions.
    pub(crate) fn ends(&self, partitions: &[(&str, i32)]) -> Result<Vec<Position>, String> {
        self.ask(|client| groups::ends(client.client(), partitions, TIMEOUT))
            .map_err(|error| error.to_string())
    }

    /// What a group has committed.
    pub(crate) fn committed(&self, group: &str) -> Result<Vec<Position>, String> {
        self.ask(|client| groups::committed(client, group, TIMEOUT))
            .map_err(|error| unknown(group, &error))
    }

    /// A consumer group.
    pub(crate) fn describe(&self, group: &str) -> Result<Group, String> {
        self.ask(|client| groups::describe(client.client(), group, TIMEOUT))
            .map_err(|error| unknown(group, &error))
    }

    fn ask<T>(&self, question: impl FnOnce(&BaseConsumer<Quiet>) -> KafkaResult<T>) -> KafkaResult<T> {
        let revision = self.credentials.known().revision();
        let client = match self.client.take() {
            Some((of, client)) if of == revision => client,
            _ => {
                let mut config = self.config.clone();
                self.credentials.apply(&mut config);
                BaseConsumer::from_config_and_context(&config, Quiet)?
            }
        };
        // Without one there is no answer; why there is none is said in status.
        self.credentials.bearer().arm_now(client.client()).ok();
        let answer = question(&client);
        // What it has to say of its connections is not kept.
        while client.poll(Duration::ZERO).is_some() {}
        self.client.replace(answer.is_ok().then_some((revision, client)));
        answer
    }
}

fn unknown(group: &str, error: &KafkaError) -> String {
    format!(
        "Kafka tells nothing of group {group:?}: {error}; grant this client's user Describe on the group if that is what it \
         lacks"
    )
}

//! Topics and readiness, through librdkafka.

use crate::wait::wait_until;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

/// Settings of all clients of the kit.
pub(crate) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        // The broker going away is what these tests are about: not worth a line on stderr.
        .set("log_level", "0");
    config
}

pub(super) fn is_ready(bootstrap: &str) -> bool {
    let Ok(client) = client(bootstrap).create::<BaseConsumer>() else {
        return false;
    };
    client
        .fetch_metadata(None, Duration::from_millis(500))
        .is_ok_and(|metadata| !metadata.brokers().is_empty())
}

#[track_caller]
pub(super) fn create_topic(bootstrap: &str, name: &str, partitions: i32, config: &[(&str, &str)]) {
    let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    topic.config = config.to_vec();
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("an admin client");
    let options = AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE));
    let results = block_on(admin.create_topics(&[topic], &options)).expect("Kafka to answer");
    assert!(
        results.iter().all(Result::is_ok),
        "creating topic {name}: {results:?}"
    );
    // The controller has it; a client asks the broker, which learns of it a moment later.
    let consumer: BaseConsumer = client(bootstrap).create().expect("a client");
    crate::wait_until(DEADLINE, "the topic in the metadata", || {
        partitions_of(&consumer, name) == Some(partitions)
    });
}

#[track_caller]
pub(super) fn delete_topic(bootstrap: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("an admin client");
    let options = AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE));
    let results = block_on(admin.delete_topics(&[name], &options)).expect("Kafka to answer");
    assert!(
        results.iter().all(Result::is_ok),
        "deleting topic {name}: {results:?}"
    );
}

/// Adds partitions to a topic until it has so many. Works with any cluster.
///
/// # Panics
/// When Kafka refuses, or does not answer within ten seconds.
#[track_caller]
pub fn add_partitions(bootstrap: &str, topic: &str, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("an admin client");
    let options = AdminOptions::new()
        .operation_timeout(Some(DEADLINE))
        .request_timeout(Some(DEADLINE));
    let wanted = NewPartitions::new(topic, partitions);
    let results = block_on(admin.create_partitions(&[wanted], &options)).expect("Kafka to answer");
    assert!(
        results.iter().all(Result::is_ok),
        "adding partitions to topic {topic}: {results:?}"
    );
}

#[track_caller]
pub(super) fn end_offsets(bootstrap: &str, topic: &str) -> u64 {
    partition_ends(bootstrap, topic).into_iter().sum()
}

/// The offsets of the ends of all partitions of a topic. Works with any cluster.
///
/// # Panics
/// When Kafka does not answer within ten seconds, or has no such topic.
#[track_caller]
pub fn partition_ends(bootstrap: &str, topic: &str) -> Vec<u64> {
    let consumer: BaseConsumer = client(bootstrap).create().expect("a client");
    let partitions = partitions_of(&consumer, topic).unwrap_or_else(|| panic!("Kafka has no topic {topic}"));
    let end = |partition| {
        let mut end = None;
        // The leader of a partition that was just made may not know of it yet.
        wait_until(DEADLINE, &format!("the end of {topic}[{partition}]"), || {
            end = consumer.fetch_watermarks(topic, partition, DEADLINE).ok();
            end.is_some()
        });
        end.map_or(0, |(_, high)| u64::try_from(high).expect("an offset"))
    };
    (0..partitions).map(end).collect()
}

/// The offsets that a consumer group has committed, by partition: what it reads next. Nothing where it has committed
/// none; `None` when Kafka does not answer within a second. Works with any cluster.
pub fn committed(bootstrap: &str, group: &str, topic: &str) -> Option<BTreeMap<i32, i64>> {
    // Asks, and never becomes a member.
    let consumer: BaseConsumer = client(bootstrap).set("group.id", group).create().ok()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions_of(&consumer, topic)? {
        list.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(list, Duration::from_secs(1)).ok()?;
    let elements = committed.elements();
    let offsets = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(offset) => Some((element.partition(), offset)),
        _ => None,
    });
    Some(offsets.collect())
}

#[track_caller]
pub(super) fn end_offset(bootstrap: &str, topic: &str, partition: i32) -> u64 {
    let consumer: BaseConsumer = client(bootstrap).create().expect("a client");
    let (_, high) = consumer
        .fetch_watermarks(topic, partition, DEADLINE)
        .expect("Kafka to answer");
    u64::try_from(high).expect("an offset")
}

/// How many partitions a topic has whose leader is known; `None` when Kafka does not answer or has no such topic.
pub(crate) fn partitions_of(client: &BaseConsumer, topic: &str) -> Option<i32> {
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(1)).ok()?;
    let topic = metadata.topics().iter().find(|t| t.name() == topic)?;
    let led = topic.error().is_none()
        && topic
            .partitions()
            .iter()
            .all(|p| p.error().is_none() && p.leader() >= 0);
    (led && !topic.partitions().is_empty())
        .then(|| i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX))
}

/// Waits for a future, also inside somebody else's runtime.
fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime");
            runtime.block_on(future)
        });
        waiting.join().expect("an answer")
    })
}

//! librdkafka's MockCluster, with the faults the tests need.

use std::cell::RefCell;
use std::time::Duration;

use millrace_librdkafka::group_delay;
use millrace_testkit::{Consumed, consume, no_forks};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::DEADLINE;

/// Kafka's error codes.
pub(crate) type Code = RDKafkaRespErr;

/// Kafka's kinds of requests.
pub(crate) type Api = RDKafkaApiKey;

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Written<'a> {
    pub(crate) key: Option<&'a str>,
    pub(crate) value: Option<&'a str>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) timestamp_ms: Option<i64>,
}

/// A Kafka in this process. Keeps 5 MiB and 100,000 records per partition.
pub(crate) struct MockKafka {
    bootstrap: String,
    watcher: BaseConsumer,
    /// Each with its number of partitions.
    topics: RefCell<Vec<(String, i32)>>,
    /// The brokers are there for as long as this client, which does nothing else.
    owner: BaseProducer,
}

impl MockKafka {
    /// One broker, with topics of one partition.
    pub(crate) fn start(topics: &[&str]) -> Self {
        let kafka = Self::brokers(1);
        for topic in topics {
            kafka.topic(topic, 1);
        }
        kafka
    }

    /// So many brokers and no topic. They speak no version of Produce and Fetch in which a broker that leads a partition
    /// no more says who does: where nobody leads, MockCluster reads that name through a null pointer.
    pub(crate) fn brokers(count: i32) -> Self {
        let owner: BaseProducer = ClientConfig::new()
            .set("test.mock.num.brokers", count.to_string())
            // The brokers listen at addresses of IPv4: it never reaches them.
            .set("broker.address.family", "v6")
            .set("log_level", "0")
            .create()
            .expect("a mock cluster");
        assert!(group_delay(owner.client(), Duration::ZERO));
        let cluster = owner.client().mock_cluster().expect("a mock cluster");
        for (api, version) in [(Api::Produce, 9), (Api::Fetch, 11)] {
            cluster
                .apiversion(api, Some(0), Some(version))
                .expect("an older version");
        }
        let bootstrap = cluster.bootstrap_servers();
        drop(cluster);
        let watcher = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("reconnect.backoff.max.ms", "100")
            .create()
            .expect("a consumer");
        Self {
            bootstrap,
            watcher,
            topics: RefCell::default(),
            owner,
        }
    }

    fn cluster(&self) -> MockCluster<'_, DefaultProducerContext> {
        self.owner.client().mock_cluster().expect("a mock cluster")
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Adds a topic.
    pub(crate) fn topic(&self, name: &str, partitions: i32) {
        self.cluster()
            .create_topic(name, partitions, 1)
            .expect("a new topic");
        self.topics.borrow_mut().push((name.to_owned(), partitions));
    }

    /// From now on no record is taken, of no topic: no partition has a leader. Answers that only refuse records would
    /// not do: MockCluster looks at no sequence numbers, so it takes a batch behind one that it has refused, from
    /// which librdkafka concludes that both were taken.
    pub(crate) fn hold(&self) {
        self.lead_all(None);
    }

    /// Ends [`MockKafka::hold`]; the first broker leads everything.
    pub(crate) fn release(&self) {
        self.lead_all(Some(1));
    }

    fn lead_all(&self, broker: Option<i32>) {
        for (topic, partitions) in self.topics.borrow().iter() {
            for partition in 0..*partitions {
                self.lead(topic, partition, broker);
            }
        }
    }

    /// Takes no records for one topic of one partition.
    pub(crate) fn hold_topic(&self, topic: &str) {
        self.lead(topic, 0, None);
    }

    /// Ends [`MockKafka::hold_topic`].
    pub(crate) fn release_topic(&self, topic: &str) {
        self.lead(topic, 0, Some(1));
    }

    /// Makes a broker the leader of a partition, or leaves the partition without one.
    pub(crate) fn lead(&self, topic: &str, partition: i32, broker: Option<i32>) {
        self.cluster()
            .partition_leader(topic, partition, broker)
            .expect("a partition");
    }

    /// The answers to the next Produce requests, in order; what comes after them is taken as usual.
    pub(crate) fn answer_produce(&self, codes: &[Code]) {
        self.answer(Api::Produce, codes);
    }

    /// The answers to the next requests of a kind, in order.
    pub(crate) fn answer(&self, api: Api, codes: &[Code]) {
        self.cluster().request_errors(api, codes);
    }

    /// Forgets what is left of [`MockKafka::answer`].
    pub(crate) fn answer_as_usual(&self, api: Api) {
        self.cluster().clear_request_errors(api);
    }

    /// What metadata says of a topic from now on.
    pub(crate) fn topic_error(&self, topic: &str, code: Code) {
        self.cluster().topic_error(topic, code).expect("a topic's name");
    }

    /// The broker answers so much later.
    pub(crate) fn slow(&self, broker: i32, delay: Duration) {
        self.cluster()
            .broker_round_trip_time(broker, delay)
            .expect("a broker");
    }

    /// Every connection is cut, and none is accepted.
    pub(crate) fn go_away(&self) {
        // It takes its ports again, and ends this process when it cannot.
        let _no_copy = no_forks();
        self.cluster().broker_down(-1).expect("brokers");
    }

    /// Ends [`MockKafka::go_away`].
    pub(crate) fn come_back(&self) {
        self.cluster().broker_up(-1).expect("brokers");
    }

    /// Writes records into a partition, in their order: key, value and headers of each.
    pub(crate) fn write(&self, topic: &str, partition: i32, records: &[Written<'_>]) {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("linger.ms", "0")
            .set("enable.idempotence", "true")
            .create()
            .expect("a producer");
        for record in records {
            let headers = record
                .headers
                .iter()
                .fold(OwnedHeaders::new(), |headers, (key, value)| {
                    headers.insert(Header {
                        key,
                        value: Some(*value),
                    })
                });
            let mut base = BaseRecord::<[u8], [u8]>::to(topic)
                .partition(partition)
                .headers(headers);
            base.key = record.key.map(str::as_bytes);
            base.payload = record.value.map(str::as_bytes);
            base.timestamp = record.timestamp_ms;
            producer.send(base).map_err(|(error, _)| error).expect("room");
        }
        producer.flush(DEADLINE).expect("records are taken");
    }

    /// The offset that a group has committed, if any.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, DEADLINE).expect("an answer");
        match list.elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// How many records a topic has been given.
    pub(crate) fn count(&self, topic: &str) -> usize {
        let metadata = self
            .watcher
            .fetch_metadata(Some(topic), DEADLINE)
            .expect("metadata");
        let partitions = metadata.topics()[0].partitions().len();
        (0..partitions)
            .map(|partition| {
                let partition = i32::try_from(partition).expect("a partition's number");
                let (_, high) = self
                    .watcher
                    .fetch_watermarks(topic, partition, DEADLINE)
                    .expect("watermarks");
                usize::try_from(high).expect("an offset")
            })
            .sum()
    }

    /// Every record of a topic at this moment, by partition and offset.
    pub(crate) fn records(&self, topic: &str) -> Vec<Consumed> {
        match self.count(topic) {
            0 => Vec::new(),
            count => consume(&self.bootstrap, topic, count, DEADLINE),
        }
    }

    /// The values of [`MockKafka::records`], as text.
    pub(crate) fn values(&self, topic: &str) -> Vec<String> {
        let records = self.records(topic);
        records.iter().map(|record| record.text().to_owned()).collect()
    }
}

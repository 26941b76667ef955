use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::mpsc::{self, Receiver, Sender};

/// Ends the thread that reads soon after nobody listens any more.
const POLL: Duration = Duration::from_millis(100);

/// A Kafka of one broker on the loopback interface, and what is written to one of its topics.
pub(crate) struct Kafka {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    values: Receiver<KafkaResult<String>>,
    reader: Option<JoinHandle<()>>,
    _cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Kafka {
    /// Starts it, makes the topic and reads it from the beginning.
    pub(crate) fn start(topic: &str) -> anyhow::Result<Self> {
        let cluster = MockCluster::new(1).context("cannot start the embedded Kafka")?;
        cluster
            .create_topic(topic, 1, 1)
            .with_context(|| format!("cannot create the topic {topic}"))?;
        let address = cluster.bootstrap_servers();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &address)
            .set("group.id", "millrace-check-route")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .context("cannot create the consumer")?;
        let mut partitions = TopicPartitionList::new();
        partitions.add_partition_offset(topic, 0, Offset::Beginning)?;
        consumer.assign(&partitions)?;
        let (tell, values) = mpsc::channel(1);
        let reader = std::thread::Builder::new()
            .name("check-route-reader".to_owned())
            .spawn(move || read(&consumer, &tell))?;
        Ok(Self {
            address: address
                .parse()
                .with_context(|| format!("the embedded Kafka listens on {address}"))?,
            values,
            reader: Some(reader),
            _cluster: cluster,
        })
    }

    /// The value of the next record. Cancelling loses none.
    pub(crate) async fn next(&mut self) -> anyhow::Result<String> {
        let value = self.values.recv().await.context("the reader has ended")?;
        value.context("cannot read from the embedded Kafka")
    }
}

impl Drop for Kafka {
    /// A consumer whose Kafka is gone before it would complain.
    fn drop(&mut self) {
        self.values.close();
        if let Some(reader) = self.reader.take() {
            // If it has panicked, that was said.
            reader.join().ok();
        }
    }
}

fn read(consumer: &BaseConsumer, tell: &Sender<KafkaResult<String>>) {
    while !tell.is_closed() {
        let value = match consumer.poll(POLL) {
            None => continue,
            Some(record) => record
                .map(|record| String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()),
        };
        if tell.blocking_send(value).is_err() {
            return;
        }
    }
}

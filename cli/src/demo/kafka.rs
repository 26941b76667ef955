//! The Kafka inside the demonstration, and the consumer that reads back what the routes wrote.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::audit::{Audit, Id, lock};
use super::index::Index;

/// A Kafka in this process: librdkafka's mock cluster, which speaks the real protocol on real sockets.
pub(crate) struct Kafka(MockCluster<'static, DefaultProducerContext>);

impl Kafka {
    /// Starts three brokers on free ports of the loopback interface.
    pub(crate) fn start() -> anyhow::Result<Self> {
        Ok(Self(
            MockCluster::new(3).context("cannot start the embedded Kafka")?,
        ))
    }

    /// `host:port` of each broker.
    pub(crate) fn bootstrap_servers(&self) -> Vec<String> {
        self.0.bootstrap_servers().split(',').map(str::to_owned).collect()
    }
}

/// Reads every record of every topic from the beginning and notes it in the books, on a thread of its own. The
/// embedded Kafka keeps 5 MiB per partition, so reading goes along with writing.
pub(crate) struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

/// How often to look for new topics.
const DISCOVER: Duration = Duration::from_millis(250);
const POLL: Duration = Duration::from_millis(50);
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

impl Reader {
    /// Starts reading. `skip` records are read but not noted: so that a test can see the verdict fail.
    pub(crate) fn start(
        bootstrap_servers: &[String],
        index: Index,
        audit: Arc<Mutex<Audit>>,
        skip: u64,
    ) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers.join(","))
            .set("group.id", "millrace-demo-reader")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "50")
            .create()
            .context("cannot create the consumer that reads back")?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let read = move || {
            let mut reading = Reading {
                consumer,
                known: BTreeSet::new(),
                index,
                audit,
                skip,
            };
            reading.until(&told)
        };
        let thread = std::thread::Builder::new()
            .name("demo-reader".to_owned())
            .spawn(read)?;
        Ok(Self { stop, thread })
    }

    /// Stops reading. Fails if reading had failed.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the reader has panicked")))
    }
}

struct Reading {
    consumer: BaseConsumer,
    /// Topics that are being read.
    known: BTreeSet<String>,
    index: Index,
    audit: Arc<Mutex<Audit>>,
    skip: u64,
}

impl Reading {
    fn until(&mut self, stop: &AtomicBool) -> anyhow::Result<()> {
        let mut discovered: Option<Instant> = None;
        while !stop.load(Ordering::Relaxed) {
            if discovered.is_none_or(|at| at.elapsed() >= DISCOVER) {
                self.discover().context("cannot list the topics to read back")?;
                discovered = Some(Instant::now());
            }
            match self.consumer.poll(POLL) {
                Some(Ok(_)) if self.skip > 0 => self.skip -= 1,
                Some(Ok(record)) => self.note(&record),
                Some(Err(error)) => tracing::debug!(%error, "reading back"),
                None => {}
            }
        }
        Ok(())
    }

    fn discover(&mut self) -> KafkaResult<()> {
        let metadata = self.consumer.fetch_metadata(None, METADATA_TIMEOUT)?;
        let mut new = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|topic| topic.error().is_none()) {
            if self.known.insert(topic.name().to_owned()) {
                for partition in topic.partitions() {
                    new.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
                }
            }
        }
        if new.count() > 0 {
            self.consumer.incremental_assign(&new)
        } else {
            Ok(())
        }
    }

    fn note(&self, record: &BorrowedMessage<'_>) {
        let id = record.payload().and_then(id_in);
        let found = self.index.find(record.topic(), header(record, ROUTE_HEADER));
        let known = match (id, found) {
            (Some(id), Some((route, place))) => lock(&self.audit).find(id, route, place),
            _ => false,
        };
        if !known {
            tracing::warn!(
                topic = record.topic(),
                ?id,
                "a record that no plant has published"
            );
        }
    }
}

/// Names the route of a dead letter, as `namespace/name`.
const ROUTE_HEADER: &str = "millrace.route";

fn header<'r>(record: &'r BorrowedMessage<'_>, name: &str) -> Option<&'r [u8]> {
    record.headers()?.iter().find(|header| header.key == name)?.value
}

/// The number of a message, which a plant writes as `"seq":123`. Read without parsing: some messages are broken on
/// purpose and still have their number.
pub(crate) fn id_in(payload: &[u8]) -> Option<Id> {
    const FIELD: &[u8] = b"\"seq\":";
    let at = payload.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let rest = payload[at..].trim_ascii_start();
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_in_whole_and_in_broken_messages() {
        assert_eq!(id_in(br#"{"seq":12,"t":1}"#), Some(12));
        assert_eq!(id_in(br#"{"t":1.5,"seq": 7"#), Some(7));
        assert_eq!(id_in(b"{\"seq\":}"), None);
        assert_eq!(id_in(b""), None);
    }
}

//! Reading a few records back whole, for tests of what a record looks like.

use super::admin::{client, partitions_of};
use crate::wait::POLL;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use std::time::{Duration, Instant};

/// A record as it is in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The topic it was read from.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the Unix epoch, if it has one.
    pub timestamp: Option<i64>,
    /// The key's bytes, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value's bytes; `None` for a null value (a tombstone).
    pub value: Option<Vec<u8>>,
    /// Headers in their order; a null value is empty.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Consumed {
    /// The key as text.
    ///
    /// # Panics
    /// When there is none, or it is not UTF-8.
    #[track_caller]
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().expect("a key")).expect("a key in UTF-8")
    }

    /// The value as text.
    ///
    /// # Panics
    /// When there is none, or it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().expect("a value")).expect("a value in UTF-8")
    }

    /// The first header of that name as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(std::str::from_utf8(value).expect("a header in UTF-8"))
    }
}

/// Reads `topic` from its beginning until it has given `count` records, in the order of partition and offset. Works
/// with any cluster, librdkafka's MockCluster too.
///
/// # Panics
/// When there are fewer after `deadline`: the message shows those there are.
///
/// ```no_run
/// # let kafka = millrace_testkit::Kafka::shared();
/// let records = millrace_testkit::consume(&kafka.bootstrap(), "orders", 2, std::time::Duration::from_secs(10));
/// assert_eq!(records[0].header("site"), Some("north"));
/// ```
#[track_caller]
pub fn consume(bootstrap: &str, topic: &str, count: usize, deadline: Duration) -> Vec<Consumed> {
    let start = Instant::now();
    let consumer = from_beginning(bootstrap, &[topic], deadline);
    let mut records = Vec::new();
    while records.len() < count {
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => records.push(copy(&message)),
            // Not there yet, or away for a moment.
            Some(Err(_)) => std::thread::sleep(POLL),
            None => {}
        }
        assert!(
            start.elapsed() < deadline || records.len() >= count,
            "{} of {count} records in {topic} after {deadline:?}: {records:#?}",
            records.len()
        );
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// A consumer of all partitions of `topics` from their first record, in no group.
#[track_caller]
pub(crate) fn from_beginning(bootstrap: &str, topics: &[&str], deadline: Duration) -> BaseConsumer {
    let consumer = consumer(bootstrap);
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let mut found = None;
        crate::wait_until(deadline, &format!("topic {topic} in Kafka"), || {
            found = partitions_of(&consumer, topic);
            found.is_some()
        });
        for partition in 0..found.unwrap_or(0) {
            list.add_partition_offset(topic, partition, Offset::Beginning)
                .expect("an offset");
        }
    }
    consumer.assign(&list).expect("assigning partitions");
    consumer
}

/// A consumer of the same partitions as `old`, from the offsets that `next` names. Kafka need not be there.
pub(crate) fn in_place_of(
    old: &BaseConsumer,
    bootstrap: &str,
    next: impl Fn(&str, i32) -> i64,
) -> BaseConsumer {
    let mut list = TopicPartitionList::new();
    for element in old.assignment().expect("an assignment").elements() {
        let (topic, partition) = (element.topic(), element.partition());
        list.add_partition_offset(topic, partition, Offset::Offset(next(topic, partition)))
            .expect("an offset");
    }
    let consumer = consumer(bootstrap);
    consumer.assign(&list).expect("assigning partitions");
    consumer
}

#[track_caller]
fn consumer(bootstrap: &str) -> BaseConsumer {
    client(bootstrap)
        // librdkafka wants one, and it is not used.
        .set("group.id", "millrace-testkit")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "20")
        .set("fetch.error.backoff.ms", "50")
        .set("queued.max.messages.kbytes", "16384")
        .create()
        .expect("a consumer")
}

fn copy(message: &impl Message) -> Consumed {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Consumed {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

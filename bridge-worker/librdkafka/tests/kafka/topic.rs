//! Records by topic, against a real Kafka.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ffi::CString;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_librdkafka::{HeaderList, Record, Topic, headers};
use millrace_testkit::{Kafka, wait_until};
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{Message as _, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

const DEADLINE: Duration = Duration::from_secs(30);

/// The opaques of records that were delivered.
#[derive(Default)]
struct Delivered(Mutex<Vec<usize>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        if result.is_ok() {
            self.0.lock().unwrap().push(opaque);
        }
    }
}

fn producer(bootstrap: &str, queue: &str) -> Arc<BaseProducer<Delivered>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config.set("queue.buffering.max.messages", queue);
    Arc::new(BaseProducer::from_config_and_context(&config, Delivered::default()).unwrap())
}

fn record(value: &[u8], opaque: usize) -> Record<'_> {
    Record {
        key: None,
        value: Some(value),
        timestamp_ms: 1_000,
        opaque,
        headers: None,
    }
}

/// A record's headers, and the record.
type Read = (Vec<(CString, Option<Vec<u8>>)>, OwnedMessage);

fn read(bootstrap: &str, topic: &str, count: usize) -> Vec<Read> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("group.id", topic);
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut read: Vec<Read> = Vec::new();
    wait_until(DEADLINE, "all records are read", || {
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            let message = message.unwrap();
            let with = headers(&message);
            let with = with.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec)));
            read.push((with.collect(), message.detach()));
        }
        read.len() == count
    });
    read
}

#[test]
fn records_come_as_they_were_sent_and_are_reported() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("sent", 1);
    let producer = producer(&kafka.bootstrap(), "1000");
    let sent = Topic::open(&producer, &topic).unwrap();
    let mut list = HeaderList::with_capacity(1);
    list.add("site", b"A1");
    list.add("site", &[0, 0xff]);
    list.add("empty", b"");
    let first = Record {
        key: Some(b"key"),
        headers: Some(list),
        ..record(b"value", 7)
    };
    sent.send(first).unwrap();
    sent.send(record(b"", usize::MAX)).unwrap();
    let last = Record {
        key: Some(b""),
        ..record(b"last", 9)
    };
    sent.send(last).unwrap();
    let tombstone = Record {
        key: Some(b"key"),
        value: None,
        ..record(b"", 11)
    };
    sent.send(tombstone).unwrap();
    wait_until(DEADLINE, "all is reported", || {
        producer.poll(Duration::from_millis(100));
        *producer.context().0.lock().unwrap() == [7, usize::MAX, 9, 11]
    });
    let read = read(&kafka.bootstrap(), &topic, 4);
    let with: Vec<_> = read.iter().map(|(headers, _)| headers.clone()).collect();
    let all = vec![
        (c"site".to_owned(), Some(b"A1".to_vec())),
        (c"site".to_owned(), Some(vec![0, 0xff])),
        (c"empty".to_owned(), Some(Vec::new())),
    ];
    assert_eq!(with, [all, Vec::new(), Vec::new(), Vec::new()]);
    let parts: Vec<_> = read
        .iter()
        .map(|(_, message)| (message.key(), message.payload()))
        .collect();
    assert_eq!(
        parts,
        [
            (Some(b"key".as_slice()), Some(b"value".as_slice())),
            (None, Some(b"".as_slice())),
            (Some(b"".as_slice()), Some(b"last".as_slice())),
            (Some(b"key".as_slice()), None)
        ]
    );
    assert!(
        read.iter()
            .all(|(_, message)| message.timestamp() == Timestamp::CreateTime(1_000))
    );
}

#[test]
fn a_full_queue_takes_a_record_later() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("full", 1);
    let producer = producer(&kafka.bootstrap(), "1");
    let full = Topic::open(&producer, &topic).unwrap();
    full.send(record(b"1", 1)).unwrap();
    let again = || {
        let mut list = HeaderList::with_capacity(1);
        list.add("site", b"A1");
        Record {
            headers: Some(list),
            ..record(b"2", 2)
        }
    };
    let error = full.send(again()).unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
    wait_until(DEADLINE, "there is room", || {
        producer.poll(Duration::from_millis(100));
        full.send(again()).is_ok()
    });
    wait_until(DEADLINE, "both are reported", || {
        producer.poll(Duration::from_millis(100));
        *producer.context().0.lock().unwrap() == [1, 2]
    });
}

#[test]
fn a_topic_holds_its_producer() {
    let kafka = Kafka::shared();
    let name = kafka.unique_topic("held", 1);
    let producer = producer(&kafka.bootstrap(), "1000");
    let context = Arc::clone(producer.context());
    let topic = Topic::open(&producer, &name).unwrap();
    let same = Topic::open(&producer, &name).unwrap();
    drop(producer);
    topic.send(record(b"1", 1)).unwrap();
    drop(topic);
    same.send(record(b"2", 2)).unwrap();
    assert!(Arc::strong_count(&context) > 1);
    drop(same);
    assert_eq!(Arc::strong_count(&context), 1);
}

#[test]
fn a_name_with_a_zero_byte_is_no_topic() {
    let producer = producer("127.0.0.1:1", "1000");
    assert!(Topic::open(&producer, "a\0b").is_err());
}

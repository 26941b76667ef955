//! Kafka, its proxy and the observer, with records written by a plain producer.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_testkit::{Kafka, MessageId, Observer, Report, Stamp, check, consume, now_micros, wait_until};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

fn producer(bootstrap: &str) -> BaseProducer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0")
        .create()
        .unwrap()
}

/// Writes the sequences of ten keys and waits until Kafka has confirmed them.
fn produce(producer: &BaseProducer<DefaultProducerContext>, topic: &str, sequences: std::ops::Range<u32>) {
    for sequence in sequences {
        for key in 0..10 {
            let mut payload = Vec::new();
            Stamp::now(MessageId {
                run: 1,
                key,
                sequence,
            })
            .write(100, &mut payload);
            producer
                .send(BaseRecord::to(topic).key(&key.to_string()).payload(&payload))
                .unwrap();
        }
    }
    producer.flush(DEADLINE).unwrap();
}

fn report(sequences: u32) -> Report {
    let ids = (0..10).flat_map(|key| {
        (0..sequences).map(move |sequence| MessageId {
            run: 1,
            key,
            sequence,
        })
    });
    Report::of(1, &ids.map(|id| (id, 1, true)).collect::<Vec<_>>())
}

#[test]
fn an_observer_reads_on_over_a_kill_and_a_restart() {
    let mut kafka = Kafka::builder().start();
    kafka.create_topic("orders", 3, &[("max.message.bytes", "100000")]);
    let bootstrap = kafka.bootstrap();
    let observer = Observer::start(&bootstrap, &["orders"]);
    let producer = producer(&bootstrap);
    produce(&producer, "orders", 0..50);
    assert_eq!(kafka.end_offsets("orders"), 500);
    observer.wait_for(500, DEADLINE);

    kafka.kill();
    let killed_at = now_micros();
    assert_eq!(kafka.usage(), None);
    kafka.start();
    assert_eq!(kafka.bootstrap(), bootstrap);
    produce(&producer, "orders", 50..100);
    observer.wait_for(1_000, DEADLINE);
    assert!(observer.first_after(killed_at).is_some_and(|at| at > killed_at));

    kafka.terminate();
    kafka.start();
    produce(&producer, "orders", 100..150);
    observer.wait_for(1_500, DEADLINE);
    let records = observer.finish();
    check(&report(150), &records)
        .assert_nothing_lost()
        .assert_duplicates_at_most(0);
    assert_eq!(check(&report(151), &records).missing.count, 10);
}

#[test]
fn everything_of_a_record_is_read_back() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("whole", 1);
    let producer = producer(&kafka.bootstrap());
    let headers = OwnedHeaders::new()
        .insert(Header {
            key: "site",
            value: Some("north"),
        })
        .insert(Header {
            key: "empty",
            value: None::<&str>,
        });
    let record = BaseRecord::to(&topic)
        .key("k")
        .payload("v")
        .headers(headers)
        .timestamp(1_700_000_000_000);
    producer.send(record).unwrap();
    producer
        .send(BaseRecord::<str, str>::to(&topic).key("gone"))
        .unwrap();
    producer.flush(DEADLINE).unwrap();

    let records = consume(&kafka.bootstrap(), &topic, 2, DEADLINE);
    assert_eq!((records[0].key_text(), records[0].text()), ("k", "v"));
    assert_eq!(
        (records[0].header("site"), records[0].header("empty")),
        (Some("north"), Some(""))
    );
    assert_eq!(
        (records[0].header("none"), records[0].timestamp),
        (None, Some(1_700_000_000_000))
    );
    assert_eq!((records[1].offset, &records[1].value), (1, &None));

    kafka.delete_topic(&topic);
}

#[test]
#[should_panic(expected = "0 of 1 records")]
fn a_record_that_is_not_there_is_missed() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("empty", 1);
    consume(&kafka.bootstrap(), &topic, 1, Duration::from_secs(2));
}

#[test]
fn every_connection_goes_through_the_proxy() {
    let kafka = Kafka::builder().with_proxy().start();
    kafka.create_topic("orders", 2, &[]);
    let observer = Observer::start(&kafka.bootstrap(), &["orders"]);
    let producer = producer(&kafka.bootstrap_through_proxy());
    produce(&producer, "orders", 0..10);
    observer.wait_for(100, DEADLINE);
    // 100 records of 100 bytes, before compression: none was set.
    assert!(kafka.proxy().counts().to_target > 10_000);

    kafka.proxy().cut();
    let mut payload = Vec::new();
    Stamp::now(MessageId {
        run: 1,
        key: 0,
        sequence: 10,
    })
    .write(100, &mut payload);
    producer
        .send(BaseRecord::to("orders").key("0").payload(&payload))
        .unwrap();
    let at_cut = kafka.proxy().counts();
    wait_until(DEADLINE, "attempts to connect", || {
        producer.poll(Duration::from_millis(10));
        kafka.proxy().counts().connections > at_cut.connections + 1
    });
    assert_eq!(kafka.proxy().counts().to_target, at_cut.to_target);
    assert_eq!(observer.distinct(), 100);

    kafka.proxy().pass();
    producer.flush(DEADLINE).unwrap();
    observer.wait_for(101, DEADLINE);
}

#[test]
fn a_paused_kafka_answers_later() {
    let mut kafka = Kafka::builder().start();
    kafka.create_topic("orders", 1, &[]);
    let producer = producer(&kafka.bootstrap());
    produce(&producer, "orders", 0..1);
    kafka.pause();
    producer
        .send(BaseRecord::to("orders").key("0").payload("late"))
        .unwrap();
    assert!(producer.flush(Duration::from_secs(1)).is_err());
    kafka.resume();
    producer.flush(DEADLINE).unwrap();
    assert_eq!(kafka.end_offsets("orders"), 11);
}

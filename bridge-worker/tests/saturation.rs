//! What keeps messages at the broker is said, with the limit and the way out: the window that the broker fills, whoever
//! set it, and a Kafka that is slower than MQTT. It is said when it has lasted and taken back when it is over, and
//! nothing is said of publishers that no limit holds.

mod harness;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use harness::{Holding, MockKafka, Running, route};
use millrace_contract::status::{Phase, Reason};
use millrace_contract::{Document, ProtocolVersion};
use millrace_testkit::{Mosquitto, MosquittoBuilder, Publisher, ScriptedBroker, wait_until};

/// For what is said once it has lasted for ten seconds, or been away for fifteen.
const SAID: Duration = Duration::from_secs(60);
/// In which it would have been said.
const LONG: Duration = Duration::from_secs(20);
/// From a batch of records to its confirmation.
const KAFKA: Duration = Duration::from_millis(50);

/// A Kafka that takes its time.
fn slow_kafka() -> MockKafka {
    let kafka = MockKafka::start(&["out.a"]);
    kafka.slow(1, KAFKA);
    kafka
}

fn payload(bytes: usize) -> Vec<u8> {
    vec![b'x'; bytes]
}

/// A route with a linger of 5 ms, as by default.
fn document(url: String, kafka: &MockKafka) -> Document {
    let nobody = ScriptedBroker::start();
    let mut document = route(&nobody, kafka.bootstrap());
    document.settings.broker.urls = vec![url];
    document.settings.sink.producer.linger_ms = 5;
    document
}

#[track_caller]
fn said(worker: &Running, reason: Reason) -> String {
    let mut message = None;
    wait_until(SAID, &format!("{reason:?}"), || {
        message = worker.problem(reason);
        message.is_some()
    });
    let message = message.expect("it has been waited for");
    println!("{message}");
    message
}

#[track_caller]
fn taken_back(worker: &Running, reason: Reason) {
    wait_until(SAID, &format!("no {reason:?}"), || {
        worker.problem(reason).is_none()
    });
}

/// Looks for so long that it would have been said.
#[track_caller]
fn not_said(worker: &Running, reason: Reason) {
    let start = Instant::now();
    wait_until(2 * LONG, "the time to pass", || {
        let problem = worker.problem(reason);
        assert_eq!(problem, None, "after {:?}", start.elapsed());
        start.elapsed() >= LONG
    });
}

/// Waits for so many messages more to be written.
#[track_caller]
fn flows(worker: &Running, messages: u64) {
    let before = worker.ledger().written;
    wait_until(SAID, &format!("{messages} messages"), || {
        worker.ledger().written >= before + messages
    });
}

/// EMQX holds back at 32, VerneMQ at 20, whatever Receive Maximum it was asked to keep to.
#[test]
fn a_limit_that_the_broker_does_not_announce_is_named_and_taken_back() {
    let kafka = slow_kafka();
    let broker = Holding::start(20, payload(100));
    let worker = Running::start(document(broker.url(), &kafka));
    broker.publish(1_500);
    let begun = Instant::now();
    let message = said(&worker, Reason::WindowLimited);
    assert!(
        begun.elapsed() >= Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    assert!(message.contains("at 20 unacknowledged messages"), "{message}");
    assert!(
        message.contains("mqtt.max_inflight of EMQX, max_inflight_messages of mosquitto (0: no limit)"),
        "{message}"
    );
    assert!(message.contains("spec.from.mqtt.lanes"), "{message}");
    let status = worker.status();
    assert!(status.ready && status.phase == Phase::Running, "{status:?}");
    let lasted = worker.snapshot().window_limited;
    assert!((8..30).contains(&lasted.as_secs()), "{lasted:?}");

    // The figures move, what is said does not.
    kafka.slow(1, 2 * KAFKA);
    flows(&worker, 1_500);
    assert_eq!(said(&worker, Reason::WindowLimited), message);

    broker.publish(50);
    taken_back(&worker, Reason::WindowLimited);
    flows(&worker, 100);
    let (sent, acked) = broker.counts();
    assert!(sent - acked <= 20);
}

#[test]
fn in_mqtt_3_1_1_the_way_out_is_also_mqtt_5() {
    let kafka = slow_kafka();
    let broker = Holding::start(20, payload(100));
    let mut document = document(broker.url(), &kafka);
    document.settings.broker.protocol_version = ProtocolVersion::V311;
    let worker = Running::start(document);
    broker.publish(1_500);
    let message = said(&worker, Reason::WindowLimited);
    assert!(message.contains("at 20 unacknowledged messages"), "{message}");
    assert!(message.contains("spec.protocolVersion"), "{message}");
}

#[test]
fn the_receive_maximum_is_named_when_it_is_the_limit() {
    let kafka = slow_kafka();
    let broker = Holding::start(100, payload(100));
    let mut document = document(broker.url(), &kafka);
    document.settings.broker.receive_maximum = 100;
    let worker = Running::start(document);
    broker.publish(5_000);
    let message = said(&worker, Reason::WindowLimited);
    assert!(message.contains("100 messages of a lane"), "{message}");
    assert!(message.contains("spec.session.receiveMaximum"), "{message}");

    broker.publish(500);
    taken_back(&worker, Reason::WindowLimited);
}

#[test]
fn nothing_is_said_of_a_publisher_that_no_limit_holds() {
    let kafka = slow_kafka();
    let broker = Holding::start(u64::from(u16::MAX), payload(100));
    let worker = Running::start(document(broker.url(), &kafka));
    broker.publish(1_500);
    flows(&worker, 1_500);
    not_said(&worker, Reason::WindowLimited);
    let snapshot = worker.snapshot();
    assert_eq!(snapshot.window_limited, Duration::ZERO);
    assert!(
        snapshot.status.problems.is_empty(),
        "{:?}",
        snapshot.status.problems
    );
}

/// Three megabytes a second of one partition, where MQTT brings 30.
#[test]
fn a_kafka_that_is_too_slow_is_named_with_the_limit_and_taken_back() {
    let kafka = MockKafka::start(&["out.a"]);
    let broker = Holding::start(u64::from(u16::MAX), payload(60_000));
    let worker = Running::start(document(broker.url(), &kafka));
    broker.publish(100);
    flows(&worker, 100);
    kafka.slow(1, Duration::from_millis(1_500));
    broker.publish(500);
    let message = said(&worker, Reason::SinkSaturated);
    assert!(
        message.contains("64 MiB") && message.contains("add partitions"),
        "{message}"
    );
    assert_eq!(worker.problem(Reason::WindowLimited), None);
    let status = worker.status();
    assert!(status.ready && status.phase == Phase::Running, "{status:?}");
    assert!(worker.snapshot().sink_saturated >= Duration::from_secs(5));

    kafka.slow(1, Duration::ZERO);
    broker.publish(50);
    taken_back(&worker, Reason::SinkSaturated);
}

#[test]
fn a_kafka_that_keeps_up_or_is_away_is_not_called_slow() {
    let kafka = MockKafka::start(&["out.a"]);
    let broker = Holding::start(u64::from(u16::MAX), payload(60_000));
    let worker = Running::start(document(broker.url(), &kafka));
    broker.publish(300);
    flows(&worker, 300);
    not_said(&worker, Reason::SinkSaturated);

    kafka.go_away();
    let message = said(&worker, Reason::KafkaUnreachable);
    assert!(message.contains("spec.bootstrapServers"), "{message}");
    worker.wait_for("a full buffer", |status| status.buffered_bytes >= 60 << 20);
    not_said(&worker, Reason::SinkSaturated);
    assert!(worker.problem(Reason::KafkaUnreachable).is_some());

    broker.publish(10);
    kafka.come_back();
    wait_until(SAID, "all to be well", || worker.status().problems.is_empty());
}

/// A mosquitto, 1,000 messages per second, and a worker that reads them for a slow Kafka. Ended in this order.
struct Plant {
    publisher: Publisher,
    worker: Running,
    _kafka: MockKafka,
    _mosquitto: Mosquitto,
}

impl Plant {
    fn start(mosquitto: MosquittoBuilder, but: impl FnOnce(&mut Document)) -> Self {
        let mosquitto = mosquitto.start();
        let kafka = slow_kafka();
        let mut document = document(format!("mqtt://{}", mosquitto.address()), &kafka);
        but(&mut document);
        let worker = Running::start(document);
        worker.wait_for("the lane to be up", |status| status.phase == Phase::Running);
        let publisher = Publisher::builder(mosquitto.port())
            .rate(1_000.0)
            .keys(1)
            .topic_of(|_| "in/a/x".into())
            .start();
        Self {
            publisher,
            worker,
            _kafka: kafka,
            _mosquitto: mosquitto,
        }
    }
}

/// Debian's mosquitto 2.0.11 lets up to twenty messages go for each ack, however many are unacknowledged: its default of
/// 20 holds nothing back, so there is nothing to say.
#[test]
fn the_default_of_an_old_mosquitto_is_no_limit() {
    let plant = Plant::start(Mosquitto::builder().max_inflight(20), |_| {});
    flows(&plant.worker, 1_000);
    not_said(&plant.worker, Reason::WindowLimited);
    let waiting = plant.publisher.sent() - plant.worker.ledger().written;
    assert!(waiting <= 1_000, "{waiting} messages wait");
}

/// A mosquitto of 2.0.13 or newer, which Debian 12 does not have. From the source of Debian 13 it is
/// `make -C src WITH_CJSON=no WITH_SRV=no`.
fn new_mosquitto() -> MosquittoBuilder {
    let path = std::env::var_os("MILLRACE_MOSQUITTO").expect("MILLRACE_MOSQUITTO names the program");
    Mosquitto::builder().program(PathBuf::from(path))
}

const V311: fn(&mut Document) = |document| document.settings.broker.protocol_version = ProtocolVersion::V311;

#[test]
#[ignore = "needs mosquitto 2.0.13 or newer: MILLRACE_MOSQUITTO=/path"]
fn the_default_of_mosquitto_is_named_and_taken_back() {
    let plant = Plant::start(new_mosquitto().max_inflight(20), V311);
    let message = said(&plant.worker, Reason::WindowLimited);
    assert!(message.contains("at 20 unacknowledged messages"), "{message}");
    assert!(
        message.contains("max_inflight_messages of mosquitto (0: no limit)"),
        "{message}"
    );
    plant.publisher.stop();
    taken_back(&plant.worker, Reason::WindowLimited);
}

#[test]
#[ignore = "needs mosquitto 2.0.13 or newer: MILLRACE_MOSQUITTO=/path"]
fn without_its_limit_nothing_is_said_of_mosquitto() {
    let plant = Plant::start(new_mosquitto().max_inflight(0), V311);
    flows(&plant.worker, 1_000);
    not_said(&plant.worker, Reason::WindowLimited);
}

#[test]
#[ignore = "needs mosquitto 2.0.13 or newer: MILLRACE_MOSQUITTO=/path"]
fn mosquitto_keeps_to_the_receive_maximum_and_it_is_named() {
    let plant = Plant::start(new_mosquitto().max_inflight(0), |document| {
        document.settings.broker.receive_maximum = 15;
    });
    let message = said(&plant.worker, Reason::WindowLimited);
    assert!(message.contains("15 messages of a lane"), "{message}");
    assert!(message.contains("spec.session.receiveMaximum"), "{message}");
}

/// In MQTT 5 it goes by the Receive Maximum alone.
#[test]
#[ignore = "needs mosquitto 2.0.13 or newer: MILLRACE_MOSQUITTO=/path"]
fn the_default_of_mosquitto_is_no_limit_in_mqtt_5() {
    let plant = Plant::start(new_mosquitto().max_inflight(20), |_| {});
    flows(&plant.worker, 1_000);
    not_said(&plant.worker, Reason::WindowLimited);
}

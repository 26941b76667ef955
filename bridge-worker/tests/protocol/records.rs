//! What a record has of its message, and what a worker says of messages while it has them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{MockKafka, Running, message, route, session};
use millrace_contract::{Document, Ledger, Propagate, ProtocolVersion};
use millrace_testkit::wire::{Properties, Publish, Value, id};
use millrace_testkit::{Consumed, ScriptedBroker};
use rdkafka::types::RDKafkaRespErr as Code;

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a", "dead"]))
}

fn propagating(version: ProtocolVersion, broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.settings.broker.protocol_version = version;
    document.live.source.qos = 2;
    document.live.mapping.propagate = Propagate::ALL.to_vec();
    document
}

fn headers(record: &Consumed) -> Vec<(&str, &[u8])> {
    let pairs = record.headers.iter();
    pairs
        .map(|(name, value)| (name.as_str(), value.as_slice()))
        .collect()
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as i64
}

#[test]
fn all_that_a_message_has_beside_its_payload_is_in_headers_when_asked_for() {
    let (broker, kafka) = parts();
    let worker = Running::start(propagating(ProtocolVersion::V5, &broker, &kafka));
    let mut connection = session(&broker, false);
    let properties = Properties::new()
        .with(id::CONTENT_TYPE, Value::Text("text/plain".into()))
        .with(id::RESPONSE_TOPIC, Value::Text("answers/1".into()))
        .with(id::CORRELATION_DATA, Value::Data(vec![0, 255, 7].into()))
        .with(id::USER_PROPERTY, Value::Pair("site".into(), "north".into()))
        .with(id::USER_PROPERTY, Value::Pair("site".into(), "südlich".into()));
    let full = Publish::new("in/a/x", "full").qos(2, 7).retain();
    connection.publish(full.properties(properties));
    connection.expect_pubrec(7);
    connection.pubrel(7);
    connection.expect_pubcomp(7);
    connection.publish(Publish::new("in/a/y", "bare"));
    assert_eq!(worker.settled(2).written, 2);
    let records = kafka.records("out.a");
    assert_eq!(
        headers(&records[0]),
        [
            ("mqtt.topic", &b"in/a/x"[..]),
            ("mqtt.qos", b"2"),
            ("mqtt.retain", b"true"),
            ("mqtt.contentType", b"text/plain"),
            ("mqtt.responseTopic", b"answers/1"),
            ("mqtt.correlationData", &[0, 255, 7]),
            ("mqtt.user.site", b"north"),
            ("mqtt.user.site", "südlich".as_bytes()),
        ]
    );
    assert_eq!(
        headers(&records[1]),
        [
            ("mqtt.topic", &b"in/a/y"[..]),
            ("mqtt.qos", b"0"),
            ("mqtt.retain", b"false"),
        ]
    );
}

#[test]
fn what_mqtt_3_1_1_has_is_in_headers_too() {
    let (broker, kafka) = parts();
    let worker = Running::start(propagating(ProtocolVersion::V311, &broker, &kafka));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x").retain());
    connection.expect_puback(1);
    assert_eq!(worker.settled(1).written, 1);
    assert_eq!(
        headers(&kafka.records("out.a")[0]),
        [
            ("mqtt.topic", &b"in/a/x"[..]),
            ("mqtt.qos", b"1"),
            ("mqtt.retain", b"true"),
        ]
    );
}

#[test]
fn a_record_has_the_time_at_which_its_message_was_received_and_no_header_unasked() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    // Long before Kafka takes it.
    kafka.hold_topic("out.a");
    let before = now_ms();
    connection.publish(message("a", 1, "x").retain());
    worker.wait_received(1);
    let after = now_ms();
    worker.wait_for("the message to have waited", |status| {
        status.lanes[0].oldest_unacked_ms.is_some_and(|ms| ms >= 300)
    });
    kafka.release_topic("out.a");
    connection.expect_puback(1);
    let records = kafka.records("out.a");
    let timestamp = records[0].timestamp.expect("a timestamp");
    assert!(
        (before..=after).contains(&timestamp),
        "{timestamp} of {before}..={after}"
    );
    assert_eq!(headers(&records[0]), []);
}

#[test]
fn a_worker_says_how_long_messages_wait_and_how_long_they_took() {
    const WAIT: Duration = Duration::from_millis(300);
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "at once"));
    connection.expect_puback(1);
    worker.wait_for("no message to wait", |status| {
        status.lanes[0].oldest_unacked_ms.is_none() && status.latency.max_us > 0
    });
    kafka.hold_topic("out.a");
    connection.publish_all((2..=100).map(|id| message("a", id, "later")));
    worker.wait_for("messages to wait", |status| {
        let oldest = status.lanes[0].oldest_unacked_ms;
        oldest.is_some_and(|ms| ms >= WAIT.as_millis() as u64)
    });
    kafka.release_topic("out.a");
    connection.expect_pubacks(2..=100);
    worker.wait_for("no message to wait", |status| {
        status.lanes[0].oldest_unacked_ms.is_none()
    });
    let slow = worker.status().latency;
    // Of 100 messages 99 have waited.
    for us in [slow.p50_us, slow.p99_us, slow.max_us] {
        assert!(us >= WAIT.as_micros() as u64 * 9 / 10, "{slow:?}");
    }
}

#[test]
fn a_worker_says_how_many_messages_a_second_it_receives_and_writes() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    // It counts from the first question.
    let before = Instant::now();
    assert_eq!(worker.status().received_per_second, 0.0);
    let after = Instant::now();
    let all_in = |rate: f64, from: Instant, until: Instant| {
        let (least, most) = ((from - after).as_secs_f64(), (until - before).as_secs_f64());
        assert!(
            (least..=most).contains(&(1_000.0 / rate)),
            "{rate}/s in {least}..{most} s"
        );
    };
    kafka.hold_topic("out.a");
    connection.publish_all((1..=1_000).map(|id| message("a", id, "x")));
    worker.wait_received(1_000);
    worker.wait_for("the messages to wait", |status| {
        status.lanes[0].oldest_unacked_ms.is_some_and(|ms| ms >= 300)
    });
    let asked = Instant::now();
    let status = worker.status();
    all_in(status.received_per_second, asked, Instant::now());
    assert_eq!(status.written_per_second, 0.0);
    kafka.release_topic("out.a");
    connection.expect_pubacks(1..=1_000);
    worker.wait_written(1_000);
    let asked = Instant::now();
    let status = worker.status();
    all_in(status.written_per_second, asked, Instant::now());
}

/// Nobody sends it again.
#[test]
fn a_message_of_qos_0_that_kafka_refuses_when_its_connection_is_lost_is_counted_as_dropped() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    kafka.go_away();
    connection.publish(Publish::new("in/a/x", "lost"));
    connection.publish(message("a", 1, "returned"));
    worker.wait_received(2);
    connection.reset();
    let mut connection = session(&broker, true);
    kafka.answer_produce(&[Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP]);
    kafka.come_back();
    let settled = Ledger {
        received: 2,
        dropped: 1,
        returned: 1,
        ..Ledger::default()
    };
    assert_eq!(worker.settled(2), settled);
    // The broker has the other one still.
    connection.publish(message("a", 1, "returned").dup());
    connection.expect_puback(1);
    assert_eq!(kafka.values("out.a"), ["returned"]);
}

//! Packets that are too large, too many, or not what the broker may send: said, accounted for, in bounded memory.

use std::time::Duration;

use crate::harness::{DEADLINE, MockKafka, Running, WorkerProcess, message, repeat, route, session};
use millrace_contract::ErrorAction;
use millrace_contract::status::{Phase, Reason, RouteStatus};
use millrace_testkit::wire::{Properties, Publish, Value, id};
use millrace_testkit::{Consumed, End, ScriptedBroker};
use sha2::{Digest, Sha256};

const MIB: u64 = 1024 * 1024;

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a", "dead"]))
}

/// Bytes that differ everywhere, so that a digest over the wrong ones is wrong.
fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n ^ n >> 8 ^ n >> 16) as u8).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[track_caller]
fn assert_head(dead: &Consumed, payload: &[u8]) {
    assert_eq!(dead.header("millrace.error.reason"), Some("MessageTooLarge"));
    assert_eq!(dead.header("millrace.payload"), Some("head"));
    assert_eq!(
        dead.header("millrace.payload.size"),
        Some(payload.len().to_string().as_str())
    );
    assert_eq!(
        dead.header("millrace.payload.sha256"),
        Some(sha256(payload).as_str())
    );
    assert_eq!(dead.header("mqtt.topic"), Some("in/a/x"));
    assert_eq!(dead.header("millrace.route"), Some("default/test"));
    assert_eq!(dead.header("millrace.lane"), Some("0"));
    assert_eq!(dead.value.as_deref(), Some(&payload[..1024]));
}

#[test]
fn packets_of_10_kib_and_more_are_nothing_special() {
    let (broker, kafka) = parts();
    let _worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let sizes = [10 * 1024 - 20, 10 * 1024, 10 * 1024 + 1, 300_000, MIB as usize];
    for (packet_id, size) in (1..).zip(sizes) {
        connection.publish(Publish::new("in/a/x", payload(size)).qos(1, packet_id));
        connection.expect_puback(packet_id);
    }
    let written: Vec<_> = kafka
        .records("out.a")
        .into_iter()
        .map(|record| record.value.unwrap_or_default())
        .collect();
    assert_eq!(written, sizes.map(payload));
    assert_eq!(kafka.count("dead"), 0);
}

#[test]
fn a_payload_one_byte_larger_than_the_route_takes_is_a_dead_letter() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.max_message_bytes = 10 * 1024;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish_all([
        Publish::new("in/a/x", payload(10 * 1024)).qos(1, 1),
        Publish::new("in/a/x", payload(10 * 1024 + 1)).qos(1, 2),
        Publish::new("in/a/x", payload(5_000_000)).qos(1, 3),
        message("a", 4, "next"),
    ]);
    connection.expect_pubacks(1..=4);
    assert_eq!(kafka.count("out.a"), 2);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 2);
    assert_head(&dead[0], &payload(10 * 1024 + 1));
    assert_head(&dead[1], &payload(5_000_000));
    assert_eq!(worker.settled(4).dead_lettered, 2);
    assert_eq!(worker.snapshot().errors["MessageTooLarge"], 2);
}

#[test]
fn a_packet_of_64_mib_streams_by_in_bounded_memory_and_the_next_is_fine() {
    for qos in [1, 2] {
        let (broker, kafka) = parts();
        let mut document = route(&broker, kafka.bootstrap());
        document.live.source.qos = qos;
        let worker = WorkerProcess::start(&document);
        let mut connection = session(&broker, false);
        let large = payload(64 * MIB as usize);
        connection.publish(Publish::new("in/a/x", "before").qos(qos, 1));
        connection.publish(Publish::new("in/a/x", large.clone()).qos(qos, 2));
        connection.publish(Publish::new("in/a/x", "after").qos(qos, 3));
        for packet_id in 1..=3 {
            match qos {
                1 => connection.expect_puback(packet_id),
                _ => connection.expect_pubrec(packet_id),
            };
        }
        let usage = worker.usage();
        assert!(
            usage.peak_rss_bytes < 40 * MIB,
            "{} MiB resident",
            usage.peak_rss_bytes / MIB
        );
        assert_eq!(kafka.values("out.a"), ["before", "after"]);
        let dead = kafka.records("dead");
        assert_eq!(dead.len(), 1);
        assert_head(&dead[0], &large);
        worker.wait_for("the dead letter in the ledger", |status| {
            status.ledger.dead_lettered == 1 && status.ledger.balance() == 0
        });
    }
}

#[test]
fn a_large_packet_cut_in_the_middle_comes_again_and_is_one_dead_letter() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let large = payload(8_000_000);
    let mut start = vec![0x32];
    start.extend(varint(8 + 2 + 1 + large.len()));
    start.extend([0, 6]);
    start.extend(b"in/a/x");
    start.extend([0, 2, 0]);
    start.extend(&large[..5_000_000]);
    connection.send_raw(start);
    connection.flush(DEADLINE);
    connection.reset();
    let mut connection = session(&broker, true);
    connection.publish(Publish::new("in/a/x", large.clone()).qos(1, 2).dup());
    connection.expect_puback(2);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 1);
    assert_head(&dead[0], &large);
    assert_eq!(worker.settled(1).dead_lettered, 1);
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let more = number > 127;
        bytes.push((number % 128) as u8 | if more { 0x80 } else { 0 });
        number /= 128;
        if !more {
            return bytes;
        }
    }
}

#[test]
fn a_large_packet_is_discarded_when_the_route_says_so() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.on_error.action = ErrorAction::Discard;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(Publish::new("in/a/x", payload(3_000_000)).qos(1, 1));
    connection.publish(message("a", 2, "next"));
    connection.expect_pubacks([1, 2]);
    let ledger = worker.settled(2);
    assert_eq!((ledger.discarded, ledger.written), (1, 1));
    assert_eq!(kafka.count("dead"), 0);
}

#[test]
fn a_large_packet_stops_a_route_that_is_to_stop_and_stays_with_the_broker() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.on_error.action = ErrorAction::Stop;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "before"));
    connection.publish(Publish::new("in/a/x", payload(3_000_000)).qos(1, 2));
    connection.publish(message("a", 3, "after"));
    connection.expect_puback(1);
    assert_eq!(connection.expect_disconnect(), 0);
    let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
    assert!(
        problem.contains("3000000 bytes") && problem.contains("maxMessageBytes"),
        "{problem}"
    );
    assert_eq!(worker.status().phase, Phase::Stopped);
    assert_eq!(kafka.values("out.a"), ["before"]);
}

/// mosquitto 2.0.11 keeps to the receive maximum only until the first ack, and gives identifiers to other messages
/// while they are in flight.
#[test]
fn a_broker_that_overruns_the_receive_maximum_costs_bounded_memory_and_loses_nothing() {
    const MESSAGES: u32 = 100_000;
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::brokers(1);
    kafka.topic("out.a", 8);
    kafka.hold();
    let worker = WorkerProcess::start(&route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let id = |number: u32| (number % 65_535 + 1) as u16;
    connection.publish_all((0..MESSAGES).map(|number| {
        let payload = format!("{number:0100}");
        Publish::new(&format!("in/a/{}", number % 100), payload).qos(1, id(number))
    }));
    let all = |status: &RouteStatus| status.ledger.received == u64::from(MESSAGES);
    worker.wait_for("all messages to be received", all);
    let usage = worker.usage();
    assert!(
        usage.peak_rss_bytes < 112 * MIB,
        "{} MiB resident with {MESSAGES} messages outstanding",
        usage.peak_rss_bytes / MIB
    );
    kafka.release();
    for number in 0..MESSAGES {
        connection.expect_puback(id(number));
    }
    assert_eq!(kafka.count("out.a"), MESSAGES as usize);
    let usage = worker.usage();
    assert!(
        usage.peak_rss_bytes < 128 * MIB,
        "{} MiB",
        usage.peak_rss_bytes / MIB
    );
}

#[test]
fn a_broker_that_sends_without_end_is_not_read_without_end() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::brokers(1);
    kafka.topic("out.a", 8);
    kafka.go_away();
    let worker = WorkerProcess::start(&route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let packet = raw_publish(1, b"x");
    // Many more than a broker may have outstanding, none of them with much in it.
    connection.send_raw(packet.repeat(1_000_000));
    worker.wait_for("the worker to stop reading", |status| {
        status.ledger.received > 100_000 && status.ledger.received < 1_000_000
    });
    let mut last = 0;
    worker.wait_for("the count to stand", |status| {
        std::mem::replace(&mut last, status.ledger.received) == status.ledger.received
    });
    assert!(last <= 140_000, "{last} messages held");
    let usage = worker.usage();
    assert!(
        usage.peak_rss_bytes < 128 * MIB,
        "{} MiB",
        usage.peak_rss_bytes / MIB
    );
}

fn raw_publish(packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x32];
    packet.extend(varint(8 + 2 + 1 + payload.len()));
    packet.extend([0, 6]);
    packet.extend(b"in/a/x");
    packet.extend(packet_id.to_be_bytes());
    packet.push(0);
    packet.extend(payload);
    packet
}

#[test]
fn answers_to_a_broker_that_does_not_read_are_bounded_too() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.settings.broker.keep_alive_seconds = 2;
    let worker = WorkerProcess::start(&document);
    let mut connection = session(&broker, false);
    connection.stop_reading();
    // Each PUBREL is answered by a PUBCOMP of the same size, and Kafka has no part in it.
    connection.send_raw([0x62, 2, 0, 1].repeat(25_000_000));
    worker.wait_for("the connection to be given up", |status| {
        status
            .problems
            .iter()
            .any(|problem| problem.message.contains("does not read"))
    });
    let usage = worker.usage();
    assert!(
        usage.peak_rss_bytes < 48 * MIB,
        "{} MiB",
        usage.peak_rss_bytes / MIB
    );
}

/// None is allowed (Topic Alias Maximum 0): with one taken for no topic, the message would be lost.
#[test]
fn a_topic_alias_is_a_protocol_error_that_is_said_and_loses_nothing() {
    for topic in ["", "in/a/x"] {
        let (broker, kafka) = parts();
        let worker = Running::start(route(&broker, kafka.bootstrap()));
        let mut connection = session(&broker, false);
        let alias = Properties::new().with(id::TOPIC_ALIAS, Value::Short(1));
        connection.publish(message("a", 1, "before"));
        connection.expect_puback(1);
        connection.publish(Publish::new(topic, "x").qos(1, 2).properties(alias));
        assert!(matches!(connection.expect_disconnect(), 0x82 | 0x94));
        assert_eq!(connection.expect_end(), End::Closed);
        connection.close();
        let problem = worker.wait_for_problem(Reason::ProtocolError);
        assert!(problem.contains("topic alias 1"), "{problem}");

        let mut connection = session(&broker, true);
        connection.publish(repeat("a", 2, "x"));
        connection.expect_puback(2);
        assert_eq!(kafka.values("out.a"), ["before", "x"]);
    }
}

#[test]
fn what_is_not_mqtt_ends_the_connection_and_is_said() {
    let wildcard_free = |topic: &[u8]| {
        let mut packet = vec![0x32];
        packet.extend(varint(2 + topic.len() + 2 + 1));
        packet.extend((topic.len() as u16).to_be_bytes());
        packet.extend(topic);
        packet.extend([0, 1, 0]);
        packet
    };
    let cases: [(&str, Vec<u8>); 7] = [
        ("QoS 3", [&[0x36][..], &raw_publish(1, b"x")[1..]].concat()),
        (
            "a remaining length of five bytes",
            vec![0x32, 0x80, 0x80, 0x80, 0x80, 1],
        ),
        ("an empty topic", wildcard_free(b"")),
        ("a topic that is not UTF-8", wildcard_free(&[0xFF, 0xFE])),
        ("a second CONNACK", vec![0x20, 3, 0, 0, 0]),
        ("a packet only clients send", vec![0xC0, 0]),
        (
            "a PUBLISH without packet identifier",
            vec![0x32, 4, 0, 2, b'i', b'n'],
        ),
    ];
    for (what, bytes) in cases {
        let (broker, kafka) = parts();
        let worker = Running::start(route(&broker, kafka.bootstrap()));
        let mut connection = session(&broker, false);
        connection.send_raw(bytes);
        assert_eq!(connection.expect_disconnect(), 0x82, "{what}");
        connection.close();
        let problem = worker.wait_for_problem(Reason::ProtocolError);
        assert!(!problem.is_empty(), "{what}");
        let mut connection = session(&broker, true);
        connection.publish(message("a", 1, "x"));
        connection.expect_puback(1);
        worker.wait_for("the problem to end", |status| status.problems.is_empty());
    }
}

#[test]
fn sigterm_ends_the_process_after_the_last_ack() {
    let (broker, kafka) = parts();
    kafka.hold();
    let mut worker = WorkerProcess::start(&route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all((1..=10).map(|id| message("a", id, "x")));
    worker.wait_for("10 messages", |status| status.ledger.received == 10);
    worker.process.terminate();
    worker.wait_for("the route to drain", |status| status.phase == Phase::Draining);
    kafka.release();
    connection.expect_pubacks(1..=10);
    assert_eq!(connection.expect_disconnect(), 0);
    assert_eq!(connection.expect_end(), End::Closed);
    connection.close();
    assert!(worker.process.wait(Duration::from_secs(5)).success());
}

//! An ack leaves after Kafka has confirmed, in receive order, once, and on the connection of its message.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{DEADLINE, MockKafka, QUIET, Running, message, route, session};
use millrace_testkit::ScriptedBroker;
use millrace_testkit::wire::Publish;

#[test]
fn no_ack_leaves_before_kafka_has_confirmed() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.go_away();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all((1..=10).map(|id| message("a", id, &id.to_string())));
    worker.wait_received(10);
    connection.assert_silent(QUIET);
    kafka.come_back();
    connection.expect_pubacks(1..=10);
    assert_eq!(kafka.count("out.a"), 10);
}

#[test]
fn acks_leave_in_receive_order_although_a_later_message_is_confirmed_first() {
    let (broker, kafka) = (
        ScriptedBroker::start(),
        MockKafka::start(&["out.slow", "out.fast"]),
    );
    kafka.hold_topic("out.slow");
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all([
        message("fast", 9, "before"),
        message("slow", 8, "holds the others"),
        message("fast", 7, "confirmed"),
        message("fast", 6, "confirmed"),
    ]);
    worker.wait_written(3);
    connection.expect_puback(9);
    connection.assert_silent(QUIET);
    kafka.release_topic("out.slow");
    connection.expect_pubacks([8, 7, 6]);
}

#[test]
fn acks_leave_in_receive_order_whatever_the_order_of_many_partitions() {
    const BROKERS: i32 = 3;
    const MESSAGES: u16 = 30_000;
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::brokers(BROKERS));
    for stream in 0..BROKERS {
        kafka.topic(&format!("out.{stream}"), 4);
        for partition in 0..4 {
            kafka.lead(&format!("out.{stream}"), partition, Some(stream + 1));
        }
        // Brokers that answer at different speeds: reports come in no order.
        kafka.slow(stream + 1, Duration::from_millis(7 * stream as u64));
    }
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all((1..=MESSAGES).map(|id| {
        let topic = format!("in/{}/{}", id % 3, id % 50);
        Publish::new(&topic, "x").qos(1, id)
    }));
    connection.expect_pubacks(1..=MESSAGES);
    assert_eq!(worker.settled(u64::from(MESSAGES)).written, u64::from(MESSAGES));
}

#[test]
fn a_late_report_acknowledges_no_message_of_the_next_connection() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.old", "out.new"]));
    kafka.hold_topic("out.old");
    kafka.hold_topic("out.new");
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("old", 7, "of the first connection"));
    worker.wait_received(1);
    connection.reset();

    // The broker has given the identifier to another message.
    let mut connection = session(&broker, true);
    connection.publish(message("new", 7, "of the second connection"));
    worker.wait_received(2);
    kafka.release_topic("out.old");
    worker.wait_written(1);
    assert_eq!(worker.ledger().returned, 0, "a late report moves it to written");
    connection.assert_silent(QUIET);
    kafka.release_topic("out.new");
    connection.expect_puback(7);
    connection.assert_silent(QUIET);
    assert_eq!(kafka.values("out.new"), ["of the second connection"]);
}

#[test]
fn a_late_report_is_no_ack_when_the_next_connection_has_no_message() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all((1..=100).map(|id| message("a", id, "x")));
    worker.wait_received(100);
    connection.reset();
    let mut connection = session(&broker, true);
    kafka.release();
    worker.wait_written(100);
    connection.assert_silent(QUIET);
}

#[test]
fn acks_of_a_batch_leave_in_few_writes() {
    const MESSAGES: u16 = 1_000;
    let kafka = MockKafka::start(&["out.a"]);
    kafka.hold();
    // A broker of its own, which sees in which pieces bytes come.
    let scripted = ScriptedBroker::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut document = route(&scripted, kafka.bootstrap());
    document.settings.broker.urls = vec![format!("mqtt://{}", listener.local_addr().unwrap())];
    let worker = Running::start(document);
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut buffer = vec![0; 64 * 1024];
    for answer in [&[0x20, 3, 0, 0, 0][..], &[0x90, 4, 0, 1, 0, 1]] {
        assert!(
            stream.read(&mut buffer).unwrap() > 0,
            "no CONNECT, or no SUBSCRIBE"
        );
        stream.write_all(answer).unwrap();
    }
    let mut packets = Vec::new();
    for id in 1..=MESSAGES {
        packets.extend([0x32, 11, 0, 6]);
        packets.extend(b"in/a/x");
        packets.extend(id.to_be_bytes());
        packets.push(0);
    }
    stream.write_all(&packets).unwrap();
    worker.wait_received(u64::from(MESSAGES));
    kafka.release();

    let (mut acks, mut pieces) = (Vec::new(), 0);
    while acks.len() < 4 * usize::from(MESSAGES) {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "the worker closed the connection");
        acks.extend_from_slice(&buffer[..count]);
        pieces += 1;
    }
    let expected: Vec<u8> = (1..=MESSAGES)
        .flat_map(|id| [0x40, 2, (id >> 8) as u8, id as u8])
        .collect();
    assert_eq!(acks, expected);
    // One each would be a thousand. On a busy machine reports come little by little, and acks with them.
    assert!(pieces <= 250, "{MESSAGES} acks came in {pieces} pieces");
}

#[test]
fn filtered_messages_are_acknowledged_without_kafka() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.when = Some("message.topic != 'in/a/x'".into());
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish_all((1..=3).map(|id| message("a", id, "filtered")));
    connection.expect_pubacks(1..=3);
    assert_eq!(worker.settled(3).filtered, 3);
}

#[test]
fn a_message_of_qos_0_is_written_and_not_acknowledged() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    let mut document = route(&broker, kafka.bootstrap());
    document.live.source.qos = 0;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(Publish::new("in/a/x", "qos 0"));
    worker.wait_written(1);
    connection.assert_silent(QUIET);
    assert_eq!(kafka.values("out.a"), ["qos 0"]);
}

#[test]
fn a_message_of_qos_0_that_was_handed_to_kafka_survives_its_connection() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(Publish::new("in/a/x", "qos 0"));
    worker.wait_received(1);
    connection.reset();
    let _connection = session(&broker, true);
    kafka.release();
    worker.wait_written(1);
    assert_eq!(worker.ledger().dropped, 0);
}

#[test]
fn lanes_do_not_wait_for_each_other() {
    let (broker, kafka) = (
        ScriptedBroker::start(),
        MockKafka::start(&["out.slow", "out.fast"]),
    );
    kafka.hold_topic("out.slow");
    let mut document = route(&broker, kafka.bootstrap());
    document.live.lanes.count = 2;
    document.live.source.subscriptions = ["in/+stream/one", "in/+stream/two"]
        .map(|filter| millrace_contract::Subscription {
            filter: filter.into(),
        })
        .into();
    let worker = Running::start(document);
    let mut lanes: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = broker.accept();
            let (connect, subscribe) = connection.accept_session(false);
            (connect.client_id, subscribe.filters[0].filter.clone(), connection)
        })
        .collect();
    lanes.sort_by(|a, b| a.0.cmp(&b.0));
    let ids: BTreeSet<_> = lanes.iter().map(|lane| lane.0.as_str()).collect();
    assert_eq!(
        ids,
        BTreeSet::from(["millrace-0a1b2c3d-0", "millrace-0a1b2c3d-1"])
    );
    assert_eq!(
        (lanes[0].1.as_str(), lanes[1].1.as_str()),
        ("in/+/two", "in/+/one")
    );
    lanes[0].2.publish(Publish::new("in/slow/two", "waits").qos(1, 5));
    worker.wait_received(1);
    lanes[1]
        .2
        .publish(Publish::new("in/fast/one", "does not").qos(1, 5));
    lanes[1].2.expect_puback(5);
    lanes[0].2.assert_silent(QUIET);
    kafka.release_topic("out.slow");
    lanes[0].2.expect_puback(5);
}

//! QoS 2: PUBREC like PUBACK only after Kafka, PUBCOMP always, and a second record only where it has to be.

use crate::harness::{MockKafka, QUIET, Running, route, session};
use millrace_contract::{Document, ProtocolVersion};
use millrace_testkit::wire::{Packet, Publish};
use millrace_testkit::{Connection, ScriptedBroker};

fn message(packet_id: u16, payload: &str) -> Publish {
    Publish::new("in/a/x", payload.to_owned()).qos(2, packet_id)
}

fn start(broker: &ScriptedBroker, kafka: &MockKafka) -> Running {
    Running::start(qos2(broker, kafka))
}

fn qos2(broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.live.source.qos = 2;
    document
}

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a"]))
}

/// The broker has not got the PUBREC that was written: the connection is reset, and the session resumed.
fn lose_and_resume(broker: &ScriptedBroker, connection: Connection) -> Connection {
    connection.reset();
    session(broker, true)
}

#[test]
fn pubrec_leaves_after_kafka_has_confirmed() {
    let (broker, kafka) = parts();
    kafka.hold();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish_all((1..=5).map(|id| message(id, &id.to_string())));
    worker.wait_received(5);
    connection.assert_silent(QUIET);
    kafka.release();
    for id in 1..=5 {
        connection.expect_pubrec(id);
    }
    connection.pubrel(1);
    connection.expect_pubcomp(1);
    assert_eq!(kafka.values("out.a"), ["1", "2", "3", "4", "5"]);
}

#[test]
fn the_whole_exchange_works_in_3_1_1_too() {
    let (broker, kafka) = parts();
    let mut document = qos2(&broker, &kafka);
    document.settings.broker.protocol_version = ProtocolVersion::V311;
    let _worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(message(1, "x"));
    connection.expect_pubrec(1);
    connection.pubrel(1);
    connection.expect_pubcomp(1);
}

#[test]
fn pubrel_after_a_reconnect_gets_pubcomp() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    let mut connection = lose_and_resume(&broker, connection);
    connection.pubrel(3);
    connection.expect_pubcomp(3);
    connection.publish(message(3, "y"));
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "y"]);
}

#[test]
fn an_unknown_pubrel_gets_pubcomp_and_ends_nothing() {
    let (broker, kafka) = parts();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, true);
    connection.pubrel(12_345);
    connection.expect_pubcomp(12_345);
    connection.publish(message(1, "x"));
    connection.expect_pubrec(1);
    assert_eq!(worker.lane().connections, 1);
}

#[test]
fn pubcomp_does_not_wait_for_kafka() {
    let (broker, kafka) = parts();
    kafka.hold();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, true);
    connection.publish(message(1, "held"));
    worker.wait_received(1);
    connection.pubrel(2);
    connection.expect_pubcomp(2);
}

#[test]
fn at_most_a_thousand_messages_wait_for_their_release() {
    let (broker, kafka) = parts();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish_all((1..=1_500).map(|id| message(id, "x")));
    worker.settled(1_500);
    for id in 1..=1_000 {
        connection.expect_pubrec(id);
    }
    connection.assert_silent(QUIET);
    for id in 1..=100 {
        connection.pubrel(id);
        connection.expect_pubcomp(id);
        connection.expect_pubrec(1_000 + id);
    }
    connection.assert_silent(QUIET);
    // A worker that ends does not wait for the broker.
    worker.stop();
    for id in 1_101..=1_500 {
        connection.expect_pubrec(id);
    }
    connection.expect_disconnect();
}

#[test]
fn a_repeat_with_dup_is_not_written_twice_until_it_is_released() {
    let (broker, kafka) = parts();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    // Unlike PUBACK, PUBREC does not free the identifier: it is the same message however often it comes.
    for _ in 0..3 {
        connection = lose_and_resume(&broker, connection);
        connection.publish(message(3, "x").dup());
        connection.expect_pubrec(3);
    }
    connection.pubrel(3);
    connection.expect_pubcomp(3);
    assert_eq!(kafka.values("out.a"), ["x"]);
    assert_eq!(worker.settled(4).repeats, 3);
}

#[test]
fn after_its_release_an_identifier_is_another_messages() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    connection.pubrel(3);
    connection.expect_pubcomp(3);
    // Its first transmission was lost.
    let mut connection = lose_and_resume(&broker, connection);
    connection.publish(message(3, "x").dup());
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn without_dup_it_is_another_message() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    // mosquitto gives identifiers to other messages while they are in flight.
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    let mut connection = lose_and_resume(&broker, connection);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "x", "x"]);
}

#[test]
fn other_content_under_an_unreleased_identifier_is_written_although_dup_is_set() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    let mut connection = lose_and_resume(&broker, connection);
    connection.publish(message(3, "y").dup());
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "y"]);
}

#[test]
fn a_repeat_of_what_is_in_the_producer_waits_for_that_record() {
    let (broker, kafka) = parts();
    kafka.hold();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    worker.wait_received(1);
    let mut connection = lose_and_resume(&broker, connection);
    connection.publish(message(3, "x").dup());
    worker.wait_received(2);
    connection.assert_silent(QUIET);
    kafka.release();
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x"]);
}

#[test]
fn nothing_is_a_repeat_once_the_broker_has_no_session() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    connection.reset();
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x").dup());
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn nothing_is_a_repeat_after_a_takeover() {
    let (broker, kafka) = parts();
    let _worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish(message(3, "x"));
    connection.expect_pubrec(3);
    connection.disconnect(0x8E);
    let mut connection = session(&broker, true);
    connection.publish(message(3, "x").dup());
    connection.expect_pubrec(3);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

/// mosquitto 2.0.11 had 99,980 messages outstanding at a receive maximum of 10,000, 34,445 of them under an
/// identifier that was in flight, all with DUP=0.
#[test]
fn identifiers_reused_while_in_flight_are_different_messages() {
    const MESSAGES: u32 = 100_000;
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::brokers(1));
    kafka.topic("out.a", 4);
    let id = |number: u32| (number % 65_535 + 1) as u16;
    kafka.hold();
    let worker = start(&broker, &kafka);
    let mut connection = session(&broker, false);
    connection.publish_all((0..MESSAGES).map(|number| message(id(number), &number.to_string())));
    worker.wait_received(u64::from(MESSAGES));
    kafka.release();
    let (mut received, mut released) = (0, 0);
    while received < MESSAGES {
        match connection.expect_packet() {
            Packet::Pubrec(ack) => {
                assert_eq!(ack.packet_id, id(received));
                connection.pubrel(ack.packet_id);
                received += 1;
            }
            Packet::Pubcomp(ack) => {
                assert_eq!(ack.packet_id, id(released));
                released += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kafka.count("out.a"), MESSAGES as usize);
}

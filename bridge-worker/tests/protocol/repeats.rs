//! What comes again with QoS 1: written a second time only when it has to be, and never dropped.

use crate::harness::{MockKafka, QUIET, Running, message, repeat, route, session};
use millrace_testkit::{Connection, ScriptedBroker};

/// A message was confirmed by Kafka while its connection was gone: its ack has never left.
fn confirmed_without_ack(payload: &str) -> (ScriptedBroker, MockKafka, Running) {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 7, payload));
    worker.wait_received(1);
    broker.refuse();
    connection.reset();
    worker.wait_for("the message to be returned", |status| status.ledger.returned == 1);
    kafka.release();
    worker.wait_written(1);
    broker.listen();
    (broker, kafka, worker)
}

/// A message is in the producer, and the connection it came on is gone.
fn in_the_producer(payload: &str) -> (ScriptedBroker, MockKafka, Running) {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 7, payload));
    worker.wait_received(1);
    connection.reset();
    (broker, kafka, worker)
}

#[test]
fn confirmed_while_the_connection_was_gone_is_not_written_twice() {
    let (broker, kafka, worker) = confirmed_without_ack("x");
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x"]);
    let ledger = worker.settled(2);
    assert_eq!((ledger.written, ledger.repeats, ledger.returned), (1, 1, 0));
}

#[test]
fn confirmed_behind_an_unconfirmed_message_is_not_written_twice() {
    let (broker, kafka) = (
        ScriptedBroker::start(),
        MockKafka::start(&["out.slow", "out.fast"]),
    );
    kafka.hold_topic("out.slow");
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all([message("slow", 1, "first"), message("fast", 2, "second")]);
    worker.wait_written(1);
    connection.reset();

    let mut connection = session(&broker, true);
    connection.publish_all([repeat("slow", 1, "first"), repeat("fast", 2, "second")]);
    worker.wait_received(4);
    connection.assert_silent(QUIET);
    kafka.release_topic("out.slow");
    connection.expect_pubacks([1, 2]);
    assert_eq!(kafka.values("out.slow"), ["first"]);
    assert_eq!(kafka.values("out.fast"), ["second"]);
}

#[test]
fn a_repeat_of_what_is_in_the_producer_waits_for_that_record() {
    let (broker, kafka, worker) = in_the_producer("x");
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "x"));
    worker.wait_received(2);
    connection.assert_silent(QUIET);
    kafka.release();
    connection.expect_puback(7);
    connection.assert_silent(QUIET);
    assert_eq!(kafka.values("out.a"), ["x"]);
}

#[test]
fn a_repeat_over_several_connections_is_one_record() {
    let (broker, kafka, worker) = in_the_producer("x");
    for received in 2..=4 {
        let mut connection = session(&broker, true);
        connection.publish(repeat("a", 7, "x"));
        worker.wait_received(received);
        connection.reset();
    }
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "x"));
    worker.wait_received(5);
    kafka.release();
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x"]);
}

#[test]
fn a_window_of_repeats_is_written_once_and_acknowledged_in_order() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let all = |dup: bool| {
        (1..=2_000).map(move |id| {
            let publish = message("a", id, &id.to_string());
            if dup { publish.dup() } else { publish }
        })
    };
    let mut connection = session(&broker, false);
    connection.publish_all(all(false));
    worker.wait_received(2_000);
    connection.reset();
    let mut connection = session(&broker, true);
    connection.publish_all(all(true));
    worker.wait_received(4_000);
    kafka.release();
    connection.expect_pubacks(1..=2_000);
    let expected: Vec<String> = (1..=2_000).map(|id: u32| id.to_string()).collect();
    assert_eq!(kafka.values("out.a"), expected);
}

#[test]
fn without_dup_it_is_another_message_and_written() {
    let (broker, kafka, _worker) = confirmed_without_ack("x");
    let mut connection = session(&broker, true);
    connection.publish(message("a", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn without_dup_it_is_not_taken_for_what_is_in_the_producer() {
    let (broker, kafka, worker) = in_the_producer("x");
    let mut connection = session(&broker, true);
    connection.publish(message("a", 7, "x"));
    worker.wait_received(2);
    kafka.release();
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn other_content_under_the_same_identifier_is_written_although_dup_is_set() {
    let (broker, kafka, _worker) = confirmed_without_ack("x");
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "y"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "y"]);
}

#[test]
fn equal_content_on_another_topic_is_written_although_dup_is_set() {
    let (broker, kafka, _worker) = confirmed_without_ack("x");
    kafka.topic("out.b", 1);
    let mut connection = session(&broker, true);
    connection.publish(repeat("b", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.b"), ["x"]);
}

#[test]
fn other_content_is_not_taken_for_what_is_in_the_producer() {
    let (broker, kafka, worker) = in_the_producer("x");
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "y"));
    worker.wait_received(2);
    kafka.release();
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "y"]);
}

/// The broker may have processed the ack and given the identifier to another message of equal content, whose first
/// transmission was lost with the connection. To drop that one would lose it.
#[test]
fn equal_content_is_written_once_an_ack_was_written() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    let _worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 7, "x"));
    connection.expect_puback(7);
    connection.reset();
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn a_repeat_is_recognised_once() {
    let (broker, kafka, _worker) = confirmed_without_ack("x");
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 7, "x"));
    connection.expect_puback(7);
    // Its ack has left: this is another message.
    connection.publish(repeat("a", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn nothing_is_a_repeat_once_the_broker_has_no_session() {
    let (broker, kafka, _worker) = confirmed_without_ack("x");
    let mut connection = session(&broker, false);
    connection.publish(repeat("a", 7, "x"));
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

#[test]
fn nothing_in_the_producer_is_adopted_once_the_broker_has_no_session() {
    let (broker, kafka, worker) = in_the_producer("x");
    let mut connection = session(&broker, false);
    connection.publish(repeat("a", 7, "x"));
    worker.wait_received(2);
    kafka.release();
    connection.expect_puback(7);
    assert_eq!(kafka.values("out.a"), ["x", "x"]);
}

/// Who took the session over may have acknowledged the message, and the broker given its identifier to another.
#[test]
fn nothing_is_a_repeat_after_a_takeover() {
    let (broker, kafka) = (
        ScriptedBroker::start(),
        MockKafka::start(&["out.slow", "out.fast"]),
    );
    kafka.hold_topic("out.slow");
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let taken_over = |mut connection: Connection| {
        connection.publish_all([
            message("slow", 1, "in the producer"),
            message("fast", 2, "confirmed"),
        ]);
        worker.wait_written(1);
        connection.disconnect(0x8E);
    };
    taken_over(session(&broker, false));
    let mut connection = session(&broker, true);
    connection.publish_all([
        repeat("slow", 1, "in the producer"),
        repeat("fast", 2, "confirmed"),
    ]);
    worker.wait_written(2);
    kafka.release_topic("out.slow");
    connection.expect_pubacks([1, 2]);
    assert_eq!(kafka.values("out.fast"), ["confirmed", "confirmed"]);
    assert_eq!(kafka.values("out.slow"), ["in the producer", "in the producer"]);
}

#[test]
fn a_filtered_message_is_no_repeat() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a", "out.slow"]));
    kafka.hold_topic("out.slow");
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.when = Some("stream != 'a'".into());
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish_all([message("slow", 1, "x"), message("a", 2, "filtered")]);
    worker.wait_for("a filtered message", |status| status.ledger.filtered == 1);
    connection.reset();
    let mut connection = session(&broker, true);
    connection.publish_all([repeat("slow", 1, "x"), repeat("a", 2, "filtered")]);
    worker.wait_for("the message to be filtered again", |status| {
        status.ledger.filtered == 2
    });
    kafka.release_topic("out.slow");
    connection.expect_pubacks([1, 2]);
    assert_eq!(worker.settled(4).repeats, 0);
}

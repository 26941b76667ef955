//! A connection lives while Kafka is away, dies when the broker is silent or does not read, and ends in order.

mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{MockKafka, QUIET, Running, message, route, session};
use millrace_contract::Document;
use millrace_contract::status::{LaneState, Phase, Reason};
use millrace_testkit::wire::{self, Properties, Publish, id};
use millrace_testkit::{End, ScriptedBroker, wait_until};

const KEEP_ALIVE: Duration = Duration::from_secs(1);

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a"]))
}

fn impatient(broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.settings.broker.keep_alive_seconds = KEEP_ALIVE.as_secs() as u16;
    document
}

#[test]
fn pings_go_on_while_kafka_is_away() {
    let (broker, kafka) = parts();
    kafka.go_away();
    let worker = Running::start(impatient(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.answer_pings(false);
    connection.publish(message("a", 1, "x"));
    let start = Instant::now();
    while start.elapsed() < 2 * KEEP_ALIVE {
        connection.expect_pingreq_within(KEEP_ALIVE);
        connection.send_pingresp();
    }
    kafka.come_back();
    connection.answer_pings(true);
    connection.expect_puback(1);
    assert_eq!(worker.lane().connections, 1);
}

#[test]
fn a_full_lane_stops_reading_keeps_its_connection_and_catches_up() {
    const MESSAGES: u16 = 120;
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::brokers(1));
    kafka.topic("out.a", 4);
    kafka.go_away();
    let worker = Running::start(impatient(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.answer_pings(false);
    // 120 MB: more than a worker holds.
    let payload = "x".repeat(1_000_000);
    connection.publish_all((1..=MESSAGES).map(|id| message("a", id, &payload)));
    let start = Instant::now();
    // What the broker has sent waits unread, and so would its PINGRESPs.
    while start.elapsed() < 5 * KEEP_ALIVE / 2 {
        connection.expect_pingreq_within(KEEP_ALIVE);
    }
    let status = worker.status();
    assert!(status.ledger.received < 80, "{:?}", status.ledger);
    assert!(status.buffered_bytes < 70_000_000, "{}", status.buffered_bytes);
    assert!(connection.pending() > 0, "everything was read");
    connection.answer_pings(true);
    kafka.come_back();
    connection.expect_pubacks(1..=MESSAGES);
    assert_eq!(kafka.count("out.a"), usize::from(MESSAGES));
    assert_eq!(worker.lane().connections, 1);
}

#[test]
fn the_brokers_keep_alive_counts() {
    let (broker, kafka) = parts();
    let _worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.answer_pings(false);
    connection.expect_connect();
    let properties = Properties::new().with(id::SERVER_KEEP_ALIVE, wire::Value::Short(1));
    connection.send_connack(false, 0, properties);
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    connection.expect_pingreq_within(KEEP_ALIVE);
}

#[test]
fn a_silent_broker_is_left_and_said() {
    let (broker, kafka) = parts();
    let worker = Running::start(impatient(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.answer_pings(false);
    let start = Instant::now();
    connection.expect_pingreq_within(KEEP_ALIVE);
    connection.expect_end_within(3 * KEEP_ALIVE);
    assert!(start.elapsed() >= KEEP_ALIVE, "left after {:?}", start.elapsed());
    let problem = worker.wait_for_problem(Reason::BrokerUnreachable);
    assert!(problem.contains("does not answer"), "{problem}");
    let _connection = session(&broker, true);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
}

#[test]
fn anything_received_counts_as_life_because_pingresp_may_be_behind_a_backlog() {
    let (broker, kafka) = parts();
    let worker = Running::start(impatient(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.answer_pings(false);
    let start = Instant::now();
    let mut id = 0;
    let mut last = Instant::now();
    // No PINGRESP for three times the keep-alive, but messages.
    while start.elapsed() < 3 * KEEP_ALIVE {
        id += 1;
        connection.publish(message("a", id, "x"));
        worker.wait_written(u64::from(id));
        wait_until(KEEP_ALIVE, "a third of the keep-alive to pass", || {
            last.elapsed() > KEEP_ALIVE / 3
        });
        last = Instant::now();
    }
    assert_eq!(worker.lane().connections, 1);
    assert_eq!(worker.lane().state, LaneState::Up);
}

/// The broker sends, and does not read what is sent to it.
#[test]
fn a_broker_that_does_not_read_is_left_and_said() {
    let (broker, kafka) = parts();
    let worker = Running::start(impatient(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.stop_reading();
    // Answers of 4 bytes each to more of them than the kernel's buffers hold.
    let pubrels: Vec<u8> = (0..8_000_000_u32)
        .flat_map(|id| [0x62, 2, (id >> 8) as u8, id as u8])
        .collect();
    connection.send_raw(pubrels);
    let problem = worker.wait_for_problem(Reason::BrokerUnreachable);
    assert!(problem.contains("does not read"), "{problem}");
    let mut connection = session(&broker, true);
    connection.publish(message("a", 1, "x"));
    connection.expect_puback(1);
}

#[test]
fn stop_sends_the_last_acks_then_disconnect_and_reads_to_the_end() {
    let (broker, kafka) = parts();
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish_all((1..=100).map(|id| message("a", id, "x")));
    worker.wait_received(100);
    worker.stop();
    worker.wait_for("the route to drain", |status| status.phase == Phase::Draining);
    // From here on nothing is read: to close with this unread would reset the connection, and the acks that the
    // broker has not read yet would be lost.
    connection.stop_reading();
    connection.publish_all((101..=1_000).map(|id| message("a", id, "x")));
    kafka.release();
    worker.wait_written(100);
    broker.assert_no_connection(QUIET);
    connection.resume_reading();
    connection.expect_pubacks(1..=100);
    assert_eq!(connection.expect_disconnect(), 0, "the session is kept");
    assert_eq!(connection.expect_end(), End::Closed);
    connection.close();
    worker.wait_ended();
    let status = worker.status();
    assert_eq!((status.phase, status.ledger.in_flight), (Phase::Ended, 0));
    assert_eq!(kafka.count("out.a"), 100);
}

#[test]
fn stop_waits_no_longer_for_kafka_than_the_drain_timeout() {
    let (broker, kafka) = parts();
    kafka.go_away();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.timeouts.drain_ms = 500;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x"));
    worker.wait_received(1);
    let start = Instant::now();
    worker.stop();
    assert_eq!(connection.expect_disconnect(), 0);
    assert!(start.elapsed() >= Duration::from_millis(450));
    connection.close();
    worker.wait_ended();
    assert_eq!(
        worker.ledger().in_flight,
        1,
        "neither acknowledged nor accounted as done"
    );
}

#[test]
fn stop_ends_a_worker_whose_broker_cannot_be_reached() {
    let (broker, kafka) = parts();
    broker.refuse();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    worker.wait_for_problem(Reason::BrokerUnreachable);
    worker.stop();
    worker.wait_ended();
}

#[test]
fn stop_ends_a_worker_whose_broker_does_not_answer_connect() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.expect_connect();
    worker.stop();
    worker.wait_ended();
}

/// A record that was handed over before the connection was lost is not forgotten because the worker stops.
#[test]
fn stop_without_a_connection_waits_for_what_kafka_is_about_to_confirm() {
    let (broker, kafka) = parts();
    kafka.hold();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x"));
    worker.wait_received(1);
    broker.refuse();
    connection.reset();
    worker.wait_for_problem(Reason::BrokerUnreachable);
    worker.stop();
    kafka.release();
    worker.wait_ended();
    assert_eq!(worker.ledger().written, 1);
    assert_eq!(kafka.count("out.a"), 1);
}

#[test]
fn messages_of_short_outages_all_arrive_and_are_acknowledged_in_order() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let mut sent = 0_u16;
    for away in [false, true, false, true, false] {
        if away {
            kafka.go_away();
        } else {
            kafka.come_back();
        }
        for _ in 0..200 {
            sent += 1;
            connection.publish(Publish::new("in/a/x", sent.to_string()).qos(1, sent));
        }
        worker.wait_received(u64::from(sent));
    }
    connection.expect_pubacks(1..=sent);
    connection.assert_silent(QUIET);
    // A set: MockCluster does not recognise a batch that is sent again after a lost answer, as Kafka does.
    let values: BTreeSet<u16> = kafka
        .values("out.a")
        .iter()
        .map(|value| value.parse().unwrap())
        .collect();
    assert_eq!(values, (1..=sent).collect());
}

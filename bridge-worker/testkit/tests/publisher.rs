//! The publisher against a real mosquitto, with a plain subscriber in the place of the bridge.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use millrace_testkit::{Mosquitto, Publisher, Records, Stamp, check, wait_until};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(60);

/// Collects what it receives until the test process ends; its session survives the broker's restarts.
fn subscribe(mosquitto: &Mosquitto, filter: &str, qos: QoS) -> Arc<Mutex<Vec<millrace_testkit::MessageId>>> {
    let mut options = MqttOptions::new(format!("subscriber-{filter}"), "127.0.0.1", mosquitto.port());
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(3_600));
    let (client, mut connection) = Client::new(options, 100);
    client.subscribe(filter, qos).unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let (sink, (ready, is_ready)) = (received.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::SubAck(_))) => ready.send(()).unwrap_or_default(),
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    sink.lock()
                        .unwrap()
                        .push(Stamp::read(&publish.payload).unwrap().id);
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        drop(client);
    });
    is_ready.recv_timeout(DEADLINE).unwrap();
    received
}

/// What was received as if it were a partition.
fn records(received: &Mutex<Vec<millrace_testkit::MessageId>>) -> Records {
    Records::of(&received.lock().unwrap())
}

fn restart_while_publishing(qos: u8, subscribe_qos: QoS) {
    let mut mosquitto = Mosquitto::builder().persistence(true).start();
    let port = mosquitto.port();
    let received = subscribe(&mosquitto, "bench/#", subscribe_qos);
    let publisher = Publisher::builder(port)
        .qos(qos)
        .connections(3)
        .keys(10)
        .messages(6_000)
        .rate(3_000.0)
        .start();
    for at in [1_000, 3_000] {
        publisher.wait_acknowledged(at, DEADLINE);
        assert!(
            publisher.acknowledged() < 6_000,
            "the restart must come while messages flow"
        );
        mosquitto.restart();
    }
    assert_eq!(mosquitto.port(), port);
    let connects = publisher.connects();
    let report = publisher.finish(DEADLINE);
    assert!(
        connects >= 6,
        "{connects} connections, 3 publishers and 2 restarts"
    );
    assert_eq!((report.sent(), report.acknowledged()), (6_000, 6_000));
    wait_until(DEADLINE, "all messages at the subscriber", || {
        records(&received).distinct() == 6_000
    });
    let verdict = check(&report, &records(&received));
    assert_eq!(
        (verdict.missing.count, verdict.spurious.count),
        (0, 0),
        "{verdict}"
    );
}

#[test]
fn qos_1_is_acknowledged_in_full_over_restarts_of_the_broker() {
    restart_while_publishing(1, QoS::AtLeastOnce);
}

#[test]
fn qos_2_is_acknowledged_in_full_over_restarts_of_the_broker() {
    // Received with QoS 1: rumqttc does not resume the exchanges of QoS 2.
    restart_while_publishing(2, QoS::AtLeastOnce);
}

#[test]
fn without_a_subscriber_nothing_is_acknowledged() {
    let mosquitto = Mosquitto::builder()
        .user("plant", "secret")
        .user("other", "word")
        .start();
    let builder = Publisher::builder(mosquitto.port())
        .login("plant", "secret")
        .keys(7)
        .connections(3);
    let publisher = builder.size(1_024).messages(2_003).start();
    wait_until(DEADLINE, "refusals", || publisher.refused() > 0);
    assert_eq!(publisher.acknowledged(), 0);
    let report = publisher.abandon();
    assert_eq!(report.acknowledged(), 0);
    assert!(report.sent() > 0);
}

#[test]
fn a_steady_rate_is_kept() {
    let mosquitto = Mosquitto::builder().start();
    let received = subscribe(&mosquitto, "bench/#", QoS::AtLeastOnce);
    let start = std::time::Instant::now();
    let publisher = Publisher::builder(mosquitto.port())
        .connections(2)
        .messages(2_000)
        .rate(1_000.0)
        .start();
    let report = publisher.finish(DEADLINE);
    assert!(
        start.elapsed() >= Duration::from_millis(1_900),
        "{:?}",
        start.elapsed()
    );
    check(&report, &records(&received)).assert_nothing_lost();
    assert_eq!((report.acknowledged(), report.repeats()), (2_000, 0));
}

#[test]
fn qos_0_is_written_and_never_acknowledged() {
    let mosquitto = Mosquitto::builder().start();
    let report = Publisher::builder(mosquitto.port())
        .qos(0)
        .messages(1_000)
        .start()
        .finish(DEADLINE);
    assert_eq!(
        (report.sent(), report.acknowledged(), report.repeats()),
        (1_000, 0, 0)
    );
}

#[test]
fn an_endless_publisher_ends_when_told() {
    let mosquitto = Mosquitto::builder().start();
    let received = subscribe(&mosquitto, "bench/#", QoS::AtLeastOnce);
    let publisher = Publisher::builder(mosquitto.port()).keys(4).start();
    publisher.wait_acknowledged(1_000, DEADLINE);
    publisher.stop();
    let report = publisher.finish(DEADLINE);
    assert_eq!(report.sent(), report.acknowledged());
    wait_until(DEADLINE, "all messages", || {
        records(&received).distinct() == report.sent()
    });
    check(&report, &records(&received))
        .assert_nothing_lost()
        .assert_duplicates_at_most(0);
}

#[test]
fn a_paused_broker_is_waited_for() {
    let mut mosquitto = Mosquitto::builder().start();
    let received = subscribe(&mosquitto, "bench/#", QoS::AtLeastOnce);
    let publisher = Publisher::builder(mosquitto.port())
        .rate(2_000.0)
        .messages(4_000)
        .start();
    publisher.wait_acknowledged(500, DEADLINE);
    mosquitto.pause();
    let mut last = u64::MAX;
    wait_until(DEADLINE, "the flow to stop", || {
        std::thread::sleep(Duration::from_millis(100));
        std::mem::replace(&mut last, publisher.acknowledged()) == publisher.acknowledged()
    });
    assert!(publisher.acknowledged() < 4_000);
    mosquitto.resume();
    let report = publisher.finish(DEADLINE);
    assert_eq!((report.acknowledged(), report.repeats()), (4_000, 0));
    wait_until(DEADLINE, "all messages", || {
        records(&received).distinct() == 4_000
    });
}

#[test]
fn frames_are_split_wherever_the_stream_is_cut() {
    // A PUBACK with a reason, and a PINGRESP.
    let bytes = [0x40, 3, 0, 7, 0x10, 0xd0, 0];
    let mut buffer = BytesMut::new();
    let mut packets = Vec::new();
    for byte in bytes {
        buffer.extend_from_slice(&[byte]);
        packets.extend(
            millrace_testkit::wire::Packet::take(millrace_testkit::wire::Version::V5, &mut buffer).unwrap(),
        );
    }
    use millrace_testkit::wire::{Ack, Packet as Wire};
    assert_eq!(
        packets,
        [
            Wire::Puback(Ack {
                packet_id: 7,
                reason: 0x10
            }),
            Wire::Pingresp
        ]
    );
}

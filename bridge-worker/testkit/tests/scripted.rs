//! The scripted broker, with rumqttc as the client under test, in MQTT 3.1.1 and 5.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_testkit::wire::{Packet, Properties, Publish, Value, Version, id};
use millrace_testkit::{Connection, End, ScriptedBroker, wait_until};
use rumqttc::{AsyncClient, Client, MqttOptions};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

/// A client of MQTT 5 that acknowledges by itself, in a thread that ends with the connection's first error.
fn client_5(broker: &ScriptedBroker) -> rumqttc::v5::Client {
    use rumqttc::v5::mqttbytes::{QoS, v5::Filter};
    let mut options = rumqttc::v5::MqttOptions::new("five", "127.0.0.1", broker.port());
    options
        .set_clean_start(false)
        .set_session_expiry_interval(Some(60))
        .set_credentials("plant", "secret");
    let (client, mut connection) = rumqttc::v5::Client::new(options, 10);
    let mut filter = Filter::new("$share/group/plants/#", QoS::AtLeastOnce);
    filter.preserve_retain = true;
    client
        .subscribe_many([filter, Filter::new("other/+", QoS::ExactlyOnce)])
        .unwrap();
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    client
}

/// The same in 3.1.1.
fn client_311(broker: &ScriptedBroker) -> Client {
    let mut options = MqttOptions::new("three", "127.0.0.1", broker.port());
    options.set_clean_session(false);
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("plants/#", rumqttc::QoS::AtLeastOnce).unwrap();
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    client
}

#[test]
fn a_session_of_mqtt_5_goes_step_by_step() {
    let broker = ScriptedBroker::start();
    let client = client_5(&broker);
    let mut c = broker.accept();
    let connect = c.expect_connect();
    assert_eq!(
        (connect.version, connect.client_id.as_str(), connect.clean_start),
        (Version::V5, "five", false)
    );
    assert_eq!(connect.properties.number(id::SESSION_EXPIRY_INTERVAL), Some(60));
    assert_eq!(
        (connect.username.as_deref(), connect.password.as_deref()),
        (Some("plant"), Some(&b"secret"[..]))
    );
    c.send_connack(
        true,
        0,
        Properties::new().with(id::RECEIVE_MAXIMUM, Value::Short(10)),
    );
    let subscribe = c.expect_subscribe();
    assert_eq!(subscribe.filters[0].filter, "$share/group/plants/#");
    assert_eq!(
        (subscribe.filters[0].qos, subscribe.filters[0].retain_as_published),
        (1, true)
    );
    assert_eq!(
        (subscribe.filters[1].qos, subscribe.filters[1].retain_as_published),
        (2, false)
    );
    c.send_suback(subscribe.packet_id, &[1, 2]);

    let user = Value::Pair("site".into(), "north".into());
    c.publish(
        Publish::new("plants/a", "1")
            .qos(1, 7)
            .properties(Properties::new().with(id::USER_PROPERTY, user)),
    );
    assert_eq!(c.expect_puback(7), 0);
    c.publish(Publish::new("plants/a", "2").qos(2, 8));
    c.expect_pubrec(8);
    c.assert_silent(SHORT);
    c.pubrel(8);
    c.expect_pubcomp(8);
    client.unsubscribe("other/+").unwrap();
    let (packet_id, filters) = c.expect_unsubscribe();
    assert_eq!(filters, ["other/+"]);
    c.send_unsuback(packet_id, &[0]);
    client.disconnect().unwrap();
    assert_eq!(c.expect_disconnect(), 0);
}

#[test]
fn a_session_of_mqtt_3_1_1_goes_step_by_step() {
    let broker = ScriptedBroker::start();
    let client = client_311(&broker);
    let mut c = broker.accept();
    let (connect, subscribe) = c.accept_session(false);
    assert_eq!(
        (connect.version, c.version(), connect.clean_start),
        (Version::V311, Version::V311, false)
    );
    assert_eq!(subscribe.filters[0].filter, "plants/#");
    c.publish_all([7, 9, 8].map(|packet_id| Publish::new("plants/a", "1").qos(1, packet_id)));
    c.expect_pubacks([7, 9, 8]);
    client.disconnect().unwrap();
    assert_eq!(c.expect_disconnect(), 0);
}

#[test]
fn many_and_great_messages_are_sent_in_the_background() {
    let broker = ScriptedBroker::start();
    let mut options = rumqttc::v5::MqttOptions::new("great", "127.0.0.1", broker.port());
    options.set_max_packet_size(Some(100 << 20));
    let (client, mut connection) = rumqttc::v5::Client::new(options, 10);
    client
        .subscribe("#", rumqttc::v5::mqttbytes::QoS::AtLeastOnce)
        .unwrap();
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    let mut c = broker.accept();
    c.accept_session(false);
    // Far more than the 65,535 packet ids there are.
    let ids = || (0..100_000_u32).map(|n| (n % 60_000) as u16 + 1);
    c.publish_all(ids().map(|packet_id| Publish::new("t", "payload").qos(1, packet_id)));
    c.publish(Publish::new("t", vec![b'x'; 64 << 20]).qos(1, 65_535));
    let acks = c.pubacks_until_idle(Duration::from_secs(2));
    assert!(
        acks.iter().copied().eq(ids().chain([65_535])),
        "{} acks",
        acks.len()
    );
    assert_eq!(c.pending(), 0);
}

#[test]
fn pings_are_answered_unless_the_test_does() {
    let broker = ScriptedBroker::start();
    let mut options = MqttOptions::new("pinger", "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(1));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("#", rumqttc::QoS::AtLeastOnce).unwrap();
    std::thread::spawn(move || connection.iter().take_while(Result::is_ok).count());
    let mut c = broker.accept();
    c.accept_session(false);
    c.assert_silent(Duration::from_millis(2_500));
    c.answer_pings(false);
    c.expect_pingreq();
    c.send_pingresp();
    c.expect_pingreq();
    // Without an answer, the client gives up.
    c.expect_end();
}

/// A client by hand: CONNECT of 3.1.1, then nothing.
fn plain(broker: &ScriptedBroker) -> (TcpStream, Connection) {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream
        .write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, b'x'])
        .unwrap();
    let mut c = broker.accept();
    c.expect_connect();
    (stream, c)
}

#[test]
fn connections_end_as_told() {
    let broker = ScriptedBroker::start();
    let (mut stream, c) = plain(&broker);
    c.reset();
    assert_eq!(
        stream.read(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );

    let (mut stream, mut c) = plain(&broker);
    c.send_raw(&b"abc"[..]);
    c.close();
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"abc");

    let (mut stream, c) = plain(&broker);
    c.disconnect(0x8e);
    let mut read = Vec::new();
    stream.read_to_end(&mut read).unwrap();
    assert_eq!(read, [0xe0, 2, 0x8e, 0]);

    let (stream, mut c) = plain(&broker);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(c.expect_end(), End::Closed);

    broker.refuse();
    assert!(TcpStream::connect(broker.address()).is_err());
    broker.assert_no_connection(SHORT);
    broker.listen();
    plain(&broker);
}

#[test]
fn a_broker_that_stops_reading_blocks_the_client() {
    let broker = ScriptedBroker::start();
    let (mut stream, mut c) = plain(&broker);
    c.stop_reading();
    stream.set_nonblocking(true).unwrap();
    let puback = [0x40, 2, 0, 1].repeat(16_384);
    wait_until(
        Duration::from_secs(5),
        "full buffers",
        || matches!(stream.write(&puback), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock),
    );
    c.assert_silent(SHORT);
    c.resume_reading();
    c.expect_puback(1);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let broker = ScriptedBroker::start();
    let (_stream, mut c) = plain(&broker);
    c.publish(Publish::new("t", vec![0; 64 << 20]));
    wait_until(Duration::from_secs(5), "full buffers", || {
        let before = c.pending();
        std::thread::sleep(Duration::from_millis(50));
        c.pending() == before
    });
    assert!(c.pending() > 0);
    c.reset();
}

fn failure(expectation: impl FnOnce(&mut Connection) + std::panic::UnwindSafe, sent: &[u8]) -> String {
    let broker = ScriptedBroker::start();
    let (mut stream, mut c) = plain(&broker);
    stream.write_all(sent).unwrap();
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| expectation(&mut c)));
    *failed.unwrap_err().downcast::<String>().unwrap()
}

#[test]
fn an_expectation_that_fails_says_what_came() {
    let puback = [0x40, 2, 0, 9];
    assert_eq!(
        failure(|c| drop(c.expect_subscribe()), &puback),
        "expected SUBSCRIBE, got PUBACK 9"
    );
    assert_eq!(
        failure(|c| c.expect_pubacks([8]), &puback),
        "expected PUBACK 8, got PUBACK 9"
    );
    assert_eq!(
        failure(|c| c.assert_silent(SHORT), &puback),
        "expected silence for 200ms, got PUBACK 9"
    );
    assert_eq!(
        failure(|c| _ = c.expect_pubrec(9), &puback),
        "expected PUBREC 9, got PUBACK 9"
    );
    assert!(failure(|c| drop(c.expect_packet()), &[0x00, 0]).contains("malformed packet"));
    assert!(failure(|c| drop(c.expect_packet()), &[0x40, 1, 0]).contains("needs 2 bytes, 1 are left"));
    assert!(failure(|c| c.expect_pingreq_within(SHORT), &[]).contains("nothing came"));
}

#[test]
fn acks_are_collected_up_to_something_else() {
    let broker = ScriptedBroker::start();
    let (mut stream, mut c) = plain(&broker);
    stream
        .write_all(&[0x40, 2, 0, 1, 0x50, 2, 0, 2, 0x70, 2, 0, 2, 0xe0, 0])
        .unwrap();
    let acks = c.acks_until_idle(SHORT);
    assert!(
        matches!(
            acks[..],
            [Packet::Puback(_), Packet::Pubrec(_), Packet::Pubcomp(_)]
        ),
        "{acks:?}"
    );
    assert_eq!(c.expect_disconnect(), 0);
}

#[tokio::test]
async fn a_test_of_an_asynchronous_client_drives_it_too() {
    let broker = ScriptedBroker::start();
    let (client, mut events) = AsyncClient::new(MqttOptions::new("async", "127.0.0.1", broker.port()), 10);
    let polling = tokio::spawn(async move { while events.poll().await.is_ok() {} });
    client.subscribe("#", rumqttc::QoS::AtLeastOnce).await.unwrap();
    let mut c = tokio::task::spawn_blocking(move || {
        let mut c = broker.accept();
        c.accept_session(false);
        c
    })
    .await
    .unwrap();
    c.publish(Publish::new("t", "1").qos(1, 1));
    tokio::task::spawn_blocking(move || c.expect_puback(1))
        .await
        .unwrap();
    polling.await.unwrap();
}

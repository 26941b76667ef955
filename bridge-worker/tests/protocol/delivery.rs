//! Records of Kafka become messages of MQTT, and offsets are committed only after the broker has confirmed: against a
//! scripted broker, which answers what a test says, and a mock Kafka.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::{Code, DEADLINE, MockKafka, QUIET, Written, route};
use bridge_worker::Delivery;
use millrace_contract::status::{Phase, Reason, RouteStatus};
use millrace_contract::survey::Survey;
use millrace_contract::{
    Consumer, Document, ErrorAction, LiveToMqtt, NoMatchingSubscribers, OnError, PayloadFormat,
    ProtocolVersion, Publishing, Start, Timeouts,
};
use millrace_testkit::wire::{Properties, Publish, Value, Version, id};
use millrace_testkit::{Connection, ScriptedBroker, wait_until};

const GROUP: &str = "millrace.default.test";

/// From topic `commands`, read from its beginning, to `plants/<key>/cmd` with QoS 1; dead letters go to `dead`.
fn document(broker: &ScriptedBroker, kafka: &MockKafka) -> Document<LiveToMqtt> {
    let mut settings = route(broker, kafka.bootstrap()).settings;
    settings.consumer = Some(Consumer {
        topics: vec!["commands".into()],
        group: GROUP.into(),
        start: Start::Earliest,
    });
    // A group is waited for in these tests.
    for (name, value) in [("session.timeout.ms", "3000"), ("heartbeat.interval.ms", "500")] {
        settings.sink.librdkafka.insert(name.into(), value.into());
    }
    Document {
        settings,
        live: LiveToMqtt {
            payload: PayloadFormat::Bytes,
            publishing: Publishing::to("plants/{record.key}/cmd", vec!["plants/+/cmd".into()]),
            on_error: OnError {
                action: ErrorAction::DeadLetter,
                dead_letter_topic: Some("dead".into()),
                skip: Vec::new(),
            },
            max_message_bytes: 1 << 20,
            timeouts: Timeouts {
                drain_ms: 3_000,
                failover_ms: 500,
            },
            survey: Survey::default(),
        },
    }
}

/// A delivery in this process. When it is dropped its ledger must balance; if the test is panicking, its status is printed.
struct Running(Delivery);

/// The route stops at what cannot be delivered.
const STOP: OnError = OnError {
    action: ErrorAction::Stop,
    dead_letter_topic: None,
    skip: Vec::new(),
};

impl Running {
    #[track_caller]
    fn start(document: Document<LiveToMqtt>) -> Self {
        Self(Delivery::start(document).expect("a route that can run"))
    }

    /// As one of several workers, which does not end when a record stops the route.
    #[track_caller]
    fn operated(document: &Document<LiveToMqtt>) -> Self {
        let delivery = Delivery::operated(document.clone(), "one".into(), "uid".into(), 0);
        Self(delivery.expect("a route that can run"))
    }

    fn status(&self) -> RouteStatus {
        self.0.snapshot().status
    }

    #[track_caller]
    fn wait_for(&self, what: &str, mut condition: impl FnMut(&RouteStatus) -> bool) {
        wait_until(DEADLINE, what, || condition(&self.status()));
    }

    #[track_caller]
    fn problem(&self, reason: Reason) -> String {
        let mut message = None;
        self.wait_for(&format!("the problem {reason:?}"), |status| {
            let problem = status.problems.iter().find(|problem| problem.reason == reason);
            message = problem.map(|problem| problem.message.clone());
            message.is_some()
        });
        message.expect("it has been waited for")
    }

    /// Ends in order.
    #[track_caller]
    fn end(&self, connection: &mut Connection) {
        self.0.stop();
        assert_eq!(connection.expect_disconnect(), 0);
        wait_until(DEADLINE, "the delivery to end", || self.0.ended());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let status = self.status();
        if std::thread::panicking() {
            eprintln!("{status:#?}");
        } else {
            assert_eq!(status.ledger.balance(), 0, "{:?}", status.ledger);
        }
    }
}

fn parts() -> (ScriptedBroker, MockKafka) {
    let kafka = MockKafka::start(&["commands", "dead"]);
    (ScriptedBroker::start(), kafka)
}

/// The delivery's next connection.
#[track_caller]
fn session(broker: &ScriptedBroker, session_present: bool) -> Connection {
    session_with(broker, session_present, Properties::new()).0
}

/// The same, with what CONNACK says; and whether CONNECT began a new session.
#[track_caller]
fn session_with(
    broker: &ScriptedBroker,
    session_present: bool,
    properties: Properties,
) -> (Connection, bool) {
    let mut connection = broker.accept();
    let connect = connection.expect_connect();
    assert_eq!(connect.client_id, "millrace-0a1b2c3d-out-0");
    connection.send_connack(session_present, 0, properties);
    (connection, connect.clean_start)
}

fn command<'a>(key: &'a str, value: &'a str) -> Written<'a> {
    Written {
        key: Some(key),
        value: Some(value),
        ..Written::default()
    }
}

fn text(publish: &Publish) -> (&str, &str) {
    let payload = std::str::from_utf8(&publish.payload).expect("a text");
    (publish.topic.as_str(), payload)
}

#[track_caller]
fn committed(kafka: &MockKafka, offset: i64) {
    wait_until(DEADLINE, &format!("offset {offset} to be committed"), || {
        kafka.committed(GROUP, "commands", 0) == Some(offset)
    });
}

#[test]
fn a_record_is_a_message_and_its_offset_is_committed_when_the_broker_has_confirmed() {
    let (broker, kafka) = parts();
    kafka.write(
        "commands",
        0,
        &[command("a", "open"), command("b", "shut"), command("c", "open")],
    );
    let delivery = Running::start(document(&broker, &kafka));
    let (mut connection, begins) = session_with(&broker, false, Properties::new());
    assert!(begins, "what an earlier process has left is none of this one's");
    let messages: Vec<Publish> = (0..3).map(|_| connection.expect_publish()).collect();
    assert_eq!(
        messages.iter().map(text).collect::<Vec<_>>(),
        [
            ("plants/a/cmd", "open"),
            ("plants/b/cmd", "shut"),
            ("plants/c/cmd", "open")
        ]
    );
    assert!(
        messages
            .iter()
            .all(|message| message.qos == 1 && !message.dup && !message.retain)
    );
    // The last two, and not the first: nothing can be committed but where the group began.
    connection.puback(messages[1].packet_id, 0);
    connection.puback(messages[2].packet_id, 0);
    delivery.wait_for("two to be delivered", |status| status.ledger.written == 2);
    std::thread::sleep(QUIET * 5);
    assert_eq!(kafka.committed(GROUP, "commands", 0), Some(0));
    connection.puback(messages[0].packet_id, 0);
    committed(&kafka, 3);
    let status = delivery.status();
    assert_eq!((status.ledger.received, status.ledger.written), (3, 3));
    assert!(
        status.ready && status.phase == Phase::Running && status.problems.is_empty(),
        "{status:?}"
    );
    delivery.end(&mut connection);
}

#[test]
fn start_applies_once_and_what_follows_is_read_from_where_the_group_was() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("a", "before")]);
    let mut latest = document(&broker, &kafka);
    if let Some(consumer) = &mut latest.settings.consumer {
        consumer.start = Start::Latest;
    }
    let delivery = Running::start(latest.clone());
    let mut connection = session(&broker, false);
    committed(&kafka, 1);
    delivery.wait_for("the route to be ready", |status| status.ready);
    connection.assert_silent(QUIET);
    delivery.end(&mut connection);
    kafka.write("commands", 0, &[command("a", "while it was away")]);
    let delivery = Running::start(latest);
    let mut connection = session(&broker, false);
    let message = connection.expect_publish();
    assert_eq!(text(&message).1, "while it was away");
    connection.puback(message.packet_id, 0);
    committed(&kafka, 2);
    delivery.end(&mut connection);
}

#[test]
fn with_qos_2_a_message_has_arrived_when_its_release_is_complete() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.qos = 2;
    kafka.write("commands", 0, &[command("a", "1"), command("b", "2")]);
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    let (first, second) = (connection.expect_publish(), connection.expect_publish());
    connection.pubrec(first.packet_id, 0);
    connection.expect_pubrel(first.packet_id);
    std::thread::sleep(QUIET * 5);
    assert_eq!(
        kafka.committed(GROUP, "commands", 0),
        Some(0),
        "PUBREC is not enough"
    );
    // The connection is lost in the middle of both exchanges, and the session resumes.
    connection.reset();
    let (mut connection, begins) = session_with(&broker, true, Properties::new());
    assert!(!begins);
    connection.expect_pubrel(first.packet_id);
    let again = connection.expect_publish();
    assert!(again.dup && again.packet_id == second.packet_id && text(&again).1 == "2");
    connection.pubcomp(first.packet_id, 0);
    committed(&kafka, 1);
    connection.pubrec(second.packet_id, 0);
    connection.expect_pubrel(second.packet_id);
    connection.pubcomp(second.packet_id, 0);
    committed(&kafka, 2);
    delivery.end(&mut connection);
}

#[test]
fn what_was_open_in_a_session_that_another_client_has_had_is_published_anew() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.qos = 2;
    kafka.write("commands", 0, &[command("a", "1")]);
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    let first = connection.expect_publish();
    connection.pubrec(first.packet_id, 0);
    connection.expect_pubrel(first.packet_id);
    // Another client takes the session, and has begun its own clean: the broker knows nothing of the message any more.
    connection.disconnect(0x8E);
    let (mut connection, begins) = session_with(&broker, false, Properties::new());
    assert!(begins, "what is there now is the other client's");
    let again = connection.expect_publish();
    assert!(!again.dup && text(&again).1 == "1");
    assert_eq!(kafka.committed(GROUP, "commands", 0), Some(0));
    connection.pubrec(again.packet_id, 0);
    connection.expect_pubrel(again.packet_id);
    connection.pubcomp(again.packet_id, 0);
    committed(&kafka, 1);
    delivery.end(&mut connection);
}

#[test]
fn what_was_not_answered_on_a_lost_connection_comes_first_on_the_next() {
    for session_present in [true, false] {
        let (broker, kafka) = parts();
        let values: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        let records: Vec<_> = values.iter().map(|value| command("a", value)).collect();
        kafka.write("commands", 0, &records[..30]);
        let delivery = Running::start(document(&broker, &kafka));
        let mut connection = session(&broker, false);
        let messages: Vec<Publish> = (0..30).map(|_| connection.expect_publish()).collect();
        for message in &messages[..10] {
            connection.puback(message.packet_id, 0);
        }
        delivery.wait_for("ten to be delivered", |status| status.ledger.written == 10);
        connection.reset();
        kafka.write("commands", 0, &records[30..]);
        let mut connection = session(&broker, session_present);
        for value in &values[10..] {
            let message = connection.expect_publish();
            assert_eq!(text(&message).1, value);
            let number: usize = value.parse().expect("a number");
            assert_eq!(message.dup, session_present && number < 30);
            connection.puback(message.packet_id, 0);
        }
        committed(&kafka, 50);
        assert_eq!(delivery.status().ledger.written, 50);
        delivery.end(&mut connection);
    }
}

#[test]
fn no_more_messages_are_unanswered_than_the_broker_takes() {
    let (broker, kafka) = parts();
    let records: Vec<_> = (0..20).map(|_| command("a", "x")).collect();
    kafka.write("commands", 0, &records);
    let delivery = Running::start(document(&broker, &kafka));
    let limit = Properties::new().with(id::RECEIVE_MAXIMUM, Value::Short(3));
    let (mut connection, _) = session_with(&broker, false, limit);
    let mut open: Vec<u16> = (0..3).map(|_| connection.expect_publish().packet_id).collect();
    for _ in 3..20 {
        connection.assert_silent(Duration::from_millis(20));
        connection.puback(open.remove(0), 0);
        open.push(connection.expect_publish().packet_id);
    }
    for packet_id in open {
        connection.puback(packet_id, 0);
    }
    committed(&kafka, 20);
    delivery.end(&mut connection);
}

#[test]
fn a_message_that_the_broker_refuses_goes_the_way_of_errors_and_others_are_not_held() {
    let (broker, kafka) = parts();
    kafka.write(
        "commands",
        0,
        &[
            Written {
                headers: &[("tenant", "acme"), ("millrace.error.reason", "Earlier")],
                ..command("a", "1")
            },
            command("b/+", "cannot be mapped"),
            command("c", "3"),
        ],
    );
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let (first, third) = (connection.expect_publish(), connection.expect_publish());
    assert_eq!(text(&third), ("plants/c/cmd", "3"));
    connection.puback(first.packet_id, 0x87);
    connection.puback(third.packet_id, 0);
    committed(&kafka, 3);
    let ledger = delivery.status().ledger;
    assert_eq!((ledger.written, ledger.dead_lettered), (1, 2));
    delivery.wait_for("nothing to be buffered", |status| status.buffered_bytes == 0);
    let dead = kafka.records("dead");
    let one = |value: &str| {
        let is_it = |record: &&millrace_testkit::Consumed| record.value.as_deref() == Some(value.as_bytes());
        dead.iter().find(is_it).expect("its dead letter")
    };
    let refused = one("1");
    assert_eq!(refused.key.as_deref(), Some(&b"a"[..]));
    assert_eq!(refused.header("tenant"), Some("acme"), "what it had it keeps");
    assert_eq!(refused.header("millrace.error.reason"), Some("PublishRefused"));
    assert_eq!(refused.header("millrace.source.topic"), Some("commands"));
    assert_eq!(refused.header("millrace.source.partition"), Some("0"));
    assert_eq!(refused.header("millrace.source.offset"), Some("0"));
    assert_eq!(refused.header("millrace.route"), Some("default/test"));
    let message = refused.header("millrace.error.message").expect("a message");
    assert!(message.contains("not authorized (0x87)"), "{message}");
    assert_eq!(
        one("cannot be mapped").header("millrace.error.reason"),
        Some("TopicInvalid")
    );
    delivery.end(&mut connection);
}

#[test]
fn with_stop_the_route_says_which_record_and_commits_nothing_behind_it() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.on_error = STOP;
    kafka.write(
        "commands",
        0,
        &[command("a", "1"), command("#", "2"), command("c", "3")],
    );
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    let first = connection.expect_publish();
    let message = delivery.problem(Reason::MessageUndeliverable);
    assert!(message.contains("stopped at record commands[0]@1"), "{message}");
    connection.puback(first.packet_id, 0);
    assert_eq!(connection.expect_disconnect(), 0);
    committed(&kafka, 1);
    wait_until(DEADLINE, "the delivery to end", || delivery.0.ended());
    let ledger = delivery.status().ledger;
    assert_eq!((ledger.written, ledger.in_flight), (1, 0));
}

#[test]
fn a_message_without_subscribers_is_what_the_route_says() {
    use NoMatchingSubscribers::{DeadLetter, Ignore, Wait};
    for policy in [Ignore, DeadLetter, Wait] {
        let (broker, kafka) = parts();
        let mut document = document(&broker, &kafka);
        document.live.publishing.no_matching_subscribers = policy;
        kafka.write("commands", 0, &[command("a", "1"), command("b", "2")]);
        let delivery = Running::start(document);
        let mut connection = session(&broker, false);
        let (first, second) = (connection.expect_publish(), connection.expect_publish());
        connection.puback(first.packet_id, 0x10);
        connection.puback(second.packet_id, 0);
        if policy == Wait {
            // Nothing overtakes it.
            kafka.write("commands", 0, &[command("c", "3")]);
            let again = connection.expect_publish();
            assert_eq!(text(&again), ("plants/a/cmd", "1"));
            connection.puback(again.packet_id, 0);
            let third = connection.expect_publish();
            connection.puback(third.packet_id, 0);
        }
        let (offset, counts) = match policy {
            Ignore => (2, (2, 0)),
            DeadLetter => (2, (1, 1)),
            Wait => (3, (3, 0)),
        };
        committed(&kafka, offset);
        let ledger = delivery.status().ledger;
        assert_eq!((ledger.written, ledger.dead_lettered), counts, "{policy:?}");
        delivery.end(&mut connection);
    }
}

#[test]
fn a_broker_that_takes_a_message_later_gets_it_later() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("a", "1")]);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let first = connection.expect_publish();
    connection.puback(first.packet_id, 0x97);
    let again = connection.expect_publish();
    assert_eq!((again.packet_id, again.dup), (first.packet_id, false));
    connection.puback(again.packet_id, 0);
    committed(&kafka, 1);
    delivery.end(&mut connection);
}

#[test]
fn properties_and_expiry_travel_with_the_message() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.message_expiry_seconds = Some(60);
    document.live.publishing.retain = true;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a time")
        .as_millis() as i64;
    let headers: &[(&str, &str)] = &[
        ("mqtt.responseTopic", "answers/7"),
        ("mqtt.correlationData", "c-1"),
        ("mqtt.user.site", "A1"),
    ];
    kafka.write(
        "commands",
        0,
        &[
            Written {
                timestamp_ms: Some(now - 61_000),
                ..command("a", "too late")
            },
            Written {
                timestamp_ms: Some(now - 20_000),
                headers,
                ..command("b", "in time")
            },
            Written {
                key: Some("b"),
                ..Written::default()
            },
        ],
    );
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    let message = connection.expect_publish();
    assert_eq!(text(&message), ("plants/b/cmd", "in time"));
    assert!(message.retain);
    let properties = &message.properties;
    let Some(Value::Long(left)) = properties.get(id::MESSAGE_EXPIRY_INTERVAL) else {
        panic!("{properties:?}")
    };
    assert!((35..=40).contains(left), "{left} s are left");
    assert_eq!(
        properties.get(id::RESPONSE_TOPIC),
        Some(&Value::Text("answers/7".into()))
    );
    assert_eq!(
        properties.get(id::CORRELATION_DATA),
        Some(&Value::Data("c-1".into()))
    );
    assert_eq!(
        properties.get(id::USER_PROPERTY),
        Some(&Value::Pair("site".into(), "A1".into()))
    );
    connection.puback(message.packet_id, 0);
    // A tombstone clears what the broker has retained.
    let cleared = connection.expect_publish();
    assert_eq!((text(&cleared), cleared.retain), (("plants/b/cmd", ""), true));
    connection.puback(cleared.packet_id, 0);
    committed(&kafka, 3);
    let ledger = delivery.status().ledger;
    assert_eq!((ledger.written, ledger.expired), (2, 1));
    delivery.end(&mut connection);
}

#[test]
fn an_old_broker_gets_the_message_without_properties_and_keeps_the_session() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.settings.broker.protocol_version = ProtocolVersion::V311;
    kafka.write("commands", 0, &[command("a", "1")]);
    let delivery = Running::start(document);
    // The first connection only ends what an earlier process may have left.
    let (mut connection, begins) = session_with(&broker, false, Properties::new());
    assert!(begins);
    connection.expect_disconnect();
    let (mut connection, begins) = session_with(&broker, false, Properties::new());
    assert!(!begins);
    assert_eq!(connection.version(), Version::V311);
    let message = connection.expect_publish();
    assert_eq!(text(&message), ("plants/a/cmd", "1"));
    connection.puback(message.packet_id, 0);
    committed(&kafka, 1);
    delivery.end(&mut connection);
}

#[test]
fn a_packet_that_is_larger_than_the_broker_takes_is_undeliverable() {
    let (broker, kafka) = parts();
    let large = "x".repeat(500);
    kafka.write("commands", 0, &[command("a", &large), command("b", "small")]);
    let delivery = Running::start(document(&broker, &kafka));
    let limit = Properties::new().with(id::MAXIMUM_PACKET_SIZE, Value::Long(100));
    let (mut connection, _) = session_with(&broker, false, limit);
    let message = connection.expect_publish();
    assert_eq!(text(&message), ("plants/b/cmd", "small"));
    connection.puback(message.packet_id, 0);
    committed(&kafka, 2);
    assert_eq!(
        kafka.records("dead")[0].header("millrace.error.reason"),
        Some("MessageTooLarge")
    );
    delivery.end(&mut connection);
}

#[test]
fn a_topic_that_is_missing_is_said_and_read_when_it_is_there() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["dead"]);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let message = delivery.problem(Reason::TopicMissing);
    assert!(message.contains("no topic \"commands\": create it"), "{message}");
    assert!(!delivery.status().ready);
    kafka.topic("commands", 1);
    delivery.wait_for("the route to be ready", |status| {
        status.ready && status.problems.is_empty()
    });
    kafka.write("commands", 0, &[command("a", "1")]);
    let message = connection.expect_publish();
    connection.puback(message.packet_id, 0);
    committed(&kafka, 1);
    delivery.end(&mut connection);
}

#[test]
fn a_tombstone_that_cannot_be_delivered_is_one_as_a_dead_letter_too() {
    let (broker, kafka) = parts();
    let tombstone = Written {
        key: Some("any/#"),
        ..Written::default()
    };
    kafka.write("commands", 0, &[tombstone, command("any/#", "")]);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    committed(&kafka, 2);
    let letters = kafka.records("dead");
    let values: Vec<_> = letters.iter().map(|letter| letter.value.as_deref()).collect();
    assert_eq!(values, [None, Some(b"".as_slice())]);
    delivery.end(&mut connection);
}

/// Brokers of Kafka that start forget topics for a moment.
#[test]
fn a_dead_letter_waits_for_a_topic_that_kafka_has_forgotten_for_a_moment() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("any/#", "first")]);
    let delivery = Running::operated(&document(&broker, &kafka));
    let mut connection = session(&broker, false);
    committed(&kafka, 1);
    kafka.answer_produce(&[Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART]);
    kafka.write("commands", 0, &[command("any/#", "second")]);
    committed(&kafka, 2);
    assert_eq!(kafka.values("dead"), ["first", "second"]);
    assert_eq!(delivery.status().ledger.dead_lettered, 2);
    delivery.end(&mut connection);
}

#[test]
fn a_topic_that_goes_while_it_is_read_is_said_and_read_again_when_it_is_back() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("a", "before")]);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let message = connection.expect_publish();
    connection.puback(message.packet_id, 0);
    committed(&kafka, 1);
    kafka.topic_error("commands", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let message = delivery.problem(Reason::TopicMissing);
    assert!(message.contains("commands: create what is missing"), "{message}");
    kafka.topic_error("commands", Code::RD_KAFKA_RESP_ERR_NO_ERROR);
    kafka.write("commands", 0, &[command("a", "after")]);
    let message = connection.expect_publish();
    assert_eq!(text(&message).1, "after");
    connection.puback(message.packet_id, 0);
    committed(&kafka, 2);
    delivery.wait_for("nothing to be wrong", |status| status.problems.is_empty());
    delivery.end(&mut connection);
}

#[test]
fn a_topic_that_the_user_may_not_read_is_said_with_the_right_that_it_lacks() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("a", "open")]);
    kafka.topic_error("commands", Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let message = delivery.problem(Reason::KafkaRefused);
    assert!(
        message.contains("read commands: grant its user Read on the topics"),
        "{message}"
    );
    kafka.topic_error("commands", Code::RD_KAFKA_RESP_ERR_NO_ERROR);
    delivery.wait_for("the record", |status| status.ledger.received == 1);
    let message = connection.expect_publish();
    connection.puback(message.packet_id, 0);
    committed(&kafka, 1);
    delivery.wait_for("nothing to be wrong", |status| status.problems.is_empty());
    delivery.end(&mut connection);
}

#[test]
fn records_that_are_gone_before_they_are_read_stop_the_route_and_it_says_which() {
    let (broker, kafka) = parts();
    kafka.write("commands", 0, &[command("a", "read")]);
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let message = connection.expect_publish();
    connection.puback(message.packet_id, 0);
    committed(&kafka, 1);
    delivery.end(&mut connection);
    // A mock Kafka keeps 5 MiB of a partition.
    let large = "x".repeat(900_000);
    for _ in 0..8 {
        kafka.write("commands", 0, &[command("a", &large)]);
    }
    let delivery = Running::start(document(&broker, &kafka));
    let mut connection = session(&broker, false);
    let message = delivery.problem(Reason::OffsetOutOfRange);
    assert!(
        message.contains(GROUP) && message.contains("commands[0]") && message.contains("--reset-offsets"),
        "{message}"
    );
    assert_eq!(connection.expect_disconnect(), 0);
    wait_until(DEADLINE, "the delivery to end", || delivery.0.ended());
    // Where it goes on is for a person to say.
    assert_eq!(kafka.committed(GROUP, "commands", 0), Some(1));
    assert_eq!(delivery.status().ledger.received, 0);
}

#[test]
fn with_qos_0_a_record_counts_when_its_message_has_left() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.qos = 0;
    kafka.write("commands", 0, &[command("a", "1"), command("b", "2")]);
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    for key in ["a", "b"] {
        let message = connection.expect_publish();
        assert_eq!((message.qos, message.packet_id), (0, 0));
        assert_eq!(text(&message).0, format!("plants/{key}/cmd"));
    }
    committed(&kafka, 2);
    assert_eq!(delivery.status().ledger.written, 2);
    delivery.end(&mut connection);
}

#[test]
fn a_backlog_is_read_as_fast_as_the_broker_takes_it() {
    const RECORDS: usize = 40_000;
    /// Kafka is asked again in milliseconds when what was fetched has been published: with librdkafka's own second in
    /// between it would take half a minute.
    const MOST: Duration = Duration::from_secs(8);
    let (broker, kafka) = parts();
    let records = vec![command("a", "x"); RECORDS];
    for part in records.chunks(1_000) {
        kafka.write("commands", 0, part);
    }
    let mut document = document(&broker, &kafka);
    document.live.publishing.qos = 0;
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    connection.expect_publish();
    let first = Instant::now();
    for _ in 1..RECORDS {
        connection.expect_publish();
    }
    let took = first.elapsed();
    assert!(took < MOST, "{took:?}");
    delivery.end(&mut connection);
}

#[test]
fn a_route_that_a_record_stopped_goes_on_with_another_configuration() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.on_error = STOP;
    kafka.write(
        "commands",
        0,
        &[command("a", "1"), command("#", "2"), command("c", "3")],
    );
    let delivery = Running::operated(&document);
    let mut connection = session(&broker, false);
    let first = connection.expect_publish();
    connection.puback(first.packet_id, 0);
    delivery.problem(Reason::MessageUndeliverable);
    // As long as it takes until Kafka is told to send nothing more.
    std::thread::sleep(Duration::from_secs(1));
    document.live.on_error.action = ErrorAction::Discard;
    delivery
        .0
        .reload(&document.live, "two".into())
        .expect("a configuration that can be used");
    let third = connection.expect_publish();
    assert_eq!(text(&third), ("plants/c/cmd", "3"));
    connection.puback(third.packet_id, 0);
    committed(&kafka, 3);
    delivery.wait_for("all to be well", |status| {
        status.problems.is_empty() && status.phase == Phase::Running && status.live == "two"
    });
    let ledger = delivery.status().ledger;
    assert_eq!((ledger.written, ledger.discarded), (2, 1), "{ledger:?}");
    delivery.end(&mut connection);
}

#[test]
fn a_record_that_has_stopped_a_route_can_be_skipped_alone() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.on_error = STOP;
    kafka.write(
        "commands",
        0,
        &[command("#", "1"), command("b", "2"), command("#", "3")],
    );
    let delivery = Running::operated(&document);
    let mut connection = session(&broker, false);
    let problem = delivery.problem(Reason::MessageUndeliverable);
    let (_, name) = problem
        .rsplit_once("annotation millrace.dev/skip: ")
        .expect("a name");
    assert_eq!(name, "commands[0]@0", "{problem}");

    document.live.on_error.skip = vec![name.into()];
    let reloaded = delivery.0.reload(&document.live, "two".into());
    reloaded.expect("a configuration that can be used");
    let second = connection.expect_publish();
    assert_eq!(text(&second), ("plants/b/cmd", "2"));
    connection.puback(second.packet_id, 0);
    // Another one like it is another.
    delivery.wait_for("the route to be stopped", |status| {
        let mut problems = status.problems.iter();
        status.phase == Phase::Stopped && problems.any(|problem| problem.message.contains("commands[0]@2"))
    });
    committed(&kafka, 2);
    let ledger = delivery.status().ledger;
    assert_eq!((ledger.written, ledger.discarded), (1, 1), "{ledger:?}");
    delivery.end(&mut connection);
}

#[test]
fn what_fails_by_a_configuration_of_before_does_not_stop_the_route() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.on_error = STOP;
    let delivery = Running::operated(&document);
    let mut connection = session(&broker, false);
    kafka.write("commands", 0, &[command("a", "1")]);
    let first = connection.expect_publish();
    // The message is on its way when what is to be done with it changes.
    document.live.on_error = OnError {
        action: ErrorAction::DeadLetter,
        dead_letter_topic: Some("dead".into()),
        skip: Vec::new(),
    };
    delivery
        .0
        .reload(&document.live, "two".into())
        .expect("a configuration that can be used");
    delivery.wait_for("it to be in use", |status| status.live == "two");
    connection.puback(first.packet_id, 0x87);
    // Read again, with what a dead letter needs.
    let again = connection.expect_publish();
    connection.puback(again.packet_id, 0x87);
    committed(&kafka, 1);
    assert_eq!(kafka.records("dead").len(), 1);
    delivery.end(&mut connection);
}

#[test]
fn a_broker_that_comes_back_and_takes_less_gets_no_more_than_it_takes() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.qos = 2;
    let records: Vec<_> = (0..10).map(|_| command("a", "x")).collect();
    kafka.write("commands", 0, &records);
    let delivery = Running::start(document);
    let mut connection = session(&broker, false);
    (0..10).for_each(|_| drop(connection.expect_publish()));
    connection.reset();
    let less = Properties::new()
        .with(id::RECEIVE_MAXIMUM, Value::Short(2))
        .with(id::MAXIMUM_QOS, Value::Byte(1));
    let (mut connection, _) = session_with(&broker, true, less);
    let mut open: Vec<u16> = Vec::new();
    for _ in 0..2 {
        let publish = connection.expect_publish();
        assert_eq!((publish.qos, publish.dup), (1, true));
        open.push(publish.packet_id);
    }
    for _ in 2..10 {
        connection.assert_silent(Duration::from_millis(20));
        connection.puback(open.remove(0), 0);
        open.push(connection.expect_publish().packet_id);
    }
    open.into_iter()
        .for_each(|packet_id| connection.puback(packet_id, 0));
    committed(&kafka, 10);
    delivery.end(&mut connection);
}

#[test]
fn what_the_broker_takes_less_of_is_said_for_as_long_as_it_is_asked() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.publishing.retain = true;
    // Nothing else wakes the connection.
    document.settings.broker.keep_alive_seconds = 600;
    kafka.write("commands", 0, &[command("a", "1")]);
    let delivery = Running::operated(&document);
    let less = Properties::new()
        .with(id::MAXIMUM_QOS, Value::Byte(0))
        .with(id::RETAIN_AVAILABLE, Value::Byte(0));
    let (mut connection, _) = session_with(&broker, false, less);
    let message = connection.expect_publish();
    assert_eq!((message.qos, message.retain), (0, false));
    let qos = delivery.problem(Reason::QosDowngraded);
    assert!(
        qos.contains("takes QoS 0 at most, and 1 was asked, so messages can be lost"),
        "{qos}"
    );
    let retain = delivery.problem(Reason::RetainUnavailable);
    assert!(retain.contains("spec.to.mqtt.retain"), "{retain}");
    assert_eq!(delivery.status().phase, Phase::Running);

    document.live.publishing.retain = false;
    let reload = |document: &Document<LiveToMqtt>, hash: &str| {
        let reloaded = delivery.0.reload(&document.live, hash.into());
        reloaded.expect("a configuration that can be used");
    };
    reload(&document, "two");
    delivery.wait_for("one problem to be over", |status| {
        let reasons: Vec<_> = status.problems.iter().map(|problem| problem.reason).collect();
        reasons == [Reason::QosDowngraded]
    });
    document.live.publishing.qos = 0;
    reload(&document, "three");
    delivery.wait_for("all to be well", |status| status.problems.is_empty());
    delivery.end(&mut connection);
}

#[test]
fn nothing_behind_a_packet_that_is_too_large_is_published_when_the_route_stops_there() {
    let (broker, kafka) = parts();
    let mut document = document(&broker, &kafka);
    document.live.on_error = STOP;
    let large = "x".repeat(500);
    kafka.write("commands", 0, &[command("a", &large), command("b", "small")]);
    let delivery = Running::start(document);
    let limit = Properties::new().with(id::MAXIMUM_PACKET_SIZE, Value::Long(100));
    let (mut connection, _) = session_with(&broker, false, limit);
    let message = delivery.problem(Reason::MessageUndeliverable);
    assert!(message.contains("the broker takes 100"), "{message}");
    assert_eq!(connection.expect_disconnect(), 0);
    wait_until(DEADLINE, "the delivery to end", || delivery.0.ended());
    assert_eq!(delivery.status().ledger.written, 0);
}

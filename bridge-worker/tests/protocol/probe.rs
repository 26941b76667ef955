//! `bridge-worker probe`: what it asks, what it learns, and how it says what is wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use crate::harness::{DEADLINE, MockKafka, route};
use millrace_contract::probe::{
    BrokerFound, BrokerRequest, Failure, MAX_BYTES, Outcome, Report, Request, SinkRequest,
};
use millrace_contract::status::Reason;
use millrace_contract::{Create, Credentials, ProtocolVersion, SharedSubscriptions, TopicPolicy, Value};
use millrace_testkit::wire::{self, Packet, Properties, Version, id};
use millrace_testkit::{Kafka, Mosquitto, Port, Process, ScriptedBroker, wait_until};

/// A probe under way, or ended.
struct Probe {
    process: Process,
    folder: tempfile::TempDir,
}

impl Probe {
    fn start(request: &Request) -> Self {
        Self::with(request, &[])
    }

    fn with(request: &Request, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("request.json");
        std::fs::write(&file, serde_json::to_vec(request).expect("JSON")).expect("a file");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command.arg("probe").arg("--request").arg(&file);
        command
            .arg("--report")
            .arg(folder.path().join("report.json"))
            .args(more);
        Self {
            process: Process::spawn("probe", command),
            folder,
        }
    }

    /// Waits for its end: the exit code and the report.
    #[track_caller]
    fn end(mut self) -> (i32, Report) {
        let code = self.process.wait(4 * DEADLINE).code().expect("an exit code");
        let json = std::fs::read_to_string(self.folder.path().join("report.json")).expect("a report");
        assert!(json.len() <= MAX_BYTES);
        assert_eq!(self.process.stdout().trim_end(), json);
        (code, serde_json::from_str(&json).expect("the contract's report"))
    }

    #[track_caller]
    fn finds(self) -> BrokerFound {
        match self.end() {
            (
                0,
                Report {
                    broker: Some(Outcome::Found(found)),
                    ..
                },
            ) => found,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn fails(self) -> Failure {
        match self.end() {
            (
                1,
                Report {
                    broker: Some(Outcome::Failed(failure)),
                    ..
                },
            ) => failure,
            other => panic!("{other:?}"),
        }
    }
}

/// What is asked of the broker behind a port.
fn asking(port: u16) -> BrokerRequest {
    let mut broker = route(&ScriptedBroker::start(), "nowhere:1").settings.broker;
    broker.urls = vec![format!("mqtt://127.0.0.1:{port}")];
    BrokerRequest {
        broker,
        qos: 1,
        shares: false,
    }
}

fn only(broker: BrokerRequest) -> Request {
    Request {
        broker: Some(broker),
        sink: None,
    }
}

fn login(username: &str, password: &str) -> Option<Credentials> {
    let literal = |text: &str| Value::Literal(text.into());
    Some(Credentials {
        username: literal(username),
        password: literal(password),
    })
}

#[test]
fn a_probe_learns_what_the_broker_can_and_leaves_nothing_there() {
    let broker = ScriptedBroker::start();
    let probe = Probe::start(&only(asking(broker.port())));
    let mut connection = broker.accept();
    let connect = connection.expect_connect();
    assert!(connect.clean_start);
    assert!(
        connect.client_id.starts_with("millrace-probe-"),
        "a client id of its own: {}",
        connect.client_id
    );
    assert_eq!(
        connect.properties.number(id::SESSION_EXPIRY_INTERVAL),
        Some(3600),
        "as the route asks, to learn what is granted"
    );
    let granted = Properties::new()
        .with(id::SESSION_EXPIRY_INTERVAL, wire::Value::Long(60))
        .with(id::RECEIVE_MAXIMUM, wire::Value::Short(20))
        .with(id::MAXIMUM_PACKET_SIZE, wire::Value::Long(1 << 20));
    connection.send_connack(false, 0, granted);
    let plain = connection.expect_subscribe();
    assert!(plain.filters[0].filter.starts_with("millrace/probe/"));
    assert_eq!(plain.filters[0].qos, 1);
    let shared = connection.expect_subscribe();
    assert!(shared.filters[0].filter.starts_with("$share/"));
    assert!(shared.filters[0].filter.contains("/millrace/probe/"));
    connection.send_suback(plain.packet_id, &[1]);
    connection.send_suback(shared.packet_id, &[0x9E]);
    let (packet_id, filters) = connection.expect_unsubscribe();
    assert_eq!(
        filters,
        [plain.filters[0].filter.clone(), shared.filters[0].filter.clone()]
    );
    connection.send_unsuback(packet_id, &[0, 0]);
    let Packet::Disconnect { reason, properties } = connection.expect_packet() else {
        panic!("no DISCONNECT")
    };
    assert_eq!(reason, 0);
    assert_eq!(properties.number(id::SESSION_EXPIRY_INTERVAL), Some(0));
    connection.close();
    assert_eq!(
        probe.finds(),
        BrokerFound {
            protocol_version: "5".into(),
            shared_subscriptions: Some(false),
            maximum_qos: 1,
            receive_maximum: Some(20),
            session_expiry_seconds: Some(60),
            maximum_packet_bytes: Some(1 << 20),
        }
    );
}

#[test]
fn a_route_that_shares_is_told_beforehand_that_the_broker_does_not() {
    let broker = ScriptedBroker::start();
    for (shared, can) in [(0x9E, false), (1, true)] {
        let mut asked = asking(broker.port());
        asked.shares = true;
        let probe = Probe::start(&only(asked));
        let mut connection = broker.accept();
        connection.expect_connect();
        connection.send_connack(false, 0, Properties::new());
        for granted in [1, shared] {
            let subscribe = connection.expect_subscribe();
            connection.send_suback(subscribe.packet_id, &[granted]);
        }
        let (packet_id, _) = connection.expect_unsubscribe();
        connection.send_unsuback(packet_id, &[0, 0]);
        connection.expect_disconnect();
        connection.close();
        if can {
            assert_eq!(probe.finds().shared_subscriptions, Some(true));
            continue;
        }
        let failure = probe.fails();
        assert_eq!(failure.reason, Reason::SharedSubscriptionsUnsupported);
        assert!(
            failure.message.contains("ordering: PerTopic"),
            "{}",
            failure.message
        );
    }
}

#[test]
fn a_broker_that_says_it_cannot_share_is_not_asked_to() {
    let broker = ScriptedBroker::start();
    for (declared, expected) in [
        (SharedSubscriptions::Auto, Some(false)),
        (SharedSubscriptions::Unsupported, Some(false)),
    ] {
        let mut asked = asking(broker.port());
        asked.broker.shared_subscriptions = declared;
        let probe = Probe::start(&only(asked));
        let mut connection = broker.accept();
        connection.expect_connect();
        let cannot = Properties::new().with(id::SHARED_SUBSCRIPTION_AVAILABLE, wire::Value::Byte(0));
        connection.send_connack(false, 0, cannot);
        let plain = connection.expect_subscribe();
        connection.send_suback(plain.packet_id, &[0]);
        let (packet_id, filters) = connection.expect_unsubscribe();
        assert_eq!(filters.len(), 1);
        connection.send_unsuback(packet_id, &[0]);
        connection.expect_disconnect();
        connection.close();
        let found = probe.finds();
        assert_eq!((found.shared_subscriptions, found.maximum_qos), (expected, 0));
    }
}

#[test]
fn a_broker_of_3_1_1_is_found_by_what_it_answers() {
    let broker = ScriptedBroker::start();
    let probe = Probe::start(&only(asking(broker.port())));
    let mut connection = broker.accept();
    assert_eq!(connection.expect_connect().version, Version::V5);
    // CONNACK of 3.1.1: unacceptable protocol version.
    connection.send_raw(vec![0x20, 2, 0, 1]);
    connection.expect_end();
    let mut connection = broker.accept();
    let (connect, subscribe) = connection.accept_session(false);
    assert_eq!((connect.version, connect.clean_start), (Version::V311, true));
    assert_eq!(subscribe.filters.len(), 1, "3.1.1 has no shared subscriptions");
    let (packet_id, _) = connection.expect_unsubscribe();
    connection.send_unsuback(packet_id, &[]);
    connection.expect_disconnect();
    connection.close();
    let found = probe.finds();
    assert_eq!(found.protocol_version, "3.1.1");
    assert_eq!(
        (found.shared_subscriptions, found.session_expiry_seconds),
        (None, None)
    );
}

#[test]
fn a_refusal_names_its_cause_and_what_to_do() {
    for (version, code, words) in [
        (
            ProtocolVersion::V5,
            0x86,
            ["bad user name or password", "spec.auth"],
        ),
        (ProtocolVersion::V5, 0x87, ["not authorized", "access rules"]),
        (
            ProtocolVersion::V311,
            4,
            ["bad user name or password", "spec.auth"],
        ),
        (ProtocolVersion::V311, 5, ["not authorized", "access rules"]),
    ] {
        let broker = ScriptedBroker::start();
        let mut asked = asking(broker.port());
        asked.broker.protocol_version = version;
        let probe = Probe::start(&only(asked));
        let mut connection = broker.accept();
        connection.expect_connect();
        connection.send_connack(false, code, Properties::new());
        connection.close();
        let failure = probe.fails();
        assert_eq!(failure.reason, Reason::BrokerRefused);
        for word in words {
            assert!(failure.message.contains(word), "{code}: {}", failure.message);
        }
    }
}

#[test]
fn a_real_broker_is_found_with_the_right_password_and_refuses_the_wrong_one() {
    let mosquitto = Mosquitto::builder().user("plant", "right").start();
    let mut asked = asking(mosquitto.port());
    asked.qos = 2;
    asked.broker.credentials = login("plant", "right");
    let found = Probe::start(&only(asked.clone())).finds();
    assert_eq!(found.protocol_version, "5");
    assert_eq!((found.shared_subscriptions, found.maximum_qos), (Some(true), 2));
    assert_eq!(found.session_expiry_seconds, Some(3600));

    asked.broker.credentials = login("plant", "wrong-canary");
    let failure = Probe::start(&only(asked)).fails();
    assert_eq!(failure.reason, Reason::BrokerRefused);
    assert!(failure.message.contains("spec.auth"), "{}", failure.message);
    assert!(!failure.message.contains("canary"), "{}", failure.message);
}

#[test]
fn what_is_no_broker_is_told_apart() {
    let nobody = Port::free();
    let failure = Probe::start(&only(asking(nobody.number()))).fails();
    assert_eq!(failure.reason, Reason::BrokerUnreachable);
    assert!(failure.message.contains("refused"), "{}", failure.message);

    let mut unresolved = asking(1883);
    unresolved.broker.urls = vec!["mqtt://no-such-host.invalid:1883".into()];
    let failure = Probe::start(&only(unresolved)).fails();
    assert!(
        failure.message.contains("cannot resolve") && failure.message.contains("no-such-host.invalid"),
        "{}",
        failure.message
    );

    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = web.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = web.accept().unwrap();
            // Closing it with unread data would send a reset.
            assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        }
    });
    let failure = Probe::start(&only(asking(port))).fails();
    server.join().unwrap();
    assert!(failure.message.contains("no MQTT broker"), "{}", failure.message);

    let mut missing = asking(nobody.number());
    missing.broker.credentials = Some(Credentials {
        username: Value::Literal("plant".into()),
        password: Value::File("/nowhere/password".into()),
    });
    let failure = Probe::start(&only(missing)).fails();
    assert!(
        failure.message.contains("/nowhere/password"),
        "{}",
        failure.message
    );
}

#[test]
fn a_silent_broker_and_an_absent_kafka_take_no_longer_than_the_timeout_together() {
    let silent = ScriptedBroker::start();
    let nobody = Port::free();
    let mut request = only(asking(silent.port()));
    request.sink = Some(sink(&nobody.address().to_string(), &["a"]));
    let started = std::time::Instant::now();
    let probe = Probe::with(&request, &["--timeout", "1s"]);
    let _connection = silent.accept();
    let (code, report) = probe.end();
    assert!(started.elapsed() < DEADLINE / 2, "{:?}", started.elapsed());
    assert_eq!(code, 1);
    let Some(Outcome::Failed(broker)) = report.broker else {
        panic!("{:?}", report.broker)
    };
    assert!(broker.message.contains("within 1 s"), "{}", broker.message);
    let Some(Outcome::Failed(sink)) = report.sink else {
        panic!("{:?}", report.sink)
    };
    assert_eq!(sink.reason, Reason::KafkaUnreachable);
    assert!(
        sink.message.contains("refused") && sink.message.contains("spec.bootstrapServers"),
        "{}",
        sink.message
    );
}

fn sink(bootstrap: &str, topics: &[&str]) -> SinkRequest {
    SinkRequest {
        sink: route(&ScriptedBroker::start(), bootstrap).settings.sink,
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
    }
}

#[test]
fn missing_topics_are_created_where_the_sink_allows_it() {
    let kafka = Kafka::shared();
    let there = kafka.unique_topic("probe-there", 3);
    let mut request = sink(
        &kafka.bootstrap(),
        &[&there, "probe-new.1", "probe-new.2", "probe-forbidden"],
    );
    request.sink.topics = vec![TopicPolicy {
        pattern: "probe-new.*".into(),
        create: Create::IfMissing,
        max_topics: 1,
        partitions: 5,
        replication_factor: 1,
        config: Default::default(),
    }];
    let request = Request {
        broker: None,
        sink: Some(request),
    };
    let (code, report) = Probe::start(&request).end();
    assert_eq!((code, &report.broker), (1, &None));
    let Some(Outcome::Found(found)) = report.sink else {
        panic!("{:?}", report.sink)
    };
    assert_eq!(found.brokers, 1);
    assert!(found.cluster_id.is_some());
    let [existing, new, one_too_many, forbidden] = &found.topics[..] else {
        panic!("{:?}", found.topics)
    };
    assert_eq!((existing.partitions, existing.created), (3, false));
    assert_eq!((new.partitions, new.created), (5, true));
    assert_eq!(kafka.end_offsets("probe-new.1"), 0, "it exists");
    for (topic, word) in [(one_too_many, "maxTopics"), (forbidden, "create: IfMissing")] {
        assert_eq!((topic.partitions, topic.created), (0, false));
        let problem = topic.problem.as_ref().expect("a problem");
        assert_eq!(problem.reason, Reason::TopicMissing);
        assert!(problem.message.contains(word), "{}", problem.message);
    }
}

#[test]
fn both_sides_found_is_success_and_many_topics_fit_into_the_report() {
    let kafka = MockKafka::brokers(1);
    let names: Vec<String> = (0..150)
        .map(|n| format!("a-topic-with-a-long-name.{n}"))
        .collect();
    let topics: Vec<&str> = names.iter().map(String::as_str).collect();
    for topic in &topics {
        kafka.topic(topic, 1);
    }
    let mosquitto = Mosquitto::builder().start();
    let mut request = only(asking(mosquitto.port()));
    request.sink = Some(sink(kafka.bootstrap(), &topics));
    let (code, report) = Probe::start(&request).end();
    assert_eq!(code, 0, "{report:?}");
    let Some(Outcome::Found(found)) = report.sink else {
        panic!("{:?}", report.sink)
    };
    assert!(found.topics.len() > 40 && found.topics.len() < topics.len());
}

#[test]
fn what_cannot_be_understood_is_a_usage_error() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command.args(arguments);
        let mut process = Process::spawn("probe", command);
        let code = process.wait(DEADLINE).code();
        wait_until(DEADLINE, "a message", || !process.stderr().is_empty());
        (code, process.stderr())
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("request.json");
    std::fs::write(&file, "{\"broker\": 1}").unwrap();
    for (arguments, word) in [
        (&["probe"][..], "--request"),
        (&["probe", "--request", "/nowhere.json"], "/nowhere.json"),
        (&["probe", "--request", file.to_str().unwrap()], "request.json"),
        (&["probe", "--request", "x", "--timeout", "soon"], "20s"),
        (&["dance"], "dance"),
    ] {
        let (code, message) = run(arguments);
        assert_eq!(code, Some(64), "{arguments:?}: {message}");
        assert!(message.contains(word), "{message}");
    }
}

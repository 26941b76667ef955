//! Leaving for good: what the broker holds is written, and no session stays.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use crate::harness::{DEADLINE, MockKafka, WorkerProcess, message, route, session};
use millrace_contract::status::LaneState;
use millrace_contract::{
    Assignment, Document, ErrorAction, LeaveReport, Ordering, ProtocolVersion, Subscription,
};
use millrace_testkit::wire::{Packet, Properties, id};
use millrace_testkit::{Mosquitto, Process, Publisher, ScriptedBroker};

/// `bridge-worker leave` under way, or ended.
struct Leave {
    process: Process,
    folder: tempfile::TempDir,
}

impl Leave {
    fn start(document: &Document, timeout: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut command = Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
        command.arg("leave");
        for (flag, json) in [
            ("settings", serde_json::to_vec(&document.settings).expect("JSON")),
            ("live", serde_json::to_vec(&document.live).expect("JSON")),
        ] {
            let file = folder.path().join(flag);
            std::fs::write(&file, json).expect("a file");
            command.arg(format!("--{flag}")).arg(file);
        }
        command.arg("--report").arg(folder.path().join("report"));
        command.args(["--lanes", &document.live.lanes.count.to_string()]);
        command.args(["--timeout", timeout]);
        Self {
            process: Process::spawn("leave", command),
            folder,
        }
    }

    #[track_caller]
    fn end(mut self) -> (i32, LeaveReport) {
        let code = self.process.wait(6 * DEADLINE).code().expect("an exit code");
        let json = std::fs::read_to_string(self.folder.path().join("report")).expect("a report");
        (code, serde_json::from_str(&json).expect("the contract's report"))
    }
}

/// Whether a broker has a session of this client id. Asking makes one, which is taken away again.
fn has_session(port: u16, client_id: &str) -> bool {
    let connect = |clean: bool| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        let mut packet = vec![
            0x10,
            u8::try_from(12 + client_id.len()).expect("a short client id"),
            0,
            4,
        ];
        packet.extend(b"MQTT\x04");
        packet.extend([
            u8::from(clean) << 1,
            0,
            60,
            0,
            u8::try_from(client_id.len()).expect("a short client id"),
        ]);
        packet.extend(client_id.as_bytes());
        stream.write_all(&packet).expect("an open connection");
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).expect("CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "accepted");
        stream.write_all(&[0xE0, 0]).expect("an open connection");
        connack[2] == 1
    };
    let found = connect(false);
    connect(true);
    found
}

fn with_filters(document: &mut Document, filters: &[&str]) {
    let subscriptions = filters.iter().map(|filter| Subscription {
        filter: (*filter).to_owned(),
    });
    document.live.source.subscriptions = subscriptions.collect();
}

#[test]
fn what_the_broker_holds_is_written_and_no_session_stays() {
    for (version, ordering) in [
        (ProtocolVersion::V5, Ordering::PerTopic),
        (ProtocolVersion::V311, Ordering::PerTopic),
        (ProtocolVersion::V5, Ordering::Unordered),
    ] {
        let mosquitto = Mosquitto::builder().start();
        let kafka = MockKafka::start(&["out.a"]);
        let mut document = route(&ScriptedBroker::start(), kafka.bootstrap());
        document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
        document.settings.broker.protocol_version = version;
        document.live.lanes.count = 3;
        document.live.lanes.ordering = ordering;
        let parts = ["in/+stream/0", "in/+stream/1", "in/+stream/2", "in/+stream/3"];
        with_filters(&mut document, &parts);
        let mut worker = WorkerProcess::operated(&document, 0);
        worker.own(1, &[0, 1, 2]);
        worker.wait_for("all lanes to be up", |status| {
            let ready = |state| matches!(state, LaneState::Up | LaneState::Idle);
            status.lanes.len() == 3 && status.lanes.iter().all(|lane| ready(lane.state))
        });
        worker.process.terminate();
        worker.process.wait(DEADLINE);

        let publisher = Publisher::builder(mosquitto.port())
            .messages(400)
            .topic_of(|key| format!("in/a/{}", key % 4))
            .start();
        assert_eq!(publisher.finish(DEADLINE).acknowledged(), 400);
        let (code, report) = Leave::start(&document, "45s").end();
        assert_eq!(code, 0, "{report:?}");
        let clients: Vec<String> = (0..3).map(|lane| format!("millrace-0a1b2c3d-{lane}")).collect();
        assert_eq!(report.ended, clients);
        assert_eq!(kafka.count("out.a"), 400, "{version:?} {ordering:?}");
        for client in clients {
            assert!(!has_session(mosquitto.port(), &client), "{version:?}: {client}");
        }
    }
}

#[test]
fn messages_of_retired_filters_are_written_before_the_session_ends() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["out.a"]);
    let document = route(&broker, kafka.bootstrap());
    let leave = Leave::start(&document, "20s");
    let mut connection = broker.accept();
    let connect = connection.expect_connect();
    assert!(!connect.clean_start, "what the broker holds is wanted");
    connection.send_connack(true, 0, Properties::new());
    let (packet_id, filters) = connection.expect_unsubscribe();
    assert_eq!(filters, ["in/+/#"]);
    connection.publish(message("a", 1, "held"));
    connection.expect_puback(1);
    connection.send_unsuback(packet_id, &[0]);
    connection.publish(message("a", 2, "later"));
    connection.expect_puback(2);
    connection.assert_silent(Duration::from_secs(1));
    let Packet::Disconnect { reason, properties } = connection.expect_packet() else {
        panic!("no DISCONNECT")
    };
    assert_eq!(reason, 0);
    assert_eq!(properties.number(id::SESSION_EXPIRY_INTERVAL), Some(0));
    connection.close();
    assert_eq!(leave.end().0, 0);
    assert_eq!(kafka.values("out.a"), ["held", "later"]);
}

#[test]
fn with_3_1_1_a_session_is_overwritten_by_one_that_ends() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["out.a"]);
    let mut document = route(&broker, kafka.bootstrap());
    document.settings.broker.protocol_version = ProtocolVersion::V311;
    let leave = Leave::start(&document, "20s");
    let mut connection = broker.accept();
    assert!(!connection.expect_connect().clean_start);
    connection.send_connack(true, 0, Properties::new());
    let (packet_id, _) = connection.expect_unsubscribe();
    connection.send_unsuback(packet_id, &[]);
    connection.publish(message("a", 1, "held"));
    connection.expect_puback(1);
    connection.expect_disconnect();
    connection.close();
    let mut connection = broker.accept();
    assert!(connection.expect_connect().clean_start);
    connection.send_connack(false, 0, Properties::new());
    connection.expect_disconnect();
    connection.close();
    let (code, report) = leave.end();
    assert_eq!((code, report.ended), (0, vec!["millrace-0a1b2c3d-0".to_owned()]));
}

#[test]
fn a_session_that_is_not_there_needs_no_waiting() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["out.a"]);
    let leave = Leave::start(&route(&broker, kafka.bootstrap()), "20s");
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, Properties::new());
    connection.expect_disconnect();
    connection.close();
    assert_eq!(leave.end().0, 0);
}

#[test]
fn what_cannot_be_ended_is_named_with_the_reason() {
    // Kafka takes nothing, then the broker is away, then a message cannot be mapped.
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["out.a"]);
    kafka.hold();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.timeouts.drain_ms = 500;
    let leave = Leave::start(&document, "2s");
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(true, 0, Properties::new());
    let (packet_id, _) = connection.expect_unsubscribe();
    connection.send_unsuback(packet_id, &[0]);
    connection.publish(message("a", 1, "held"));
    let Packet::Disconnect { properties, .. } = connection.expect_packet() else {
        panic!("no DISCONNECT")
    };
    assert_eq!(properties, Properties::new(), "the session is kept");
    connection.close();
    let (code, report) = leave.end();
    assert_eq!((code, report.ended.len()), (1, 0));
    assert_eq!(report.failed[0].client_id, "millrace-0a1b2c3d-0");
    assert!(report.failed[0].message.contains("Kafka"), "{report:?}");

    broker.refuse();
    let (code, report) = Leave::start(&document, "1s").end();
    assert_eq!(code, 1);
    assert!(report.failed[0].message.contains("cannot connect"), "{report:?}");

    broker.listen();
    document.live.on_error.action = ErrorAction::Stop;
    document.live.mapping.allowed_topics = vec!["out.b".into()];
    let leave = Leave::start(&document, "3s");
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(true, 0, Properties::new());
    connection.expect_unsubscribe();
    connection.publish(message("a", 1, "poison"));
    connection.expect_disconnect();
    connection.close();
    let (code, report) = leave.end();
    assert_eq!(code, 1);
    assert!(report.failed[0].message.contains("in/a/x"), "{report:?}");
}

#[test]
fn a_worker_ends_the_session_of_a_lane_that_leaves_while_the_others_read_on() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["out.a"]);
    let mut document = route(&broker, kafka.bootstrap());
    document.live.lanes.count = 2;
    document.live.lanes.ordering = Ordering::Unordered;
    let worker = WorkerProcess::operated(&document, 0);
    worker.own(1, &[0]);
    let mut zero = session(&broker, false);
    worker.own(2, &[0, 1]);
    let mut one = session(&broker, false);
    worker.assign(&Assignment {
        generation: 3,
        pod_uid: None,
        lanes: vec![0],
        leaving: vec![1],
    });
    // The lane begins anew, with what it has acknowledged.
    assert_eq!(one.expect_disconnect(), 0);
    one.close();
    let mut one = broker.accept();
    one.expect_connect();
    one.send_connack(true, 0, Properties::new());
    let (packet_id, filters) = one.expect_unsubscribe();
    assert_eq!(filters, ["$share/millrace-0a1b2c3d/in/+/#"]);
    one.publish(message("a", 1, "held"));
    one.expect_puback(1);
    one.send_unsuback(packet_id, &[0]);
    worker.wait_for("the lane to leave", |status| {
        status.lanes[1].state == LaneState::Leaving
    });
    zero.publish(message("a", 1, "read on"));
    zero.expect_puback(1);
    let Packet::Disconnect { properties, .. } = one.expect_packet() else {
        panic!("no DISCONNECT")
    };
    assert_eq!(properties.number(id::SESSION_EXPIRY_INTERVAL), Some(0));
    one.close();
    worker.wait_for("the lane to have left", |status| {
        status.lanes[1].state == LaneState::Left && status.generation == 3
    });
    broker.assert_no_connection(Duration::from_millis(500));
    assert_eq!(worker.status().ledger.written, 2);
}

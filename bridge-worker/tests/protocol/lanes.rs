//! Lanes that come and go while the worker runs, as an operator assigns them.

use crate::harness::{DEADLINE, MockKafka, POD_UID, QUIET, WorkerProcess, message, route, session};
use millrace_contract::status::{LaneState, Phase};
use millrace_contract::{Assignment, Document, LaneOwner, LaneRecord, Ordering, Ownership, Retired};
use millrace_testkit::{Connection, ScriptedBroker, wait_until};

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a", "out.b"]))
}

fn with_lanes(count: u16, broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.live.lanes.count = count;
    document.live.lanes.ordering = Ordering::Unordered;
    document
}

/// The connections of so many lanes, in the order of the lanes.
#[track_caller]
fn sessions(broker: &ScriptedBroker, count: usize) -> Vec<Connection> {
    let mut lanes: Vec<_> = (0..count)
        .map(|_| {
            let mut connection = broker.accept();
            let (connect, _) = connection.accept_session(false);
            (connect.client_id, connection)
        })
        .collect();
    lanes.sort_by(|a, b| a.0.cmp(&b.0));
    lanes.into_iter().map(|(_, connection)| connection).collect()
}

#[test]
fn a_worker_that_nobody_names_is_idle_and_ready_until_it_is_given_lanes() {
    let (broker, kafka) = parts();
    let worker = WorkerProcess::operated(&with_lanes(2, &broker, &kafka), 0);
    worker.wait_for("an idle worker", |status| status.phase == Phase::Running);
    assert_eq!(worker.readyz(), 200);
    let status = worker.status();
    assert_eq!((status.generation, status.lanes), (0, vec![]));
    assert_eq!(status.pod_uid.as_deref(), Some(POD_UID));
    broker.assert_no_connection(QUIET);

    worker.own(4, &[1]);
    let mut connection = broker.accept();
    assert_eq!(connection.expect_connect().client_id, "millrace-0a1b2c3d-1");
    worker.wait_for("the generation", |status| status.generation == 4);
    assert_eq!(worker.readyz(), 503, "a lane that it has is not up yet");
    connection.send_connack(false, 0, Default::default());
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    wait_until(DEADLINE, "readiness", || worker.readyz() == 200);
    connection.publish(message("a", 1, "x"));
    connection.expect_puback(1);
}

#[test]
fn a_lane_that_goes_confirms_what_it_has_and_counters_never_fall() {
    let (broker, kafka) = parts();
    let worker = WorkerProcess::operated(&with_lanes(2, &broker, &kafka), 0);
    worker.own(1, &[0, 1]);
    let mut lanes = sessions(&broker, 2);
    let mut second = lanes.pop().expect("two lanes");
    second.publish(message("b", 1, "before"));
    second.expect_puback(1);
    kafka.hold_topic("out.a");
    second.publish(message("a", 2, "in flight"));
    worker.wait_for("both messages", |status| status.ledger.received == 2);
    worker.own(2, &[0]);
    worker.wait_for("the generation", |status| status.generation == 2);
    second.publish(message("a", 3, "not read any more"));
    second.assert_silent(QUIET);
    kafka.release_topic("out.a");
    second.expect_puback(2);
    assert_eq!(second.expect_disconnect(), 0, "the session is kept");
    second.close();
    worker.wait_for("the lane to be down", |status| {
        status.lanes.len() == 2 && status.lanes[1].state == LaneState::Down
    });
    assert_eq!(worker.status().phase, Phase::Running, "what it owns runs");
    broker.assert_no_connection(QUIET);
    let before = worker.status().ledger;
    assert_eq!((before.received, before.written, before.balance()), (2, 2, 0));

    // Another generation, and the lane is gone from this process; what it did stays counted.
    worker.own(3, &[0]);
    worker.wait_for("the lane to be gone", |status| status.lanes.len() == 1);
    assert_eq!(worker.status().ledger, before);

    worker.own(4, &[0, 1]);
    let mut again = session(&broker, true);
    // The other owner may have had the session: nothing is taken for a repeat.
    again.publish(message("a", 2, "in flight").dup());
    again.expect_puback(2);
    worker.wait_for("it to be written", |status| status.ledger.written == 3);
    lanes[0].assert_silent(QUIET);
}

#[test]
fn a_lane_that_is_given_back_before_it_is_gone_connects_again() {
    let (broker, kafka) = parts();
    let worker = WorkerProcess::operated(&with_lanes(1, &broker, &kafka), 0);
    worker.own(1, &[0]);
    let mut connection = session(&broker, false);
    worker.own(2, &[]);
    connection.expect_disconnect();
    connection.close();
    worker.wait_for("the lane to be down", |status| {
        status.lanes.iter().all(|lane| lane.state == LaneState::Down)
    });
    worker.own(3, &[0]);
    let mut connection = session(&broker, true);
    connection.publish(message("a", 1, "x"));
    connection.expect_puback(1);
    worker.wait_for("the lane to be up", |status| {
        status.generation == 3 && status.lanes[0].state == LaneState::Up
    });
}

#[test]
fn the_highest_generation_counts_wherever_it_comes_from() {
    let (broker, kafka) = parts();
    let worker = WorkerProcess::operated(&with_lanes(3, &broker, &kafka), 1);
    let owner = |lane, ordinal| LaneOwner {
        lane,
        ordinal,
        state: Ownership::Owned,
        since: 1,
    };
    worker.record(&LaneRecord {
        generation: 5,
        lanes: vec![owner(0, 0), owner(1, 1), owner(2, 0)],
    });
    let _one = session(&broker, false);
    worker.wait_for("the record's generation", |status| status.generation == 5);
    assert_eq!(worker.status().lanes[0].lane, 1);

    let other = |generation, pod_uid: &str, lanes: &[u16]| Assignment {
        generation,
        pod_uid: Some(pod_uid.into()),
        lanes: lanes.into(),
        leaving: Vec::new(),
    };
    worker.assign(&other(4, POD_UID, &[0]));
    broker.assert_no_connection(4 * QUIET);
    worker.assign(&other(9, "the pod before this one", &[0]));
    broker.assert_no_connection(4 * QUIET);
    worker.assign(&other(6, POD_UID, &[1, 2]));
    let mut two = broker.accept();
    assert_eq!(two.accept_session(false).0.client_id, "millrace-0a1b2c3d-2");
    worker.wait_for("the annotation's generation", |status| status.generation == 6);

    // The record, mounted, comes later and says the same.
    worker.record(&LaneRecord {
        generation: 6,
        lanes: vec![owner(0, 0), owner(1, 1), owner(2, 1)],
    });
    two.assert_silent(4 * QUIET);
    assert_eq!(worker.status().lanes.len(), 2);
}

#[test]
fn sigterm_ends_readiness_at_once_and_the_worker_in_order() {
    let (broker, kafka) = parts();
    let mut worker = WorkerProcess::operated(&with_lanes(1, &broker, &kafka), 0);
    worker.own(1, &[0]);
    let mut connection = session(&broker, false);
    wait_until(DEADLINE, "readiness", || worker.readyz() == 200);
    kafka.hold();
    connection.publish(message("a", 1, "x"));
    worker.wait_for("the message", |status| status.ledger.received == 1);
    worker.process.terminate();
    wait_until(DEADLINE, "the end of readiness", || worker.readyz() == 503);
    kafka.release();
    connection.expect_puback(1);
    assert_eq!(connection.expect_disconnect(), 0);
    connection.close();
    assert!(worker.process.wait(DEADLINE).success());
}

#[test]
fn a_pod_without_a_name_is_a_usage_error() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_bridge-worker"));
    command.arg("run");
    for flag in ["--settings", "--live", "--record", "--assignment"] {
        command.arg(flag).arg("/nowhere");
    }
    command.env_remove("POD_NAME");
    let mut process = millrace_testkit::Process::spawn("bridge-worker", command);
    assert_eq!(process.wait(DEADLINE).code(), Some(64));
    assert!(process.stderr().contains("POD_NAME"), "{}", process.stderr());
}

/// The one of two lanes that reads `in/+/#` alone: see `placement`.
const OWNER: usize = 1;

/// What a connection is subscribed to next, granted.
fn grant(connection: &mut Connection) -> Vec<String> {
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &vec![1; subscribe.filters.len()]);
    subscribe
        .filters
        .into_iter()
        .map(|filter| filter.filter)
        .collect()
}

fn end(connection: &mut Connection) -> Vec<String> {
    let (packet_id, filters) = connection.expect_unsubscribe();
    connection.send_unsuback(packet_id, &vec![0; filters.len()]);
    filters
}

#[test]
fn filters_go_from_lane_to_lane_and_are_read_by_both_until_all_have_what_is_new() {
    let (broker, kafka) = parts();
    let mut document = with_lanes(2, &broker, &kafka);
    let worker = WorkerProcess::operated(&document, 0);
    worker.own(1, &[0, 1]);
    let mut lanes = sessions(&broker, 2);
    let shared = "$share/millrace-0a1b2c3d/in/+/#";
    let before = document.live.clone();
    document.live.lanes.ordering = Ordering::PerTopic;
    document.live.retired = vec![Retired {
        is_read: true,
        subscriptions: before.source.subscriptions,
        lanes: before.lanes,
        payload: before.source.payload,
        mapping: before.mapping,
    }];
    let hash = worker.reload(&document.live);
    // One of the two reads it alone, beside what both read.
    let (mut owner, mut other) = (lanes.remove(OWNER), lanes.remove(0));
    assert_eq!(grant(&mut owner), ["in/+/#"]);
    worker.wait_for("both", |status| status.live == hash);
    owner.assert_silent(QUIET);
    other.publish(message("a", 1, "shared"));
    other.expect_puback(1);

    document.live.retired[0].is_read = false;
    let hash = worker.reload(&document.live);
    assert_eq!(end(&mut owner), [shared]);
    assert_eq!(end(&mut other), [shared]);
    worker.wait_for("one", |status| status.live == hash);
    // What the broker still holds for the other is read before it rests, although its filter is read elsewhere.
    other.publish(message("a", 2, "late"));
    other.expect_puback(2);
    other.expect_disconnect();
    worker.wait_for("the other to rest", |status| {
        let idle = status.lanes.iter().filter(|lane| lane.state == LaneState::Idle);
        status.late.is_empty() && idle.count() == 1
    });
    assert_eq!(kafka.values("out.a"), ["shared", "late"]);
}

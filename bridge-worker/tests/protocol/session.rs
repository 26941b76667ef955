//! CONNECT, SUBSCRIBE, and what brokers answer: versions, refusals, less than was asked, takeovers.

use std::time::Duration;

use crate::harness::{MockKafka, QUIET, Running, message, route, session};
use millrace_contract::status::{LaneState, Phase, Reason};
use millrace_contract::{Credentials, Document, Ordering, ProtocolVersion, SharedSubscriptions, Value};
use millrace_testkit::ScriptedBroker;
use millrace_testkit::wire::{self, Properties, Version, id};

fn parts() -> (ScriptedBroker, MockKafka) {
    (ScriptedBroker::start(), MockKafka::start(&["out.a"]))
}

fn unordered(broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.live.lanes.ordering = Ordering::Unordered;
    document
}

fn speaking(version: ProtocolVersion, broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.settings.broker.protocol_version = version;
    document
}

#[test]
fn connect_asks_for_a_lasting_session_of_a_constant_client_id() {
    let (broker, kafka) = parts();
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let mut document = route(&broker, kafka.bootstrap());
    document.settings.broker.credentials = Some(Credentials {
        username: Value::Literal("millrace".into()),
        password: Value::File(password.clone()),
    });
    let _worker = Running::start(document);
    let mut connection = broker.accept();
    let connect = connection.expect_connect();
    assert_eq!(connect.version, Version::V5);
    assert_eq!(connect.client_id, "millrace-0a1b2c3d-0");
    assert!(!connect.clean_start);
    assert_eq!(connect.keep_alive, 30);
    assert_eq!(connect.username.as_deref(), Some("millrace"));
    assert_eq!(connect.password.as_deref(), Some(&b"secret"[..]));
    assert!(!connect.has_will);
    let number = |id| connect.properties.number(id);
    assert_eq!(number(id::SESSION_EXPIRY_INTERVAL), Some(3600));
    assert_eq!(number(id::RECEIVE_MAXIMUM), Some(10_000));
    assert_eq!(number(id::TOPIC_ALIAS_MAXIMUM).unwrap_or(0), 0);

    // A changed file counts from the next attempt on.
    std::fs::write(&password, "new").unwrap();
    connection.reset();
    let mut connection = broker.accept();
    let again = connection.expect_connect();
    assert_eq!(again.password.as_deref(), Some(&b"new"[..]));
    assert_eq!(again.client_id, connect.client_id);
}

#[test]
fn connect_of_3_1_1_keeps_the_session() {
    let (broker, kafka) = parts();
    let worker = Running::start(speaking(ProtocolVersion::V311, &broker, &kafka));
    let mut connection = broker.accept();
    let (connect, _) = connection.accept_session(true);
    assert_eq!(connect.version, Version::V311);
    assert!(!connect.clean_start);
    worker.wait_for("the lane to be up", |status| {
        status.lanes[0].state == LaneState::Up
    });
    let lane = worker.lane();
    assert_eq!(lane.protocol_version.as_deref(), Some("3.1.1"));
    assert!(lane.session_present);
}

#[test]
fn every_filter_is_subscribed_on_every_connect_although_the_session_is_present() {
    let (broker, kafka) = parts();
    let _worker = Running::start(route(&broker, kafka.bootstrap()));
    for session_present in [false, true, true] {
        let mut connection = broker.accept();
        let (_, subscribe) = connection.accept_session(session_present);
        let [filter] = &subscribe.filters[..] else {
            panic!("{subscribe:?}")
        };
        assert_eq!((filter.filter.as_str(), filter.qos), ("in/+/#", 1));
        assert_eq!(
            filter.retain_handling, 1,
            "retained messages come with a new subscription only"
        );
        assert!(filter.retain_as_published);
        // A connection that has worked, and goes: no takeover.
        connection.publish(message("a", 1, "x"));
        connection.expect_puback(1);
        connection.disconnect(0x8B);
    }
}

#[test]
fn shared_subscriptions_carry_the_session_id_and_want_no_retained_messages() {
    let (broker, kafka) = parts();
    let mut document = unordered(&broker, &kafka);
    document.live.lanes.count = 2;
    let _worker = Running::start(document);
    for _ in 0..2 {
        let mut connection = broker.accept();
        let (_, subscribe) = connection.accept_session(false);
        let [filter] = &subscribe.filters[..] else {
            panic!("{subscribe:?}")
        };
        assert_eq!(filter.filter, "$share/millrace-0a1b2c3d/in/+/#");
        assert_eq!(filter.retain_handling, 2);
    }
}

#[test]
fn a_connection_cut_before_suback_is_subscribed_again() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, Properties::new());
    connection.expect_subscribe();
    assert_eq!(worker.lane().state, LaneState::Connecting, "up only after SUBACK");
    assert!(!worker.status().ready);
    connection.reset();

    let mut connection = broker.accept();
    let (_, subscribe) = connection.accept_session(true);
    assert_eq!(subscribe.filters.len(), 1);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
    worker.wait_for("the route to be ready", |status| status.ready);
}

#[test]
fn a_resumed_session_may_send_before_suback() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(true, 0, Properties::new());
    connection.publish(message("a", 1, "x"));
    let subscribe = connection.expect_subscribe();
    connection.expect_puback(1);
    assert_eq!(worker.lane().state, LaneState::Connecting);
    connection.send_suback(subscribe.packet_id, &[1]);
    worker.wait_for("the lane to be up", |status| {
        status.lanes[0].state == LaneState::Up
    });
}

#[test]
fn a_refused_subscription_is_named_and_tried_again() {
    for (version, reason) in [
        (ProtocolVersion::V5, 0x87),
        (ProtocolVersion::V5, 0x80),
        (ProtocolVersion::V311, 0x80),
    ] {
        let (broker, kafka) = parts();
        let worker = Running::start(speaking(version, &broker, &kafka));
        let mut connection = broker.accept();
        connection.expect_connect();
        connection.send_connack(false, 0, Properties::new());
        let subscribe = connection.expect_subscribe();
        connection.send_suback(subscribe.packet_id, &[reason]);
        let problem = worker.wait_for_problem(Reason::SubscriptionRefused);
        assert!(problem.contains("in/+/#"), "{problem}");
        if reason == 0x87 {
            assert!(problem.contains("not authorized"), "{problem}");
        }
        connection.expect_end();
        assert!(!worker.status().ready);

        let _connection = session(&broker, true);
        worker.wait_for("the route to run without a problem", |status| {
            status.phase == Phase::Running && status.problems.is_empty()
        });
    }
}

#[test]
fn one_refused_filter_among_several_is_the_one_that_is_named() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.source.subscriptions = ["in/+stream/1", "in/+stream/2", "in/+stream/3"]
        .map(|filter| millrace_contract::Subscription {
            filter: filter.into(),
        })
        .into();
    let worker = Running::start(document);
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, Properties::new());
    let subscribe = connection.expect_subscribe();
    assert_eq!(subscribe.filters.len(), 3);
    connection.send_suback(subscribe.packet_id, &[1, 0x87, 1]);
    let problem = worker.wait_for_problem(Reason::SubscriptionRefused);
    assert!(problem.contains("in/+/2"), "{problem}");
}

#[test]
fn a_lower_qos_than_asked_is_said_and_the_route_works() {
    for (asked, granted) in [(2, 1), (1, 0)] {
        let (broker, kafka) = parts();
        let mut document = route(&broker, kafka.bootstrap());
        document.live.source.qos = asked;
        let worker = Running::start(document);
        let mut connection = broker.accept();
        connection.expect_connect();
        connection.send_connack(false, 0, Properties::new());
        let subscribe = connection.expect_subscribe();
        assert_eq!(subscribe.filters[0].qos, asked);
        connection.send_suback(subscribe.packet_id, &[granted]);
        let problem = worker.wait_for_problem(Reason::QosDowngraded);
        assert!(problem.contains(&format!("grants QoS {granted}")), "{problem}");
        assert_eq!(worker.status().phase, Phase::Running);
        connection.publish(wire::Publish::new("in/a/x", "x").qos(granted, u16::from(granted)));
        worker.wait_written(1);
    }
}

#[test]
fn a_session_kept_for_a_shorter_time_than_asked_is_said() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.expect_connect();
    let short = Properties::new().with(id::SESSION_EXPIRY_INTERVAL, wire::Value::Long(60));
    connection.send_connack(false, 0, short);
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    let problem = worker.wait_for_problem(Reason::SessionExpiryShort);
    assert!(
        problem.contains("60 s") && problem.contains("3600 s"),
        "{problem}"
    );
}

#[test]
fn a_refused_connection_is_said_in_the_brokers_words_and_tried_again() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    for (reason, text) in [(0x87, "not authorized"), (0x86, "bad user name or password")] {
        let mut connection = broker.accept();
        connection.expect_connect();
        let said = Properties::new().with(id::REASON_STRING, wire::Value::Text("ask Anna".into()));
        connection.send_connack(false, reason, said);
        connection.expect_end();
        worker.wait_for("the refusal to be said", |status| {
            status.problems.iter().any(|problem| {
                problem.reason == Reason::BrokerRefused
                    && problem.message.contains(text)
                    && problem.message.contains("ask Anna")
            })
        });
    }
    let _connection = session(&broker, false);
    worker.wait_for("no problem", |status| status.problems.is_empty());
}

#[test]
fn a_refused_connection_of_3_1_1_is_said() {
    let (broker, kafka) = parts();
    let worker = Running::start(speaking(ProtocolVersion::V311, &broker, &kafka));
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 5, Properties::new());
    let problem = worker.wait_for_problem(Reason::BrokerRefused);
    assert!(problem.contains("not authorized"), "{problem}");
}

#[test]
fn an_unreachable_broker_is_said_and_found_again() {
    let (broker, kafka) = parts();
    broker.refuse();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let problem = worker.wait_for_problem(Reason::BrokerUnreachable);
    assert!(problem.contains(&format!(":{}", broker.port())), "{problem}");
    assert_eq!(worker.status().phase, Phase::Connecting);
    broker.listen();
    let _connection = session(&broker, false);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
}

#[test]
fn the_urls_of_a_cluster_are_tried_in_order() {
    let (down, kafka) = parts();
    let up = ScriptedBroker::start();
    down.refuse();
    let mut document = route(&down, kafka.bootstrap());
    document
        .settings
        .broker
        .urls
        .push(format!("mqtt://127.0.0.1:{}", up.port()));
    let worker = Running::start(document);
    let _connection = session(&up, false);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
}

#[test]
fn a_3_1_1_broker_that_answers_connect_of_5_in_its_own_words_is_spoken_to_in_3_1_1() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    assert_eq!(connection.expect_connect().version, Version::V5);
    connection.send_raw(vec![0x20, 2, 0, 1]);
    connection.expect_end();
    works_in_3_1_1(&broker, &worker);
}

#[test]
fn a_broker_that_refuses_5_by_reason_is_spoken_to_in_3_1_1() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    assert_eq!(connection.expect_connect().version, Version::V5);
    connection.send_connack(false, 0x84, Properties::new());
    connection.expect_end();
    works_in_3_1_1(&broker, &worker);
}

#[test]
fn a_broker_that_closes_on_connect_of_5_is_spoken_to_in_3_1_1() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    for _ in 0..2 {
        // Both are tried by turns: the broker may just have been starting.
        let mut connection = broker.accept();
        assert_eq!(connection.expect_connect().version, Version::V5);
        connection.close();
        let mut connection = broker.accept();
        assert_eq!(connection.expect_connect().version, Version::V311);
        connection.close();
    }
    let mut connection = broker.accept();
    assert_eq!(connection.expect_connect().version, Version::V5);
    connection.close();
    works_in_3_1_1(&broker, &worker);
}

#[track_caller]
fn works_in_3_1_1(broker: &ScriptedBroker, worker: &Running) {
    for session_present in [false, true] {
        let mut connection = broker.accept();
        let (connect, _) = connection.accept_session(session_present);
        assert_eq!(connect.version, Version::V311);
        connection.publish(message("a", 1, "x"));
        connection.expect_puback(1);
        assert_eq!(worker.lane().protocol_version.as_deref(), Some("3.1.1"));
        connection.reset();
    }
}

#[test]
fn a_closed_socket_is_no_sign_of_3_1_1_once_5_has_worked() {
    let (broker, kafka) = parts();
    let _worker = Running::start(route(&broker, kafka.bootstrap()));
    session(&broker, false).disconnect(0x8B);
    for _ in 0..3 {
        let mut connection = broker.accept();
        assert_eq!(connection.expect_connect().version, Version::V5);
        connection.close();
    }
    let mut connection = broker.accept();
    let (connect, _) = connection.accept_session(true);
    assert_eq!(connect.version, Version::V5);
}

#[test]
fn a_route_told_to_speak_5_never_falls_back() {
    let (broker, kafka) = parts();
    let worker = Running::start(speaking(ProtocolVersion::V5, &broker, &kafka));
    for _ in 0..2 {
        let mut connection = broker.accept();
        assert_eq!(connection.expect_connect().version, Version::V5);
        connection.send_connack(false, 0x84, Properties::new());
        connection.expect_end();
    }
    let problem = worker.wait_for_problem(Reason::BrokerRefused);
    assert!(problem.contains("unsupported protocol version"), "{problem}");
}

#[test]
fn a_broker_without_shared_subscriptions_is_said_with_the_way_out() {
    let (broker, kafka) = parts();
    let worker = Running::start(unordered(&broker, &kafka));
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, without_shared());
    connection.expect_end();
    let problem = worker.wait_for_problem(Reason::SharedSubscriptionsUnsupported);
    assert!(problem.contains("PerTopic"), "{problem}");

    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, Properties::new());
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[0x9E]);
    connection.expect_end();
    let problem = worker.wait_for_problem(Reason::SharedSubscriptionsUnsupported);
    assert!(problem.contains("PerTopic"), "{problem}");
}

#[test]
fn shared_subscriptions_declared_supported_are_tried_whatever_the_broker_says() {
    let (broker, kafka) = parts();
    let mut document = unordered(&broker, &kafka);
    document.settings.broker.shared_subscriptions = SharedSubscriptions::Supported;
    let worker = Running::start(document);
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, without_shared());
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
}

#[test]
fn plain_subscriptions_do_not_care_whether_the_broker_can_share() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = broker.accept();
    connection.expect_connect();
    connection.send_connack(false, 0, without_shared());
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    worker.wait_for("the route to run without a problem", |status| {
        status.phase == Phase::Running && status.problems.is_empty()
    });
}

fn without_shared() -> Properties {
    Properties::new().with(id::SHARED_SUBSCRIPTION_AVAILABLE, wire::Value::Byte(0))
}

/// How long a lane waits when another client has taken its session, in these tests.
const FAILOVER: Duration = Duration::from_millis(600);

fn with_failover(mut document: Document) -> Document {
    document.live.timeouts.failover_ms = FAILOVER.as_millis() as u64;
    document
}

#[track_caller]
fn assert_waits(broker: &ScriptedBroker, worker: &Running, wait: Duration) {
    let problem = worker.wait_for_problem(Reason::TakenOver);
    assert!(problem.contains("millrace-0a1b2c3d-0"), "{problem}");
    assert_eq!(worker.lane().state, LaneState::TakenOver);
    // Less what has passed since the takeover was seen.
    broker.assert_no_connection(wait - Duration::from_millis(50));
}

#[test]
fn a_lane_taken_over_waits_and_does_not_fight() {
    let (broker, kafka) = parts();
    let worker = Running::start(with_failover(route(&broker, kafka.bootstrap())));
    session(&broker, false).disconnect(0x8E);
    assert_waits(&broker, &worker, FAILOVER);
    // Twice in a row, it waits twice as long.
    session(&broker, true).disconnect(0x8E);
    assert_waits(&broker, &worker, 2 * FAILOVER);
    let mut connection = session(&broker, true);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
    connection.publish(message("a", 1, "x"));
    connection.expect_puback(1);
    assert_eq!(worker.problem(Reason::TakenOver), None);
    assert_eq!(worker.snapshot().taken_over, 2);
}

#[test]
fn a_3_1_1_session_closed_twice_soon_after_connack_is_taken_over() {
    let (broker, kafka) = parts();
    let worker = Running::start(with_failover(speaking(ProtocolVersion::V311, &broker, &kafka)));
    session(&broker, false).close();
    // Once is an accident.
    let mut connection = broker.accept();
    assert_eq!(worker.problem(Reason::TakenOver), None);
    assert_eq!(worker.snapshot().taken_over, 0);
    connection.accept_session(true);
    connection.close();
    assert_waits(&broker, &worker, FAILOVER);
    let _connection = session(&broker, true);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
}

/// It would say that the session was taken over: this is the network.
#[test]
fn an_mqtt_5_session_cut_again_and_again_is_not_taken_over() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.timeouts.failover_ms = 600_000;
    let worker = Running::start(document);
    for cut in 0..4 {
        let connection = session(&broker, cut > 0);
        match cut % 2 {
            0 => connection.reset(),
            _ => connection.close(),
        }
    }
    let _connection = session(&broker, true);
    assert_eq!(worker.snapshot().taken_over, 0);
}

#[test]
fn a_taken_over_lane_can_be_stopped_while_it_waits() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.timeouts.failover_ms = 600_000;
    let worker = Running::start(document);
    session(&broker, false).disconnect(0x8E);
    worker.wait_for_problem(Reason::TakenOver);
    worker.stop();
    worker.wait_ended();
    broker.assert_no_connection(QUIET);
}

#[test]
fn a_broker_that_shuts_down_is_connected_again_at_once() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    session(&broker, false).disconnect(0x8B);
    let _connection = session(&broker, true);
    worker.wait_for("the route to run", |status| status.phase == Phase::Running);
    assert_eq!(worker.snapshot().reconnects, 1);
    assert_eq!(worker.snapshot().taken_over, 0);
}

//! A changed configuration taken over while the worker runs: what goes over the wire, and how messages are mapped.

use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, MockKafka, QUIET, WorkerProcess, message, repeat, route, session};
use millrace_contract::status::{Phase, Reason};
use millrace_contract::{Document, ErrorAction, Live, Mapping, Retired, Subscription};
use millrace_testkit::wire::Publish;
use millrace_testkit::{Connection, ScriptedBroker, wait_until};
use rdkafka::types::RDKafkaRespErr as Code;

/// How soon a changed file has to be in effect.
const EFFECTIVE: Duration = Duration::from_secs(2);

fn parts() -> (ScriptedBroker, MockKafka) {
    (
        ScriptedBroker::start(),
        MockKafka::start(&["out.a", "new.a", "dead"]),
    )
}

fn worker(document: &Document) -> WorkerProcess {
    let worker = WorkerProcess::operated(document, 0);
    worker.own(1, &[0]);
    worker
}

fn filters(filters: &[&str]) -> Vec<Subscription> {
    let subscription = |filter: &&str| Subscription {
        filter: (*filter).to_owned(),
    };
    filters.iter().map(subscription).collect()
}

fn to(mapping: &Mapping, topic: &str) -> Mapping {
    Mapping {
        topic: format!("{topic}.{{stream}}"),
        allowed_topics: vec![format!("{topic}.*")],
        ..mapping.clone()
    }
}

/// As `live`, with another filter and another topic.
fn other(live: &Live) -> Live {
    let mut other = live.clone();
    other.source.subscriptions = filters(&["other/+stream/#"]);
    other.mapping = to(&live.mapping, "new");
    other
}

#[test]
fn new_filters_are_subscribed_then_old_ones_unsubscribed_on_the_connection_there_is() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    let started = Instant::now();
    let hash = worker.reload(&other(&document.live));
    let subscribe = connection.expect_subscribe();
    let [filter] = &subscribe.filters[..] else {
        panic!("{subscribe:?}")
    };
    assert_eq!((filter.filter.as_str(), filter.qos), ("other/+/#", 1));
    connection.assert_silent(QUIET);
    assert_ne!(worker.status().live, hash, "not before it is granted");
    connection.send_suback(subscribe.packet_id, &[1]);
    let (packet_id, gone) = connection.expect_unsubscribe();
    assert_eq!(gone, ["in/+/#"]);

    // What still comes for the old filter is mapped as it was.
    connection.publish_all([
        message("a", 1, "late"),
        Publish::new("other/a/x", "new").qos(1, 2),
    ]);
    connection.expect_pubacks([1, 2]);
    assert_ne!(worker.status().live, hash, "not before what is old has ended");
    connection.send_unsuback(packet_id, &[0]);
    worker.wait_for("the new configuration", |status| status.live == hash);
    assert!(started.elapsed() < EFFECTIVE, "{:?}", started.elapsed());
    connection.publish(message("a", 3, "later"));
    connection.expect_puback(3);
    assert_eq!(kafka.values("out.a"), ["late", "later"]);
    assert_eq!(kafka.values("new.a"), ["new"]);
    assert_eq!(worker.status().late, ["in/+stream/#"]);
    wait_until(DEADLINE, "the old filter to run dry", || {
        worker.status().late.is_empty()
    });
    assert_eq!(worker.status().lanes[0].connections, 1);

    // On the next connection everything is said again.
    connection.reset();
    let mut connection = broker.accept();
    let (_, subscribe) = connection.accept_session(true);
    assert_eq!(subscribe.filters[0].filter, "other/+/#");
    assert_eq!(connection.expect_unsubscribe().1, ["in/+/#"]);
}

#[test]
fn a_filter_runs_dry_only_after_silence_acks_and_an_answered_ping() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    connection.answer_pings(false);
    worker.reload(&other(&document.live));
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[1]);
    let (packet_id, _) = connection.expect_unsubscribe();
    kafka.hold();
    // A broker with a full window is silent too.
    connection.publish(message("a", 1, "late"));
    connection.send_unsuback(packet_id, &[0]);
    connection.assert_silent(Duration::from_secs(3));
    kafka.release();
    connection.expect_puback(1);
    connection.expect_pingreq();
    connection.publish(message("a", 2, "later"));
    connection.expect_puback(2);
    connection.send_pingresp();
    connection.expect_pingreq();
    assert_eq!(worker.status().late, ["in/+stream/#"]);
    connection.send_pingresp();
    worker.wait_for("the old filter to run dry", |status| status.late.is_empty());
}

#[test]
fn filters_retired_before_the_process_are_unsubscribed_and_keep_their_mapping() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    let old = document.live.clone();
    document.live = other(&old);
    document.live.retired = vec![Retired {
        is_read: false,
        lanes: old.lanes,
        subscriptions: old.source.subscriptions,
        payload: old.source.payload,
        mapping: old.mapping,
    }];
    let worker = worker(&document);
    let mut connection = broker.accept();
    let (_, subscribe) = connection.accept_session(true);
    assert_eq!(subscribe.filters[0].filter, "other/+/#");
    let (packet_id, gone) = connection.expect_unsubscribe();
    assert_eq!(gone, ["in/+/#"]);
    connection.publish(message("a", 1, "late"));
    connection.expect_puback(1);
    assert_eq!(kafka.values("out.a"), ["late"]);
    connection.send_unsuback(packet_id, &[0]);
    assert_eq!(worker.status().late, ["in/+stream/#"]);
    worker.wait_for("the old filter to run dry", |status| status.late.is_empty());
    // The operator has seen it, and forgets it.
    document.live.retired.clear();
    let hash = worker.reload(&document.live);
    worker.wait_for("the new configuration", |status| status.live == hash);
    connection.assert_silent(QUIET);
}

#[test]
fn a_filter_that_comes_back_is_subscribed_again() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    for (live, new, gone) in [
        (other(&document.live), "other/+/#", "in/+/#"),
        (document.live.clone(), "in/+/#", "other/+/#"),
    ] {
        let hash = worker.reload(&live);
        let subscribe = connection.expect_subscribe();
        assert_eq!(subscribe.filters.len(), 1);
        assert_eq!(subscribe.filters[0].filter, new);
        connection.send_suback(subscribe.packet_id, &[1]);
        let (packet_id, filters) = connection.expect_unsubscribe();
        assert_eq!(filters, [gone]);
        connection.send_unsuback(packet_id, &[0]);
        worker.wait_for("the new configuration", |status| status.live == hash);
    }
    connection.publish(message("a", 1, "x"));
    connection.expect_puback(1);
    assert_eq!(kafka.values("out.a"), ["x"]);
}

#[test]
fn mapping_limits_and_what_happens_to_errors_take_effect_without_a_word_to_the_broker() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    let mut live = document.live.clone();
    live.mapping = to(&live.mapping, "new");
    live.max_message_bytes = 10;
    live.on_error.action = ErrorAction::Discard;
    live.on_error.dead_letter_topic = None;
    let started = Instant::now();
    let hash = worker.reload(&live);
    worker.wait_for("the new configuration", |status| status.live == hash);
    assert!(started.elapsed() < EFFECTIVE, "{:?}", started.elapsed());
    connection.publish_all([message("a", 1, "x"), message("a", 2, "more than ten bytes")]);
    connection.expect_pubacks([1, 2]);
    assert_eq!(kafka.values("new.a"), ["x"]);
    let ledger = worker.status().ledger;
    assert_eq!((ledger.written, ledger.discarded), (1, 1));
}

#[test]
fn a_changed_qos_is_subscribed_again() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    let mut live = document.live.clone();
    live.source.qos = 2;
    let hash = worker.reload(&live);
    let subscribe = connection.expect_subscribe();
    let filter = &subscribe.filters[0];
    assert_eq!((filter.filter.as_str(), filter.qos), ("in/+/#", 2));
    connection.send_suback(subscribe.packet_id, &[2]);
    worker.wait_for("the new configuration", |status| status.live == hash);
    connection.assert_silent(QUIET);
}

#[test]
fn a_configuration_that_cannot_be_used_is_named_and_the_one_before_goes_on() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    let mut bad_filter = document.live.clone();
    bad_filter.source.subscriptions.extend(filters(&["in/#/x"]));
    let mut bad_mapping = document.live.clone();
    bad_mapping.mapping.key = "{nothing}".into();
    let mut id = 0;
    for (text, words) in [
        ("{".to_owned(), "live.json"),
        (
            serde_json::to_string(&bad_filter).unwrap(),
            "source.subscriptions[1].filter",
        ),
        (serde_json::to_string(&bad_mapping).unwrap(), "nothing"),
    ] {
        worker.reload_text(&text);
        wait_until(DEADLINE, "the problem to be named", || {
            let problem = worker.wait_for_problem(Reason::ConfigurationRefused);
            problem.contains(words) && problem.contains("still in use")
        });
        id += 1;
        connection.publish(message("a", id, "x"));
        connection.expect_puback(id);
    }
    assert_eq!(kafka.count("out.a"), 3);
    let mut good = document.live.clone();
    good.mapping = to(&good.mapping, "new");
    let hash = worker.reload(&good);
    worker.wait_for("the new configuration", |status| {
        status.live == hash && status.problems.is_empty()
    });
    connection.publish(message("a", 9, "x"));
    connection.expect_puback(9);
    assert_eq!(kafka.count("new.a"), 1);
}

#[test]
fn a_route_that_a_message_has_stopped_goes_on_when_it_is_corrected() {
    let (broker, kafka) = parts();
    let mut document = stopping(&broker, &kafka);
    document.live.mapping.allowed_topics = vec!["out.b".into()];
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x"));
    worker.wait_for("the route to be stopped", |status| status.phase == Phase::Stopped);
    assert_eq!(connection.expect_disconnect(), 0, "the session is kept");
    connection.close();
    broker.assert_no_connection(QUIET);

    document.live.mapping.allowed_topics = vec!["out.*".into()];
    worker.reload(&document.live);
    let mut connection = session(&broker, true);
    connection.publish(repeat("a", 1, "x"));
    connection.expect_puback(1);
    assert_eq!(kafka.values("out.a"), ["x"]);
    worker.wait_for("the route to run", |status| {
        status.phase == Phase::Running && status.problems.is_empty() && status.ledger.in_flight == 0
    });
    assert_eq!(worker.status().ledger.balance(), 0);
}

/// The name by which a stopped route calls the message that has stopped it.
fn name_of_stopping(worker: &WorkerProcess) -> String {
    let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
    let (_, name) = problem
        .rsplit_once("annotation millrace.dev/skip: ")
        .expect("a name");
    assert!(
        problem.contains(&format!("at message {name} on topic")),
        "{problem}"
    );
    name.to_owned()
}

/// Has a stopped route skip a message; returns the connection on which the broker sends it again.
fn skip(
    name: &str,
    document: &mut Document,
    worker: &WorkerProcess,
    broker: &ScriptedBroker,
    mut connection: Connection,
) -> Connection {
    connection.expect_disconnect();
    connection.close();
    document.live.on_error.skip = vec![name.to_owned()];
    worker.reload(&document.live);
    session(broker, true)
}

/// A route that stops at what it cannot deliver.
fn stopping(broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    let mut document = route(broker, kafka.bootstrap());
    document.live.on_error.action = ErrorAction::Stop;
    document.live.on_error.dead_letter_topic = None;
    document
}

#[test]
fn a_message_that_has_stopped_a_route_can_be_skipped_alone() {
    let (broker, kafka) = parts();
    let mut document = stopping(&broker, &kafka);
    document.live.mapping.allowed_topics = vec!["out.a".into()];
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    connection.publish_all([message("b", 1, "poison"), message("a", 2, "behind")]);
    let name = name_of_stopping(&worker);
    let mut connection = skip(&name, &mut document, &worker, &broker, connection);
    connection.publish_all([repeat("b", 1, "poison"), repeat("a", 2, "behind")]);
    connection.expect_pubacks([1, 2]);
    // Another one like it is another.
    connection.publish(message("b", 3, "another poison"));
    worker.wait_for("the route to be stopped", |status| status.phase == Phase::Stopped);
    assert_ne!(name_of_stopping(&worker), name);
    assert_eq!(kafka.values("out.a"), ["behind"]);
    let ledger = worker.status().ledger;
    assert_eq!((ledger.written, ledger.discarded, ledger.balance()), (1, 1, 0));
}

#[test]
fn a_message_that_kafka_refuses_can_be_skipped_though_its_record_is_another_each_time() {
    let (broker, kafka) = parts();
    let mut document = stopping(&broker, &kafka);
    document.live.mapping.value = Some("{'at': message.receivedAt}".into());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    // The batch, then the record alone.
    let refuse = || kafka.answer_produce(&[Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2]);
    refuse();
    connection.publish(message("a", 1, "x"));
    let name = name_of_stopping(&worker);
    let mut connection = skip(&name, &mut document, &worker, &broker, connection);
    refuse();
    connection.publish(repeat("a", 1, "x"));
    connection.expect_puback(1);
    // Another message with a record like it is another message.
    refuse();
    connection.publish(message("a", 2, "y"));
    worker.wait_for("the route to be stopped", |status| status.phase == Phase::Stopped);
    assert_ne!(name_of_stopping(&worker), name);
    let ledger = worker.status().ledger;
    assert_eq!((ledger.written, ledger.discarded, ledger.balance()), (0, 1, 0));
}

#[test]
fn of_messages_that_are_too_large_and_begin_alike_one_can_be_skipped() {
    let (broker, kafka) = parts();
    let mut document = stopping(&broker, &kafka);
    document.live.max_message_bytes = 1_000;
    let large = |end| format!("{}{end}", "x".repeat(5_000));
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, &large("1")));
    let name = name_of_stopping(&worker);
    let mut connection = skip(&name, &mut document, &worker, &broker, connection);
    connection.publish(repeat("a", 1, &large("1")));
    connection.expect_puback(1);
    connection.publish(message("a", 2, &large("2")));
    worker.wait_for("the route to be stopped", |status| status.phase == Phase::Stopped);
    assert_ne!(name_of_stopping(&worker), name);
    assert_eq!(worker.status().ledger.discarded, 1);
}

#[test]
fn a_refused_new_filter_is_named_and_the_old_one_is_kept() {
    let (broker, kafka) = parts();
    let document = route(&broker, kafka.bootstrap());
    let worker = worker(&document);
    let mut connection = session(&broker, false);
    worker.reload(&other(&document.live));
    let subscribe = connection.expect_subscribe();
    connection.send_suback(subscribe.packet_id, &[0x87]);
    let problem = worker.wait_for_problem(Reason::SubscriptionRefused);
    assert!(problem.contains("other/+/#"), "{problem}");
    // No UNSUBSCRIBE has come: the broker goes on collecting for the old filter.
    connection.expect_end();
}

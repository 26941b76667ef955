//! What Kafka may answer: a producer that fails for good, records and batches it refuses, topics that are not there.

use std::time::{Duration, Instant};

use crate::harness::{Api, Code, DEADLINE, MockKafka, QUIET, Running, message, repeat, route, session};
use millrace_contract::status::{Phase, Reason};
use millrace_contract::{Document, ErrorAction};
use millrace_testkit::wire::Publish;
use millrace_testkit::{Connection, ScriptedBroker, now_micros, wait_until};
use sha2::{Digest, Sha256};

const TAKEN: Code = Code::RD_KAFKA_RESP_ERR_NO_ERROR;
const TOO_LARGE: Code = Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
/// On the first request that is outstanding, librdkafka's idempotent producer can do nothing more.
const FATAL: Code = Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;

fn parts() -> (ScriptedBroker, MockKafka) {
    (
        ScriptedBroker::start(),
        MockKafka::start(&["out.a", "out.b", "dead"]),
    )
}

fn numbers(range: std::ops::RangeInclusive<u16>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn with_action(mut document: Document, action: ErrorAction) -> Document {
    document.live.on_error.action = action;
    document
}

/// Has messages received while Kafka is away: the first Produce request will hold all of them.
#[track_caller]
fn send_as_one_batch(
    kafka: &MockKafka,
    worker: &Running,
    connection: &mut Connection,
    ids: std::ops::RangeInclusive<u16>,
    codes: &[Code],
) {
    kafka.go_away();
    let before = worker.ledger().received;
    connection.publish_all(ids.clone().map(|id| message("a", id, &id.to_string())));
    worker.wait_received(before + ids.count() as u64);
    kafka.answer_produce(codes);
    kafka.come_back();
}

#[test]
fn a_fatal_error_replaces_the_producer_and_everything_is_sent_again_in_order() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    for restarts in 1..=3 {
        let ids = 1_000 * (restarts - 1) + 1..=1_000 * restarts;
        send_as_one_batch(&kafka, &worker, &mut connection, ids.clone(), &[FATAL]);
        connection.expect_pubacks(ids);
        assert_eq!(worker.snapshot().producer_restarts, u64::from(restarts));
    }
    assert_eq!(kafka.values("out.a"), numbers(1..=3_000));
    assert_eq!(worker.settled(3_000).written, 3_000);
    assert_eq!(worker.lane().connections, 1);
}

#[test]
fn a_fatal_error_behind_a_lost_connection_is_one_record_and_one_ack() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    kafka.go_away();
    connection.publish_all((1..=100).map(|id| message("a", id, &id.to_string())));
    worker.wait_received(100);
    connection.reset();
    let mut connection = session(&broker, true);
    connection.publish_all((1..=100).map(|id| repeat("a", id, &id.to_string())));
    worker.wait_received(200);
    kafka.answer_produce(&[FATAL]);
    kafka.come_back();
    connection.expect_pubacks(1..=100);
    assert_eq!(kafka.values("out.a"), numbers(1..=100));
    assert_eq!(worker.snapshot().producer_restarts, 1);
}

#[test]
fn a_fatal_error_with_several_lanes_loses_nothing() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.lanes.count = 2;
    document.live.lanes.ordering = millrace_contract::Ordering::Unordered;
    let worker = Running::start(document);
    let mut lanes = [session(&broker, false), session(&broker, false)];
    kafka.go_away();
    for (lane, stream) in lanes.iter_mut().zip(["a", "b"]) {
        lane.publish_all((1..=500).map(|id| message(stream, id, &id.to_string())));
    }
    worker.wait_received(1_000);
    kafka.answer_produce(&[FATAL]);
    kafka.come_back();
    for lane in &mut lanes {
        lane.expect_pubacks(1..=500);
    }
    // The batch of the other topic may have been taken before the producer was given up.
    for topic in ["out.a", "out.b"] {
        let mut values = kafka.values(topic);
        assert_eq!(values[..500], numbers(1..=500), "{topic}");
        values.drain(..500);
        assert!(
            values.is_empty() || values == numbers(1..=500),
            "{topic}: {values:?}"
        );
    }
}

/// Kafka does not let this client produce idempotently: each new producer fails at once.
#[test]
fn a_client_that_may_not_produce_is_told_so_and_its_producers_are_not_replaced_in_a_rush() {
    let (broker, kafka) = parts();
    let refused = Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED;
    kafka.answer(Api::InitProducerId, &[refused; 1_000]);
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x"));
    worker.wait_for("a fatal error", |_| worker.snapshot().producer_restarts >= 2);
    let (start, before) = (Instant::now(), worker.snapshot().producer_restarts);
    connection.assert_silent(Duration::from_secs(1));
    let replaced = worker.snapshot().producer_restarts - before;
    assert!(
        replaced <= 10,
        "{replaced} producers were made in {:?}",
        start.elapsed()
    );
    let problem = worker.wait_for_problem(Reason::KafkaRefused);
    assert!(problem.contains("IdempotentWrite"), "{problem}");
    kafka.answer_as_usual(Api::InitProducerId);
    connection.expect_puback(1);
    assert_eq!(kafka.values("out.a"), ["x"]);
    worker.wait_for("no problem", |status| status.problems.is_empty());
}

#[test]
fn errors_that_are_not_about_the_record_are_no_verdict() {
    for code in [
        Code::RD_KAFKA_RESP_ERR_UNKNOWN,
        Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR__TRANSPORT,
    ] {
        let (broker, kafka) = parts();
        let worker = Running::start(route(&broker, kafka.bootstrap()));
        let mut connection = session(&broker, false);
        send_as_one_batch(&kafka, &worker, &mut connection, 1..=10, &[code]);
        connection.expect_pubacks(1..=10);
        let mut values = kafka.values("out.a");
        // With a cut connection the batch may have been taken; MockCluster does not know it again.
        assert_eq!(values[..10], numbers(1..=10), "{code:?}");
        values.drain(..10);
        assert!(
            values.is_empty() || values == numbers(1..=10),
            "{code:?}: {values:?}"
        );
        assert_eq!(kafka.count("dead"), 0, "{code:?}");
    }
}

#[test]
fn of_a_refused_batch_only_the_guilty_record_is_a_dead_letter() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    // Nobody knows which it is, so each is sent alone; the fifth is refused again.
    let codes = [TOO_LARGE, TAKEN, TAKEN, TAKEN, TAKEN, TOO_LARGE];
    send_as_one_batch(&kafka, &worker, &mut connection, 1..=10, &codes);
    connection.expect_pubacks(1..=10);
    let others: Vec<_> = numbers(1..=10).into_iter().filter(|n| n != "5").collect();
    assert_eq!(kafka.values("out.a"), others);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].text(), "5");
    assert_eq!(dead[0].header("millrace.error.reason"), Some("RecordTooLarge"));
    assert_eq!(dead[0].header("millrace.kafka.topic"), Some("out.a"));
    let ledger = worker.settled(10);
    assert_eq!((ledger.written, ledger.dead_lettered), (9, 1));
}

#[test]
fn a_refused_batch_without_a_guilty_record_is_written() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    send_as_one_batch(&kafka, &worker, &mut connection, 1..=200, &[TOO_LARGE]);
    connection.expect_pubacks(1..=200);
    assert_eq!(kafka.values("out.a"), numbers(1..=200));
    assert_eq!(kafka.count("dead"), 0);
}

/// Those sent alone are told from the guilty one only alone: not by what happens to another batch.
#[test]
fn a_passing_error_of_records_sent_alone_does_not_put_them_in_a_batch_again() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let passing = Code::RD_KAFKA_RESP_ERR_UNKNOWN;
    let codes = [TOO_LARGE, passing, passing, passing, TOO_LARGE];
    send_as_one_batch(&kafka, &worker, &mut connection, 1..=3, &codes);
    connection.expect_pubacks(1..=3);
    assert_eq!(kafka.values("dead"), ["1"]);
    assert_eq!(kafka.values("out.a"), ["2", "3"]);
}

#[test]
fn a_producer_of_single_records_may_fail_for_good_too() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    send_as_one_batch(&kafka, &worker, &mut connection, 1..=5, &[TOO_LARGE, FATAL]);
    connection.expect_pubacks(1..=5);
    let mut values = kafka.values("out.a");
    values.sort_unstable();
    values.dedup();
    assert_eq!(values, numbers(1..=5));
    assert_eq!(kafka.count("dead"), 0);
    // And again, with a new one.
    send_as_one_batch(&kafka, &worker, &mut connection, 6..=9, &[TOO_LARGE, FATAL]);
    connection.expect_pubacks(6..=9);
}

#[test]
fn a_message_that_cannot_be_mapped_is_a_dead_letter_that_says_why_and_whence() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.allowed_topics = vec!["out.a".into()];
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    let before = now_micros() / 1_000;
    connection.publish_all([
        message("a", 1, "good"),
        Publish::new("in/secret/x", "forbidden").qos(1, 2),
        message("a", 3, "good"),
    ]);
    connection.expect_pubacks([1, 2, 3]);
    assert_eq!(kafka.values("out.a"), ["good", "good"]);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 1);
    let dead = &dead[0];
    assert_eq!(dead.text(), "forbidden");
    assert_eq!(dead.key_text(), "in/secret/x");
    assert_eq!(dead.header("millrace.error.reason"), Some("TopicNotAllowed"));
    let why = dead.header("millrace.error.message").unwrap();
    assert!(why.contains("out.secret"), "{why}");
    assert_eq!(dead.header("millrace.route"), Some("default/test"));
    assert_eq!(dead.header("millrace.lane"), Some("0"));
    assert_eq!(dead.header("mqtt.topic"), Some("in/secret/x"));
    assert_eq!(dead.header("millrace.payload"), Some("original"));
    let received = u64::try_from(dead.timestamp.unwrap()).unwrap();
    assert!(
        (before..=now_micros() / 1_000).contains(&received),
        "the time of receipt"
    );
    assert_eq!(worker.settled(3).dead_lettered, 1);
    assert_eq!(worker.snapshot().errors["TopicNotAllowed"], 1);
}

#[test]
fn a_dead_letter_is_acknowledged_only_after_kafka_has_it() {
    let (broker, kafka) = parts();
    kafka.hold_topic("dead");
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.allowed_topics = vec!["out.a".into()];
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish_all([message("a", 1, "x"), message("b", 2, "x"), message("a", 3, "x")]);
    worker.wait_written(2);
    connection.expect_puback(1);
    connection.assert_silent(QUIET);
    kafka.release_topic("dead");
    connection.expect_pubacks([2, 3]);
}

#[test]
fn a_dead_letter_that_is_too_large_carries_head_size_and_digest() {
    let (broker, kafka) = parts();
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.allowed_topics = vec!["out.a".into()];
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    let payload: String = ('a'..='z').cycle().take(5_000).collect();
    // In a batch and alone.
    kafka.answer_produce(&[TOO_LARGE, TOO_LARGE]);
    connection.publish(message("b", 1, &payload));
    connection.expect_puback(1);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 1);
    let dead = &dead[0];
    assert_eq!(dead.text(), &payload[..1024]);
    assert_eq!(dead.header("millrace.payload"), Some("head"));
    assert_eq!(dead.header("millrace.payload.size"), Some("5000"));
    let digest: String = Sha256::digest(payload.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(dead.header("millrace.payload.sha256"), Some(digest.as_str()));
    assert_eq!(
        dead.header("millrace.error.reason"),
        Some("TopicNotAllowed"),
        "what was wrong in the first place"
    );
    assert_eq!(dead.header("mqtt.topic"), Some("in/b/x"));
    assert_eq!(worker.settled(1).dead_lettered, 1);
    assert_eq!(worker.snapshot().errors["DeadLetterTooLarge"], 1);
}

#[test]
fn a_dead_letter_that_kafka_does_not_take_stops_the_route() {
    for (codes, why) in [
        // With the payload, alone, with the head, and that alone.
        (&[TOO_LARGE; 4][..], "too large"),
        (
            &[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED][..],
            "uthoriz",
        ),
        (&[Code::RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP][..], "imestamp"),
    ] {
        let (broker, kafka) = parts();
        let mut document = route(&broker, kafka.bootstrap());
        document.live.mapping.allowed_topics = vec!["out.a".into()];
        let worker = Running::start(document);
        let mut connection = session(&broker, false);
        connection.publish(message("a", 1, "before"));
        connection.expect_puback(1);
        kafka.answer_produce(codes);
        connection.publish(message("b", 2, &"x".repeat(2_000)));
        assert_eq!(connection.expect_disconnect(), 0, "no ack for what is nowhere");
        let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
        assert!(
            problem.contains("dead letter") && problem.contains("in/b/x") && problem.contains(why),
            "{problem}"
        );
        assert_eq!(worker.status().phase, Phase::Stopped);
        assert_eq!(kafka.count("dead"), 0);
    }
}

#[test]
fn each_action_deals_with_a_record_that_kafka_refuses() {
    for action in [ErrorAction::DeadLetter, ErrorAction::Discard, ErrorAction::Stop] {
        let (broker, kafka) = parts();
        let worker = Running::start(with_action(route(&broker, kafka.bootstrap()), action));
        let mut connection = session(&broker, false);
        connection.publish(message("a", 1, "before"));
        connection.expect_puback(1);
        kafka.answer_produce(&[TOO_LARGE, TOO_LARGE]);
        connection.publish(message("a", 2, "refused"));
        let ledger = |received| {
            let ledger = worker.settled(received);
            (ledger.written, ledger.dead_lettered, ledger.discarded)
        };
        match action {
            ErrorAction::DeadLetter => {
                connection.expect_puback(2);
                assert_eq!(kafka.values("dead"), ["refused"]);
                assert_eq!(ledger(2), (1, 1, 0));
            }
            ErrorAction::Discard => {
                connection.expect_puback(2);
                assert_eq!(kafka.count("dead"), 0);
                assert_eq!(ledger(2), (1, 0, 1));
            }
            ErrorAction::Stop => {
                assert_eq!(connection.expect_disconnect(), 0);
                let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
                assert!(
                    problem.contains("in/a/x") && problem.contains("7 bytes"),
                    "{problem}"
                );
                let ledger = worker.ledger();
                assert_eq!((ledger.written, ledger.in_flight), (1, 1));
                connection.close();
                worker.wait_ended();
                broker.assert_no_connection(QUIET);
                assert_eq!(worker.status().phase, Phase::Stopped);
                continue;
            }
        }
        connection.publish(message("a", 3, "after"));
        connection.expect_puback(3);
        assert_eq!(kafka.values("out.a"), ["before", "after"]);
    }
}

#[test]
fn a_topic_the_client_may_not_write_to_is_no_reason_to_hold_the_others() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    kafka.answer_produce(&[Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    connection.publish(message("a", 1, "refused"));
    connection.expect_puback(1);
    connection.publish(message("b", 2, "taken"));
    connection.expect_puback(2);
    let dead = kafka.records("dead");
    assert_eq!(
        dead[0].header("millrace.error.reason"),
        Some("TopicNotAuthorized")
    );
    assert_eq!(kafka.values("out.b"), ["taken"]);
    assert_eq!(worker.settled(2).dead_lettered, 1);
}

/// A route to topics of which `out.b` does not exist; librdkafka waits only shortly for it to be made.
fn without_topic_b(broker: &ScriptedBroker, kafka: &MockKafka) -> Document {
    kafka.topic_error("out.b", Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let mut document = route(broker, kafka.bootstrap());
    let settings = &mut document.settings.sink.librdkafka;
    settings.insert("topic.metadata.propagation.max.ms".into(), "100".into());
    document
}

#[test]
fn messages_for_a_topic_that_does_not_exist_are_dead_letters() {
    let (broker, kafka) = parts();
    let worker = Running::start(without_topic_b(&broker, &kafka));
    let mut connection = session(&broker, false);
    connection.publish_all([
        message("a", 1, "good"),
        message("b", 2, "no topic"),
        message("a", 3, "good"),
    ]);
    connection.expect_pubacks([1, 2, 3]);
    let dead = kafka.records("dead");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("millrace.error.reason"), Some("TopicMissing"));
    assert_eq!(dead[0].header("millrace.kafka.topic"), Some("out.b"));
    assert_eq!(dead[0].text(), "no topic");
    assert_eq!(kafka.values("out.a"), ["good", "good"]);
    assert_eq!(worker.settled(3).dead_lettered, 1);
}

#[test]
fn a_topic_that_does_not_exist_is_said_with_the_way_out() {
    let (broker, kafka) = parts();
    let document = without_topic_b(&broker, &kafka);
    let mut document = with_action(document, ErrorAction::Discard);
    document.live.on_error.dead_letter_topic = None;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(message("b", 1, "x"));
    connection.expect_puback(1);
    let problem = worker.wait_for_problem(Reason::TopicMissing);
    assert!(
        problem.contains("out.b") && problem.contains("IfMissing"),
        "{problem}"
    );
    // Known by now: refused without asking Kafka.
    kafka.go_away();
    connection.publish(message("b", 2, "x"));
    connection.expect_puback(2);
    assert_eq!(worker.settled(2).discarded, 2);
}

#[test]
fn kafka_away_is_said_and_ends_with_its_return() {
    let (broker, kafka) = parts();
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    worker.wait_for("the route to be ready", |status| status.ready);
    kafka.go_away();
    let problem = worker.wait_for_problem(Reason::KafkaUnreachable);
    assert!(problem.contains("nothing is lost"), "{problem}");
    assert!(worker.status().ready, "an outage does not clear it");
    connection.publish(message("a", 1, "x"));
    kafka.come_back();
    connection.expect_puback(1);
    worker.wait_for("no problem", |status| status.problems.is_empty());
}

#[test]
fn a_partition_that_accepts_nothing_is_named() {
    let (broker, kafka) = parts();
    kafka.hold_topic("out.a");
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "x"));
    // Six statistics, two seconds apart.
    let problem = || worker.problem(Reason::PartitionStalled);
    wait_until(3 * DEADLINE, "the partition to be named", || problem().is_some());
    let problem = problem().unwrap_or_default();
    assert!(
        problem.contains("out.a[0]") && problem.contains("no leader"),
        "{problem}"
    );
    kafka.release_topic("out.a");
    connection.expect_puback(1);
    worker.wait_for("no problem", |status| status.problems.is_empty());
}

/// One record at a time: MockCluster looks at no sequence numbers, so a new leader takes a batch before the old one has
/// refused that before it, from which librdkafka concludes that both were taken.
#[test]
fn a_record_refused_by_a_leader_that_was_goes_to_the_next() {
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::brokers(2));
    kafka.topic("out.a", 2);
    let worker = Running::start(route(&broker, kafka.bootstrap()));
    let mut connection = session(&broker, false);
    let leaders = [(1, 2), (2, 1), (1, 1), (2, 2)];
    for id in 1..=14 {
        let (first, second) = leaders[usize::from(id) % leaders.len()];
        kafka.lead("out.a", 0, Some(first));
        kafka.lead("out.a", 1, Some(second));
        let topic = format!("in/a/{}", id % 7);
        connection.publish(Publish::new(&topic, id.to_string()).qos(1, id));
        connection.expect_puback(id);
    }
    let mut values: Vec<u16> = kafka
        .values("out.a")
        .iter()
        .map(|value| value.parse().unwrap())
        .collect();
    values.sort_unstable();
    assert_eq!(values, (1..=14).collect::<Vec<_>>());
    assert_eq!(worker.settled(14).written, 14);
}

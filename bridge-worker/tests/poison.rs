//! Messages that cannot be delivered: the others do not notice, and a route that is to stop loses nothing.

mod harness;

use std::time::Duration;

use harness::{Code, DEADLINE, Message, MockKafka, Pacer, QUIET, Running, WorkerProcess, message, repeat};
use harness::{route, session};
use millrace_contract::status::{LaneState, Phase, Reason};
use millrace_contract::{Document, ErrorAction, PayloadFormat, Subscription};
use millrace_testkit::wire::Publish;
use millrace_testkit::{Kafka, ScriptedBroker, consume};

/// Every so many messages one is poison.
const EVERY: usize = 1_000;
const PER_SECOND: usize = 10_000;
/// In one slice of a measurement.
const MESSAGES: usize = 5_000;
/// Pairs of slices, one with poison and one without, before the first verdict.
const PAIRS: usize = 7;
/// And before the last: more pairs settle the medians on a machine that is busy with other things.
const MOST_PAIRS: usize = 35;

/// The three kinds by turns: no JSON, larger than the topic takes, for a topic that is not allowed.
fn poison(number: usize) -> Message {
    let large = format!(r#"{{"line": 1, "text": "{}"}}"#, "x".repeat(30_000));
    match number / EVERY % 3 {
        0 => ("in/good/x".into(), b"no JSON".to_vec()),
        1 => ("in/good/x".into(), large.into_bytes()),
        _ => ("in/forbidden/x".into(), br#"{"line": 1}"#.to_vec()),
    }
}

fn slice(first: usize, with_poison: bool) -> Vec<Message> {
    (first..first + MESSAGES)
        .map(|number| match with_poison && number % EVERY == EVERY / 2 {
            true => poison(number),
            false => (
                format!("in/good/{}", number % 20),
                format!(r#"{{"line": {}, "text": "{number:080}"}}"#, number % 9).into_bytes(),
            ),
        })
        .collect()
}

/// The 99th percentile of the messages that are not poison.
fn p99(messages: &[Message], times: &[Duration]) -> Duration {
    let mut others: Vec<Duration> = messages
        .iter()
        .zip(times)
        .filter(|((topic, payload), _)| {
            topic != "in/forbidden/x" && payload.len() < 1_000 && payload[0] == b'{'
        })
        .map(|(_, time)| *time)
        .collect();
    others.sort_unstable();
    others[others.len() * 99 / 100]
}

fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort_unstable();
    durations[durations.len() / 2]
}

#[test]
fn one_poison_message_in_a_thousand_does_not_slow_the_others() {
    let kafka = Kafka::shared();
    kafka.create_topic("good", 6, &[("max.message.bytes", "20000")]);
    kafka.create_topic("dead", 1, &[]);
    let (listener, url) = Pacer::listen();
    let broker = ScriptedBroker::start();
    let mut document = route(&broker, &kafka.bootstrap());
    document.settings.broker.urls = vec![url];
    document.live.source.payload = PayloadFormat::Json;
    document.live.mapping.topic = "{stream}".into();
    document.live.mapping.allowed_topics = vec!["good".into()];
    document.live.mapping.key = "{payload.line}".into();
    document.settings.sink.producer.linger_ms = 5;
    let worker = Running::start(document);
    let mut pacer = Pacer::accept(&listener);
    // Not measured: connections are made, limits are learnt, the JVM warms up.
    pacer.run(PER_SECOND, &slice(0, false));

    let mut sent = MESSAGES;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    loop {
        // Which comes first changes, so that a trend of the machine hits both alike.
        let order = if with.len() % 2 == 0 {
            [false, true]
        } else {
            [true, false]
        };
        for with_poison in order {
            let messages = slice(sent, with_poison);
            sent += MESSAGES;
            let times = pacer.run(PER_SECOND, &messages);
            let result = if with_poison { &mut with } else { &mut without };
            result.push(p99(&messages, &times));
        }
        if with.len() < PAIRS {
            continue;
        }
        let ratio = median(with.clone()).as_secs_f64() / median(without.clone()).as_secs_f64();
        if ratio <= 1.10 {
            println!(
                "{} pairs of slices, p99 with poison {ratio:.3} of that without",
                with.len()
            );
            break;
        }
        assert!(
            with.len() < MOST_PAIRS,
            "p99 of the others is {ratio:.2} of that without poison: {with:?} against {without:?}"
        );
    }

    let poisoned = with.len() * MESSAGES / EVERY;
    let ledger = worker.settled(sent as u64);
    assert_eq!(ledger.dead_lettered, poisoned as u64);
    assert_eq!(ledger.written, (sent - poisoned) as u64);
    assert_eq!(kafka.end_offsets("good"), (sent - poisoned) as u64);
    let letters = consume(&kafka.bootstrap(), "dead", poisoned, DEADLINE);
    let mut reasons: Vec<_> = letters
        .iter()
        .filter_map(|letter| letter.header("millrace.error.reason"))
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons, ["PayloadNotJson", "RecordTooLarge", "TopicNotAllowed"]);
}

/// A route that stops, and one in which the poison is none.
struct Stopping {
    broker: ScriptedBroker,
    kafka: MockKafka,
}

impl Stopping {
    fn start() -> Self {
        Self {
            broker: ScriptedBroker::start(),
            kafka: MockKafka::start(&["out.a", "out.b"]),
        }
    }

    fn document(&self, allowed: &str) -> Document {
        let mut document = route(&self.broker, self.kafka.bootstrap());
        document.live.mapping.allowed_topics = vec![allowed.into()];
        document.live.on_error.action = ErrorAction::Stop;
        document.live.on_error.dead_letter_topic = None;
        document
    }
}

#[test]
fn a_route_that_is_to_stop_names_the_message_and_loses_nothing() {
    let parts = Stopping::start();
    let worker = Running::start(parts.document("out.a"));
    let mut connection = session(&parts.broker, false);
    parts.kafka.hold();
    connection.publish_all([
        message("a", 1, "before"),
        message("b", 2, "poison"),
        message("a", 3, "behind"),
    ]);
    let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
    for part in [
        r#""in/b/x""#,
        "6 bytes",
        "lane 0",
        "out.b",
        "allowedTopics",
        "onError",
    ] {
        assert!(problem.contains(part), "{part} is not in: {problem}");
    }
    assert_eq!(worker.status().phase, Phase::Stopped);
    // What was in flight is confirmed and acknowledged, then the lane leaves and does not come back.
    parts.kafka.release();
    connection.expect_puback(1);
    assert_eq!(connection.expect_disconnect(), 0, "the session is kept");
    connection.close();
    worker.wait_ended();
    parts.broker.assert_no_connection(QUIET);
    assert_eq!(worker.status().phase, Phase::Stopped);
    assert_eq!(worker.wait_for_problem(Reason::MessageUndeliverable), problem);
    drop(worker);

    let corrected = Running::start(parts.document("out.*"));
    let mut connection = session(&parts.broker, true);
    connection.publish_all([repeat("b", 2, "poison"), repeat("a", 3, "behind")]);
    connection.expect_pubacks([2, 3]);
    assert_eq!(parts.kafka.values("out.a"), ["before", "behind"]);
    assert_eq!(parts.kafka.values("out.b"), ["poison"]);
    assert_eq!(corrected.status().problems, []);
}

#[test]
fn a_record_too_large_for_the_topic_stops_the_route_behind_what_could_be_written() {
    let parts = Stopping::start();
    let worker = Running::start(parts.document("out.*"));
    let mut connection = session(&parts.broker, false);
    parts.kafka.go_away();
    connection.publish_all((1..=4).map(|id| message("a", id, &id.to_string())));
    worker.wait_received(4);
    let (too_large, taken) = (
        Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
        Code::RD_KAFKA_RESP_ERR_NO_ERROR,
    );
    // The batch, then the third of its records.
    parts.kafka.answer_produce(&[too_large, taken, taken, too_large]);
    parts.kafka.come_back();
    connection.expect_pubacks([1, 2]);
    assert_eq!(connection.expect_disconnect(), 0);
    let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
    assert!(problem.contains("lane 0"), "{problem}");
    // The fourth has been written, but its ack may not overtake that of the third: it comes again.
    worker.wait_written(3);
    assert_eq!(worker.ledger().in_flight, 1);
}

#[test]
fn a_message_that_cannot_be_mapped_stops_the_route() {
    let parts = Stopping::start();
    let mut document = parts.document("out.a");
    document.live.source.payload = PayloadFormat::Json;
    document.live.mapping.key = "{payload.line}".into();
    let worker = Running::start(document);
    let mut connection = session(&parts.broker, false);
    connection.publish_all([message("a", 1, r#"{"line": 1}"#), message("a", 2, "no JSON")]);
    connection.expect_puback(1);
    assert_eq!(connection.expect_disconnect(), 0);
    let problem = worker.wait_for_problem(Reason::MessageUndeliverable);
    assert!(problem.contains("JSON"), "{problem}");
    assert_eq!(worker.snapshot().errors["PayloadNotJson"], 1);
}

#[test]
fn all_lanes_of_a_stopped_route_confirm_what_they_have_and_leave() {
    let parts = Stopping::start();
    let mut document = parts.document("out.a");
    document.live.lanes.count = 2;
    document.live.source.subscriptions = ["in/+stream/one", "in/+stream/two"]
        .map(|filter| Subscription {
            filter: filter.into(),
        })
        .into();
    let worker = Running::start(document);
    let mut lanes: Vec<_> = (0..2)
        .map(|_| {
            let mut connection = parts.broker.accept();
            let (connect, _) = connection.accept_session(false);
            (connect.client_id, connection)
        })
        .collect();
    lanes.sort_by(|a, b| a.0.cmp(&b.0));
    // Each filter has its lane, by its name.
    let (mut one, mut two) = (lanes.remove(1).1, lanes.remove(0).1);
    parts.kafka.hold();
    two.publish(Publish::new("in/a/two", "in flight").qos(1, 1));
    worker.wait_received(1);
    one.publish(Publish::new("in/b/one", "poison").qos(1, 1));
    worker.wait_for_problem(Reason::MessageUndeliverable);
    assert_eq!(one.expect_disconnect(), 0, "nothing of it is in flight");
    parts.kafka.release();
    two.expect_puback(1);
    assert_eq!(two.expect_disconnect(), 0);
    drop((one, two));
    worker.wait_ended();
    parts.broker.assert_no_connection(QUIET);
    let lanes = worker.status().lanes;
    assert!(
        lanes.iter().all(|lane| lane.state == LaneState::Down),
        "{lanes:?}"
    );
}

#[test]
fn a_stopped_process_stays_says_why_in_its_log_and_ends_on_sigterm() {
    let parts = Stopping::start();
    let mut worker = WorkerProcess::start(&parts.document("out.a"));
    let mut connection = session(&parts.broker, false);
    connection.publish(message("b", 1, "poison"));
    assert_eq!(connection.expect_disconnect(), 0);
    connection.close();
    worker.wait_for("the route to be stopped", |status| {
        status.phase == Phase::Stopped && status.lanes[0].state == LaneState::Down
    });
    let log = worker.process.stderr();
    let line = log
        .lines()
        .find(|line| line.contains("stopped at message"))
        .unwrap_or_else(|| panic!("not in the log:\n{log}"));
    for part in ["in/b/x", "default/test", "TopicNotAllowed"] {
        assert!(line.contains(part), "{part} is not in: {line}");
    }
    assert_eq!(
        log.matches("stopped at message").count(),
        1,
        "a line per event, not per message:\n{log}"
    );
    worker.process.terminate();
    worker.process.wait(DEADLINE);
}

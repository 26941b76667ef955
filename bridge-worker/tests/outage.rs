//! Kafka is away for a minute while 10,000 messages a second keep coming: 700,000 in all. Everything arrives, soon
//! after Kafka's return messages flow at their normal rate, memory stays in bounds, and the broker notices nothing:
//! the MQTT connection is kept.

mod support;

use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, check, wait_until};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use support::{Log, Route, SOON, Worker, last};

const MESSAGES: u64 = 700_000;
const RATE: f64 = 10_000.0;
const AWAY: Duration = Duration::from_secs(60);
/// From the moment Kafka answers again until everything that has waited is written.
const NORMAL_WITHIN: Duration = Duration::from_secs(15);

/// One at a time: each takes the machine.
static ONE: Mutex<()> = Mutex::new(());

/// It hangs for half a minute, with requests under way and connections open, then it is killed, refuses connections
/// for the other half, and starts anew: the worst of both.
#[test]
fn a_minute_without_kafka_loses_nothing() {
    outage(|kafka| {
        kafka.pause();
        last(AWAY / 2);
        kafka.kill();
        last(AWAY / 2);
        kafka.start();
    });
}

/// `make campaign`: it hangs for the whole minute and goes on where it was.
#[test]
#[ignore = "a longer form, run by make campaign"]
fn a_minute_of_a_hanging_kafka_loses_nothing() {
    outage(|kafka| {
        kafka.pause();
        last(AWAY);
        kafka.resume();
    });
}

/// `make campaign`: nothing passes between the worker and Kafka.
#[test]
#[ignore = "a longer form, run by make campaign"]
fn a_minute_without_network_to_kafka_loses_nothing() {
    outage(|kafka| {
        kafka.proxy().half_open();
        last(AWAY / 2);
        kafka.proxy().cut();
        last(AWAY / 2);
        kafka.proxy().pass();
    });
}

fn outage(fault: impl Fn(&mut Kafka)) {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Log::start();
    let mosquitto = Mosquitto::builder().start();
    let mut kafka = Kafka::builder().with_proxy().start();
    kafka.create_topic("outage", 6, &[]);
    let route = Route {
        keep_alive_seconds: 10,
        ..Route::new(
            "outage",
            mosquitto.port(),
            &kafka.bootstrap_through_proxy(),
            "outage",
        )
    };
    let mut worker = Worker::new(&route.document());
    worker.start_and_wait();
    let observer = Observer::start(&kafka.bootstrap(), &["outage"]);
    let publisher = Publisher::builder(mosquitto.port())
        .messages(MESSAGES)
        .rate(RATE)
        .window(1_000)
        .topic_of(Route::topic_of("outage"))
        .start();
    observer.wait_for(2 * RATE as u64, SOON);

    let sent = publisher.sent();
    fault(&mut kafka);
    let (returned, waiting_in_worker) = (Instant::now(), worker.window());
    let waiting = publisher.acknowledged() - observer.distinct();
    log.say(&format!(
        "Kafka is back, {waiting} messages wait, {waiting_in_worker} of them in the worker: {} MiB",
        worker.peak_memory() >> 20,
    ));
    assert!(waiting_in_worker > 0);
    assert!(
        publisher.sent() - sent >= (AWAY.as_secs_f64() * RATE * 0.9) as u64,
        "the publisher must not notice the outage"
    );
    // Normal is: no backlog, only what has come within the last second may still be on its way.
    wait_until(NORMAL_WITHIN, "messages to flow normally", || {
        observer.distinct() + RATE as u64 >= publisher.acknowledged()
    });
    log.say(&format!("normal flow after {:?}", returned.elapsed()));

    let report = publisher.finish(SOON);
    observer.wait_for(report.acknowledged(), SOON);
    let ledger = worker.settled();
    let status = worker.status();
    let connections: Vec<_> = status.lanes.iter().map(|lane| lane.connections).collect();
    assert_eq!(
        connections,
        [1],
        "the MQTT connection was lost: {:?}",
        status.lanes
    );
    wait_until(SOON, "all to be well again", || worker.problems().is_empty());
    worker.assert_memory_in_bounds();
    worker.terminate();
    let verdict = check(&report, &observer.finish());
    log.say(&format!(
        "the worker took at most {} MiB\n{ledger:?}\n{verdict}",
        worker.peak_memory() >> 20
    ));
    assert_eq!((verdict.sent, verdict.acknowledged), (MESSAGES, MESSAGES));
    verdict.assert_nothing_lost();
    // Also by a producer that had to look for the cluster anew: see docs/guarantees.md.
    verdict.assert_duplicates_at_most(0);
    assert_eq!(ledger.written, verdict.arrived + verdict.duplicates, "{ledger:?}");
}

//! 300,000 messages are queued at the broker while the worker is away: it catches up at 35,000 a second or more, and
//! its memory stays in bounds.
//!
//! The rate is the machine's: worker, mosquitto, Kafka and observer share its cores, and mosquitto alone takes most of
//! one. The bound holds on two cores that do nothing else.

mod support;

use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, check, now_micros};
use std::time::Duration;
use support::{Log, Route, SOON, Worker};

const MESSAGES: u64 = 300_000;
const LEAST_RATE: f64 = 35_000.0;

#[test]
fn a_backlog_is_caught_up() {
    let log = Log::start();
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::builder().start();
    kafka.create_topic("backlog", 6, &[]);
    let route = Route::new("backlog", mosquitto.port(), &kafka.bootstrap(), "backlog");
    let mut worker = Worker::new(&route.document());
    // Subscribes, and leaves its session behind.
    worker.start_and_wait();
    assert_eq!(worker.terminate().received, 0);
    let report = Publisher::builder(mosquitto.port())
        .connections(2)
        .messages(MESSAGES)
        .topic_of(Route::topic_of("backlog"))
        .start()
        .finish(Duration::from_secs(120));
    assert_eq!(report.acknowledged(), MESSAGES);
    assert_eq!(kafka.end_offsets("backlog"), 0);
    log.say("the backlog is there");

    let observer = Observer::start(&kafka.bootstrap(), &["backlog"]);
    let started = now_micros();
    worker.start();
    observer.wait_for(MESSAGES, SOON);
    let end = observer.last_at().expect("a last record");
    let rate = MESSAGES as f64 / ((end - started) as f64 / 1e6);
    log.say(&format!(
        "{rate:.0} messages/s, from the start of the process to the last record"
    ));
    let ledger = worker.settled();
    worker.assert_memory_in_bounds();
    let verdict = check(&report, &observer.finish());
    log.say(&format!(
        "the worker took at most {} MiB\n{ledger:?}\n{verdict}",
        worker.peak_memory() >> 20
    ));
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(0);
    assert_eq!(ledger.written, verdict.arrived + verdict.duplicates, "{ledger:?}");
    assert!(rate >= LEAST_RATE, "{rate:.0} messages/s");
}

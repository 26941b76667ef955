//! The negative control of the fault campaign: with a bridge that acknowledges before Kafka has confirmed, the same
//! faults lose messages, and the checker sees it. The twin of each run differs in nothing but the acknowledgements.

use crate::support::{Acks, Log, Route, SOON, Tap, Worker, last};
use millrace_testkit::{Kafka, Mosquitto, Observer, Proxy, Publisher, Verdict, check, wait_until};
use std::time::Duration;

#[test]
fn an_early_ack_loses_messages_and_the_checker_sees_it() {
    let early = run(Acks::Early);
    assert!(
        early.missing.count > 0,
        "messages acknowledged too early and yet not lost:\n{early}"
    );
    assert_eq!(
        early.spurious.count + early.corrupted + early.foreign,
        0,
        "{early}"
    );
    run(Acks::OfTheWorker).assert_nothing_lost();
}

/// Kafka hangs and the worker is killed, then Kafka is cut off and the worker is killed.
fn run(acks: Acks) -> Verdict {
    let log = Log::start();
    let mosquitto = Mosquitto::builder().start();
    let mut kafka = Kafka::builder().with_proxy().start();
    kafka.create_topic("control", 6, &[]);
    let tap = Tap::to(mosquitto.address(), acks);
    let network = Proxy::to(tap.address());
    let route = Route::new(
        "control",
        network.port(),
        &kafka.bootstrap_through_proxy(),
        "control",
    );
    let mut worker = Worker::new(&route.document());
    worker.start_and_wait();
    let observer = Observer::start(&kafka.bootstrap(), &["control"]);
    let publisher = Publisher::builder(mosquitto.port())
        .rate(3_000.0)
        .topic_of(Route::topic_of("control"))
        .start();
    observer.wait_for(1_000, SOON);

    kafka.pause();
    last(Duration::from_secs(2));
    kill(&mut worker);
    kafka.resume();
    flow(&observer);

    kafka.proxy().cut();
    last(Duration::from_secs(2));
    kill(&mut worker);
    kafka.proxy().pass();
    flow(&observer);

    let report = publisher.finish(SOON);
    worker.settled();
    wait_until(SOON, "the observer to have read all", || {
        observer.count() == kafka.end_offsets("control")
    });
    let verdict = check(&report, &observer.finish());
    log.say(&format!("{acks:?}\n{verdict}"));
    verdict
}

/// Kills the worker with at least a second's messages in its hands, and starts it again.
fn kill(worker: &mut Worker) {
    wait_until(SOON, "a second's messages", || worker.window() > 3_000);
    worker.kill();
    worker.start_and_wait();
}

fn flow(observer: &Observer) {
    observer.wait_for(observer.distinct() + 3_000, SOON);
}

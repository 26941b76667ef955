//! A worker that ends in order (SIGTERM) and starts again under load writes nothing twice and loses nothing, with
//! QoS 1 and QoS 2. What a rollout does, again and again.

use crate::support::{Log, Route, SOON, Worker};
use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, check, wait_until};

const RESTARTS: u64 = 5;
const RATE: f64 = 3_000.0;

#[test]
fn a_worker_that_ends_in_order_writes_nothing_twice() {
    for qos in [1, 2] {
        restart_under_load(qos);
    }
}

fn restart_under_load(qos: u8) {
    let log = Log::start();
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("restarts", 6);
    let route = Route {
        qos,
        lanes: 2,
        linger_ms: 20,
        ..Route::new("restarts", mosquitto.port(), &kafka.bootstrap(), &topic)
    };
    let mut worker = Worker::new(&route.document());
    worker.start_and_wait();
    let observer = Observer::start(&kafka.bootstrap(), &[&topic]);
    let publisher = Publisher::builder(mosquitto.port())
        .qos(qos)
        .connections(2)
        .rate(RATE)
        .topic_of(Route::topic_of("restarts"))
        .start();
    let mut written = 0;
    for _ in 0..RESTARTS {
        observer.wait_for(publisher.acknowledged() + RATE as u64, SOON);
        wait_until(SOON, "messages on their way", || worker.window() > 0);
        let window = worker.window();
        let ledger = worker.terminate();
        written += ledger.written;
        log.say(&format!("ended with {window} unacknowledged before: {ledger:?}"));
        worker.start();
    }
    worker.wait_up();
    let report = publisher.finish(SOON);
    observer.wait_for(report.acknowledged(), SOON);
    worker.settled();
    written += worker.terminate().written;
    let verdict = check(&report, &observer.finish());
    log.say(&format!("QoS {qos}\n{verdict}"));
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(0);
    assert_eq!(written, verdict.arrived + verdict.duplicates, "{verdict}");
}

//! The negative control of the fault campaign of the other direction: where a worker is told early that the broker has a
//! message, it commits early, and the audit sees it; what the network swallows then is lost, and the checker sees that.
//! The twin of the run differs in nothing but the confirmations.

use crate::support::{
    Audit, Confirmations, DEVICES, Findings, Log, PARTITIONS, Route, SOON, Witness, Worker, last, place_of,
};
use millrace_testkit::{Kafka, Mosquitto, Proxy, Subscriber, Verdict, Writer, check, wait_until};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_early_commit_is_seen_and_loses_messages() {
    let (verdict, findings) = run(Confirmations::Early);
    assert!(findings.ahead > 0, "committed early, and not seen: {findings:?}");
    assert!(
        verdict.missing.count > 0,
        "confirmed early and yet not lost:\n{verdict}"
    );
    assert_eq!(
        verdict.spurious.count + verdict.corrupted + verdict.foreign,
        0,
        "{verdict}"
    );
    let (verdict, findings) = run(Confirmations::OfTheBroker);
    assert_eq!(findings.ahead, 0, "{findings:?}");
    verdict.assert_nothing_lost();
}

/// The network between the worker's end and the broker swallows everything for a while, and is cut.
fn run(confirmations: Confirmations) -> (Verdict, Findings) {
    let log = Log::start();
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("control", PARTITIONS as i32);
    let devices = Subscriber::start(mosquitto.port(), DEVICES, 1, |device| format!("{topic}/{device}"));
    let network = Proxy::to(mosquitto.address());
    let witness = Arc::new(Witness::to(network.address(), confirmations, place_of));
    let route = Route::new(&topic, witness.address().port(), &kafka.bootstrap(), &topic);
    let mut worker = Worker::new(&route.delivery());
    worker.start();
    worker.wait_ready();
    let audit = Audit::start(kafka.bootstrap(), route.group(), topic.clone(), witness.clone());
    let writer = Writer::start(&kafka.bootstrap(), &topic, PARTITIONS, DEVICES, 2_000.0);
    devices.wait_for(1_000, SOON);

    network.half_open();
    last(Duration::from_secs(2));
    network.cut();
    network.pass();
    let published = witness.open();
    let report = writer.finish(SOON);
    let committed = || millrace_testkit::committed(&kafka.bootstrap(), &route.group(), &topic);
    wait_until(SOON, "all offsets to be committed", || {
        committed().is_some_and(|offsets| offsets.values().sum::<i64>() as u64 == report.sent())
    });
    wait_until(SOON, "the last confirmations of the broker", || {
        confirmations == Confirmations::Early || devices.distinct() == report.sent()
    });
    worker.terminate();
    let verdict = check(&report, &devices.finish());
    let findings = audit.finish();
    log.say(&format!(
        "{confirmations:?}: {published} open at the cut, {findings:?}\n{verdict}"
    ));
    (verdict, findings)
}

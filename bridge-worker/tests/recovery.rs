//! Where mosquitto itself forgets, messages still flow again within five seconds of its return.
//!
//! mosquitto 2.0.11 loses what it has taken since its last save (every 1,800 s by default) when it is killed, and
//! forgets every shared subscription over any restart, session or not. No bridge can bring those messages back; what
//! it can do is subscribe again at once.

mod support;

use millrace_contract::Ordering;
use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, check, now_micros, wait_until};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use support::{Log, Route, SOON, Worker};

/// From the moment mosquitto takes connections again.
const RESUMED_WITHIN: Duration = Duration::from_secs(5);

/// One at a time: each measures time.
static ONE: Mutex<()> = Mutex::new(());

#[test]
fn flow_resumes_after_mosquitto_was_killed() {
    recover("killed", Ordering::PerTopic, |mosquitto| {
        mosquitto.kill();
        mosquitto.start();
    });
}

#[test]
fn flow_resumes_when_mosquitto_has_forgotten_shared_subscriptions() {
    recover("shared", Ordering::Unordered, Mosquitto::restart);
}

#[test]
fn flow_resumes_after_mosquitto_was_killed_with_shared_subscriptions() {
    recover("both", Ordering::Unordered, |mosquitto| {
        mosquitto.kill();
        mosquitto.start();
    });
}

/// Breaks mosquitto under load and measures the pause. Everything sent from the recovery on arrives.
fn recover(name: &str, ordering: Ordering, fault: impl Fn(&mut Mosquitto)) {
    const KEYS: u32 = 100;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let log = Log::start();
    let mut mosquitto = Mosquitto::builder().persistence(true).start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic(name, 6);
    let route = Route {
        ordering,
        lanes: 2,
        ..Route::new(name, mosquitto.port(), &kafka.bootstrap(), &topic)
    };
    let mut worker = Worker::new(&route.document());
    worker.start_and_wait();
    let observer = Observer::start(&kafka.bootstrap(), &[&topic]);
    let publisher = Publisher::builder(mosquitto.port())
        .connections(2)
        .keys(KEYS)
        .rate(3_000.0)
        .topic_of(Route::topic_of(name))
        .start();
    observer.wait_for(6_000, SOON);

    fault(&mut mosquitto);
    let returned = now_micros();
    let mut first = None;
    wait_until(SOON, "a message sent after the return", || {
        let records = observer.snapshot();
        first = records
            .seen()
            .iter()
            .find(|seen| seen.sent_at > returned)
            .copied();
        first.is_some()
    });
    let pause = Duration::from_micros(first.expect("a record").seen_at - returned);
    assert!(pause <= RESUMED_WITHIN, "flow resumed only after {pause:?}");
    worker.wait_up();
    // Messages go round the keys: what is sent from here on has at least this sequence.
    let recovered = u32::try_from(publisher.sent()).expect("few messages") / KEYS + 2;

    publisher.wait_acknowledged(publisher.acknowledged() + 6_000, SOON);
    let report = publisher.finish(SOON);
    worker.settled();
    let written = worker.terminate().written;
    wait_until(SOON, "the observer to have read all", || {
        observer.count() == kafka.end_offsets(&topic)
    });
    let records = observer.finish();
    let verdict = check(&report, &records);
    log.say(&format!("{name}: flow resumed after {pause:?}\n{verdict}"));
    assert_eq!(written, verdict.arrived + verdict.duplicates, "{verdict}");
    let lost = report.acknowledged_ids().filter(|&id| !records.contains(id));
    for id in lost {
        assert!(id.sequence < recovered, "sent after the recovery, and lost: {id}");
    }
    assert_eq!(
        verdict.spurious.count + verdict.corrupted + verdict.foreign,
        0,
        "{verdict}"
    );
}

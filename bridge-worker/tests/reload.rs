//! A configuration that changes again and again under traffic of a real broker loses nothing and writes nothing twice.

mod harness;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{DEADLINE, WorkerProcess, route};
use millrace_contract::status::LaneState;
use millrace_contract::{Document, ErrorAction, Live, OnError, Subscription};
use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, ScriptedBroker, check, consume, wait_until};

/// Reloads under traffic.
const RELOADS: u32 = 20;
/// Messages a second.
const RATE: f64 = 2_000.0;
/// Messages for each of the filters that come and go.
const VISITORS: u64 = 25;
/// How soon a changed file has to be in effect.
const EFFECTIVE: Duration = Duration::from_secs(2);

/// As the route was, with one filter of its own and another header.
fn changed(live: &Live, round: u32) -> Live {
    let mut live = live.clone();
    live.source.subscriptions.push(Subscription {
        filter: format!("visitor{round}/+to/+key"),
    });
    live.mapping.headers = [("round".to_owned(), round.to_string())].into();
    live
}

#[test]
fn twenty_reloads_under_traffic_lose_nothing_and_write_nothing_twice() {
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let (steady, visitors) = (kafka.unique_topic("steady", 6), kafka.unique_topic("visitors", 1));
    let mut document: Document = route(&ScriptedBroker::start(), &kafka.bootstrap());
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    document.live.lanes.count = 2;
    document.live.source.subscriptions = vec![Subscription {
        filter: "steady/+to/+key".into(),
    }];
    document.live.on_error = OnError {
        action: ErrorAction::Stop,
        dead_letter_topic: None,
        skip: Vec::new(),
    };
    document.live.mapping.topic = "{to}".into();
    document.live.mapping.allowed_topics = vec![steady.clone(), visitors.clone()];
    let mut worker = WorkerProcess::operated(&document, 0);
    worker.own(1, &[0, 1]);
    let is_up = |state| matches!(state, LaneState::Up | LaneState::Idle);
    worker.wait_for("the lanes to be up", |status| {
        status.lanes.len() == 2 && status.lanes.iter().all(|lane| is_up(lane.state))
    });
    let observer = Observer::start(&kafka.bootstrap(), &[&steady]);
    let to = steady.clone();
    let publisher = Publisher::builder(mosquitto.port())
        .rate(RATE)
        .topic_of(move |key| format!("steady/{to}/{key}"))
        .start();
    observer.wait_for(RATE as u64, DEADLINE);

    let mut slowest = Duration::ZERO;
    for round in 1..=RELOADS {
        let started = Instant::now();
        let hash = worker.reload(&changed(&document.live, round));
        worker.wait_for("the changed configuration", |status| status.live == hash);
        slowest = slowest.max(started.elapsed());
        // Sent while the filter is there; the next round takes it away at once.
        let to = visitors.clone();
        let visit = Publisher::builder(mosquitto.port())
            .messages(VISITORS)
            .topic_of(move |key| format!("visitor{round}/{to}/{key}"))
            .start();
        assert_eq!(visit.finish(DEADLINE).acknowledged(), VISITORS);
    }
    assert!(slowest < EFFECTIVE, "{slowest:?}");
    let hash = worker.reload(&document.live);
    worker.wait_for("the first configuration", |status| status.live == hash);

    let report = publisher.finish(DEADLINE);
    let all = u64::from(RELOADS) * VISITORS;
    wait_until(DEADLINE, "the visitors", || kafka.end_offsets(&visitors) >= all);
    observer.wait_for(report.acknowledged(), DEADLINE);
    worker.wait_for("nothing to be in flight", |status| status.ledger.in_flight == 0);
    let status = worker.status();
    assert_eq!((status.ledger.balance(), &status.problems[..]), (0, &[][..]));
    assert!(
        status
            .lanes
            .iter()
            .any(|lane| lane.state == LaneState::Up && lane.connections == 1),
        "a reload needs no new connection: {:?}",
        status.lanes
    );
    let verdict = check(&report, &observer.finish());
    println!("slowest of {RELOADS} reloads {slowest:?}\n{verdict}");
    verdict.assert_nothing_lost();
    verdict.assert_duplicates_at_most(0);
    assert_eq!(kafka.end_offsets(&visitors), all, "twice");
    let records = consume(&kafka.bootstrap(), &visitors, all as usize, DEADLINE);
    let distinct: BTreeSet<&[u8]> = records
        .iter()
        .map(|record| record.value.as_deref().unwrap_or_default())
        .collect();
    assert_eq!(distinct.len() as u64, all);
    worker.process.terminate();
    assert!(worker.process.wait(DEADLINE).success());
}

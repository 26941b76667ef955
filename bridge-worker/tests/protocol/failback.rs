//! Several urls of one cluster: connections go to the first that works, and come back to an earlier one when that works
//! again.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::harness::{DEADLINE, MockKafka, WorkerProcess, Written, commands, route};
use millrace_contract::status::{LaneState, RouteStatus};
use millrace_contract::{Document, Ordering, Settings};
use millrace_testkit::{Mosquitto, Proxy, Publisher, ScriptedBroker, wait_until};

const LANES: u16 = 4;
/// How often it is looked whether an earlier url works again.
const PACE: Duration = Duration::from_millis(400);

/// Two ways to one mosquitto, as to a cluster that shares its sessions.
struct Site {
    mosquitto: Mosquitto,
    kafka: MockKafka,
    first: Proxy,
    second: Proxy,
}

impl Site {
    fn new() -> Self {
        let mosquitto = Mosquitto::builder().start();
        Self {
            first: Proxy::to(mosquitto.address()),
            second: Proxy::to(mosquitto.address()),
            kafka: MockKafka::start(&["out.a", "commands"]),
            mosquitto,
        }
    }

    /// Their connections there.
    fn open(&self) -> (u64, u64) {
        (self.first.counts().open, self.second.counts().open)
    }

    fn document(&self) -> Document {
        let mut document = route(&ScriptedBroker::start(), self.kafka.bootstrap());
        set_urls(&mut document.settings, &[&self.first, &self.second]);
        document.live.lanes.count = LANES;
        document.live.lanes.ordering = Ordering::Unordered;
        document
    }

    fn publisher(&self) -> Publisher {
        Publisher::builder(self.mosquitto.port())
            .rate(1_000.0)
            .topic_of(|key| format!("in/a/{key}"))
            .start()
    }
}

fn set_urls(settings: &mut Settings, proxies: &[&Proxy]) {
    let url = |proxy: &&Proxy| format!("mqtt://{}", proxy.address());
    settings.broker.urls = proxies.iter().map(url).collect();
    settings.broker.failback_ms = u64::try_from(PACE.as_millis()).expect("a number");
}

/// Whether all lanes are up there.
fn are_at(status: &RouteStatus, proxy: &Proxy) -> bool {
    let address = proxy.address().to_string();
    status.lanes.len() == usize::from(LANES)
        && status
            .lanes
            .iter()
            .all(|lane| lane.state == LaneState::Up && lane.address.as_ref() == Some(&address))
}

fn connections(worker: &WorkerProcess) -> Vec<u64> {
    let lanes = worker.status().lanes;
    lanes.iter().map(|lane| lane.connections).collect()
}

#[test]
fn lanes_go_to_the_next_url_and_come_back_one_by_one_while_messages_flow() {
    let site = Site::new();
    let worker = WorkerProcess::start(&site.document());
    worker.wait_for("the lanes at the first", |status| are_at(status, &site.first));
    site.first.cut();
    worker.wait_for("the lanes at the second", |status| are_at(status, &site.second));
    assert_eq!(site.open(), (0, u64::from(LANES)));

    let publisher = site.publisher();
    worker.wait_for("messages by the second", |status| status.ledger.written >= 500);
    let reset = site.second.counts().reset;
    site.first.pass();
    let mut fewest = usize::from(LANES);
    wait_until(DEADLINE, "the lanes at the first again", || {
        let status = worker.status();
        let up = status.lanes.iter().filter(|lane| lane.state == LaneState::Up);
        fewest = fewest.min(up.count());
        are_at(&status, &site.first)
    });
    assert!(fewest >= usize::from(LANES) - 1, "one by one: {fewest} were up");
    let written = worker.status().ledger.written;
    worker.wait_for("messages by the first", |status| {
        status.ledger.written >= written + 500
    });
    publisher.stop();
    let report = publisher.finish(DEADLINE);
    worker.wait_for("all of them", |status| {
        status.ledger.written + status.ledger.repeats >= report.acknowledged() && status.ledger.in_flight == 0
    });
    assert_eq!(connections(&worker), [3; LANES as usize]);
    assert_eq!(site.second.counts().reset, reset, "each lane has said goodbye");
    assert!(worker.status().lanes.iter().all(|lane| lane.session_present));

    let records = site.kafka.records("out.a");
    let values: BTreeSet<&[u8]> = records
        .iter()
        .filter_map(|record| record.value.as_deref())
        .collect();
    assert_eq!(values.len() as u64, report.acknowledged(), "nothing is lost");
    assert_eq!(records.len(), values.len(), "nothing comes twice");
}

#[test]
fn a_first_url_that_does_not_answer_does_not_pull_lanes_away() {
    let site = Site::new();
    let silent = ScriptedBroker::start();
    let first = Proxy::to(silent.address());
    stays_at_the_second(&site, &first);
}

#[test]
fn a_first_url_that_refuses_the_login_does_not_pull_lanes_away() {
    let site = Site::new();
    let strict = Mosquitto::builder().user("plant", "other").start();
    let first = Proxy::to(strict.address());
    let worker = stays_at_the_second(&site, &first);
    // Nor does it keep them away from the second.
    site.second.reset();
    worker.wait_for("the lanes to be back", |status| {
        are_at(status, &site.second) && status.lanes.iter().all(|lane| lane.connections == 2)
    });
}

/// Lanes are at the second url and stay there, while the first takes connections and is of no use otherwise.
fn stays_at_the_second(site: &Site, first: &Proxy) -> WorkerProcess {
    first.cut();
    let mut document = site.document();
    set_urls(&mut document.settings, &[first, &site.second]);
    let worker = WorkerProcess::start(&document);
    worker.wait_for("the lanes at the second", |status| are_at(status, &site.second));
    let tried = first.counts().connections;
    first.pass();
    // With the second attempt the first has failed, which takes ten seconds where nothing answers.
    wait_until(3 * DEADLINE, "it to be tried twice", || {
        first.counts().connections >= tried + 2
    });
    assert!(are_at(&worker.status(), &site.second));
    assert_eq!(connections(&worker), [1; LANES as usize]);
    worker
}

#[test]
fn the_connection_of_a_route_from_kafka_comes_back_and_nothing_is_published_twice() {
    let site = Site::new();
    let document = commands(site.document());
    let worker = WorkerProcess::start(&document);
    let is_at = |status: &RouteStatus, proxy: &Proxy| {
        let connection = status.delivery.as_ref().map(|delivery| &delivery.connection);
        connection.is_some_and(|connection| connection.address == Some(proxy.address().to_string()))
    };
    worker.wait_for("the first", |status| is_at(status, &site.first));
    site.first.cut();
    worker.wait_for("the second", |status| is_at(status, &site.second));
    let write = || {
        let records = [Written {
            key: Some("a"),
            value: Some("x"),
            ..Written::default()
        }; 100];
        site.kafka.write("commands", 0, &records);
    };
    write();
    worker.wait_for("messages by the second", |status| status.ledger.written == 100);
    let begun = Instant::now();
    site.first.pass();
    worker.wait_for("the first again", |status| is_at(status, &site.first));
    println!("back after {:.1?}", begun.elapsed());
    write();
    worker.wait_for("messages by the first", |status| status.ledger.written == 200);
    assert_eq!(worker.status().ledger.received, 200);
}

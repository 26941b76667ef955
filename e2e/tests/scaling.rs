//! `kubectl scale` on a route under load, up and down again and again, at brokers that keep a queue for each session or for
//! a share group: lanes move from worker to worker, and nothing is lost, stranded or out of order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use millrace_contract::{LaneRecord, Ownership};
use millrace_e2e::{
    Brokers, Manifests, Mqtt, Namespace, OperatorAway, Plant, RouteHandle, SOON, end_session, has_session,
    pauses,
};
use millrace_testkit::{Records, Verdict, now_micros, wait_until};

const LANES: u16 = 8;
/// Workers, in one cycle after another.
const SIZES: [usize; 3] = [8, 3, 1];
/// Messages per second of the load.
const RATE: f64 = 3_000.0;
/// And of a route beside it that is not scaled.
const WITNESS_RATE: f64 = 100.0;
/// A lane that is read receives something in so many milliseconds.
const PAUSE: i64 = 300;
/// No lane is without a reader for more milliseconds.
const LONGEST: i64 = 5_000;

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_lose_nothing() {
    scale(Mqtt::Mosquitto, "PerTopic", 3);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_twenty_times_lose_nothing() {
    scale(Mqtt::Mosquitto, "PerTopic", 20);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_lose_nothing_at_hivemq() {
    scale(Mqtt::HiveMq, "PerTopic", 3);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_twenty_times_lose_nothing_at_hivemq() {
    scale(Mqtt::HiveMq, "PerTopic", 20);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_of_a_share_group_that_come_and_go_twenty_times_lose_nothing_at_hivemq() {
    scale(Mqtt::HiveMq, "Unordered", 20);
}

/// The negative control: what a bridge does that knows no handing over loses messages, and the checker sees it. The twin
/// differs in nothing but that lanes are handed over.
#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_worker_that_goes_with_its_sessions_loses_messages_and_the_checker_sees_it() {
    let naive = one_worker_less(true);
    eprintln!(
        "gone with its sessions: {} of {} messages are missing",
        naive.missing.count, naive.sent
    );
    assert!(naive.missing.count > 0, "{naive}");
    let others = naive.spurious.count + naive.corrupted + naive.foreign;
    assert_eq!(others, 0, "{naive}");
    one_worker_less(false).assert_nothing_lost();
}

/// One of two workers goes from a share group at mosquitto, under load. The naive way its pod is deleted, and then its
/// sessions are ended, as the broker does by itself where sessions do not outlive connections.
fn one_worker_less(naive: bool) -> Verdict {
    let plant = Plant::start("fewer", |manifests| manifests.ordering = "Unordered");
    let sessions = || -> BTreeSet<String> {
        let lanes = plant.statuses().into_iter().flat_map(|status| status.lanes);
        lanes.map(|lane| lane.client_id).collect()
    };
    let before = sessions();
    let away = naive.then(OperatorAway::start);
    if naive {
        let set = ["scale", "statefulset/fewer-worker", "--replicas=1"];
        plant.namespace().kubectl(&set);
        let pod = ["delete", "pod", "fewer-worker-1", "--ignore-not-found"];
        let at_once = ["--force", "--grace-period=0"];
        plant.namespace().kubectl(&[&pod[..], &at_once].concat());
    } else {
        plant.route().scale(1);
    }
    wait_until(SOON, "one worker", || plant.statuses().len() == 1);
    plant.wait_acknowledged();
    if naive {
        for session in before.difference(&sessions()) {
            end_session(plant.brokers().mqtt(), session);
        }
    }
    drop(away);
    plant.route().wait_ready();
    plant.finish_as_it_is().in_any_order()
}

/// Filters are spread over other lanes, and shared or not, while messages flow: no pod is replaced, and the sessions of
/// lanes that there are no longer are ended.
#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn lanes_that_are_changed_lose_nothing() {
    let some = |manifests: &mut Manifests| manifests.lanes = LANES;
    let plant = Plant::start("lanes", some);
    let pods = plant.uids();
    let mut most = LANES;
    for (lanes, ordering) in [
        (3, "PerTopic"),
        (6, "PerTopic"),
        (6, "Unordered"),
        (2, "Unordered"),
        (4, "PerTopic"),
        (2, "PerTopic"),
    ] {
        let what = format!("{lanes} lanes, {ordering}");
        let patch =
            format!(r#"{{"spec":{{"from":{{"mqtt":{{"lanes":{lanes},"ordering":"{ordering}"}}}}}}}}"#);
        let args = ["patch", "topicroute", "lanes", "--type=merge", "-p", &patch];
        plant.namespace().kubectl(&args);
        let took = wait_until(SOON, &what, || are_settled(&plant, lanes, ordering));
        eprintln!("{what}: settled after {:.1} s", took.as_secs_f64());
        plant.route().wait_ready();
        plant.wait_flow(&what);
        for session in plant.route().sessions(lanes..most) {
            assert!(
                !has_session(plant.brokers().mqtt(), &session),
                "{what}: {session} is stranded"
            );
        }
        most = lanes;
    }
    assert_eq!(plant.uids(), pods, "no pod was replaced");
    let (verdict, records) = plant.finish_in_any_order();
    eprintln!(
        "{} records were written twice",
        records.seen().len() as u64 - verdict.sent
    );
}

/// Whether such lanes, and no others, are owned, and nothing of before is remembered.
fn are_settled(plant: &Plant, lanes: u16, ordering: &str) -> bool {
    let live: Option<serde_json::Value> = plant.route().written("live", "live");
    let (Some(live), Some(record)) = (live, plant.route().record()) else {
        return false;
    };
    let wanted = serde_json::json!({"count": lanes, "ordering": ordering});
    live["lanes"] == wanted
        && live.get("retired").is_none()
        && record.lanes.len() == usize::from(lanes)
        && are_owned(&record)
}

fn are_owned(record: &LaneRecord) -> bool {
    let mut owners = record.lanes.iter();
    owners.all(|owner| owner.state == Ownership::Owned)
}

fn scale(server: Mqtt, ordering: &'static str, cycles: usize) {
    let brokers = Arc::new(Brokers::start_with(server));
    let small = |manifests: &mut Manifests| {
        manifests.spec = "  replicas: 1\n  worker: {resources: {requests: {cpu: 20m}}}\n".to_owned();
    };
    let witness = Plant::start_under(WITNESS_RATE, &brokers, "witness", |manifests| {
        small(manifests);
        manifests.lanes = 1;
    });
    let (sessions_before, left_before) = (brokers.sessions(), brokers.sessions_left());
    let plant = Plant::start_under(RATE, &brokers, "scaling", |manifests| {
        small(manifests);
        manifests.one_filter_for_each_lane();
        manifests.ordering = ordering;
    });
    let mut moves = Vec::new();
    let mut workers = 1;
    for size in SIZES.repeat(cycles) {
        let before = plant.route().record().unwrap();
        plant.route().scale(size);
        let since = now();
        // One process that watches: asking again and again would take a core from what is measured.
        plant.route().wait_ready();
        wait_until(SOON, &format!("{size} workers to share the lanes"), || {
            let statuses = plant.statuses();
            statuses.len() == size
                && are_owned(&plant.route().record().unwrap())
                && statuses
                    .iter()
                    .all(|status| status.lanes.len() >= usize::from(LANES) / size)
        });
        let after = plant.route().record().unwrap();
        moves.extend(Move::all(&before, &after, workers, since, &plant));
        workers = size;
        plant.wait_flow(&format!("{size} workers"));
        wait_until(SOON, "all sessions to be read by somebody", || {
            brokers.sessions_left() == left_before
        });
    }
    let assert_sessions = |lanes: u16| {
        // One more is the publisher's.
        let wanted = sessions_before.map(|before| before + 1 + u64::from(lanes));
        wait_until(SOON, "no sessions but those of lanes", || {
            brokers.sessions() == wanted
        });
    };
    assert_sessions(LANES);
    let sessions = plant.route().sessions(0..LANES);

    let (verdict, records) = match ordering {
        "PerTopic" => plant.finish(),
        _ => plant.finish_in_any_order(),
    };
    verdict.assert_duplicates_at_most(verdict.sent / 1_000);
    eprintln!("{} duplicates", verdict.duplicates);
    for session in sessions {
        assert!(!has_session(brokers.mqtt(), &session), "{session} is stranded");
    }
    assert_sessions(0);
    let (_, witnessed) = witness.finish();
    if ordering == "PerTopic" {
        // Five from eight to three, five from three to one.
        assert_eq!(moves.len(), 10 * cycles, "no lane was moved without need");
        assert_soon(&records, &moves, &witnessed);
    }
}

/// A lane that went from one running worker to another.
struct Move {
    lane: u16,
    /// When the API server had the number of workers, and when the worker that the lane went to was connected, in
    /// milliseconds since the Unix epoch.
    since: i64,
    connected: i64,
}

impl Move {
    /// All from one record to another, when there were so many workers before.
    fn all(before: &LaneRecord, after: &LaneRecord, workers: usize, since: i64, plant: &Plant) -> Vec<Self> {
        let connected = plant.connected_since(since);
        let pairs = before.lanes.iter().zip(&after.lanes);
        let moved =
            pairs.filter(|(old, new)| old.ordinal != new.ordinal && usize::from(new.ordinal) < workers);
        let moved = moved.map(|(_, new)| Self {
            lane: new.lane,
            since,
            connected: connected[&new.lane],
        });
        moved.collect()
    }
}

/// Milliseconds since the Unix epoch, as records have them.
fn now() -> i64 {
    i64::try_from(now_micros() / 1_000).unwrap()
}

/// No lane is without a reader for long, and a worker that runs takes over soon. While a lane that is not moved, at the same
/// brokers, receives nothing either, it is not for want of a reader.
fn assert_soon(records: &Records, moves: &[Move], witnessed: &Records) {
    let stalls: Vec<_> = pauses(witnessed, 1)
        .into_values()
        .flatten()
        .filter(is_long)
        .collect();
    let pauses = pauses(records, LANES);
    let long: Vec<_> = pauses.values().flatten().filter(|pause| is_long(pause)).collect();
    let stalled = Times::of("a lane that stays was not read", stalls.iter().map(length));
    let all = Times::of("a lane was not read", long.iter().copied().map(length));
    let own =
        |pause: &Range<i64>| length(pause) - stalls.iter().map(|stall| common(pause, stall)).sum::<i64>();
    let alone = Times::of(
        "a lane was not read while the one that stays was",
        long.iter().copied().map(own),
    );
    let until_read = moves.iter().map(|moved| {
        let mut messages = pauses[&moved.lane].iter().map(|pause| pause.end);
        let first = messages.find(|at| *at >= moved.connected).unwrap();
        own(&(moved.since..first))
    });
    let until_read = Times::of("a lane went to a worker that ran", until_read);
    eprintln!("{stalled}\n{all}\n{alone}\n{until_read}");
    // More is no hiccup of a busy machine, and would hide everything else.
    assert!(stalled.longest() <= 2 * LONGEST, "{stalled}");
    assert!(alone.longest() <= LONGEST, "{alone}");
    assert!(until_read.longest() <= LONGEST, "{until_read}");
    // Of fewer the 99th percentile is but the longest.
    assert!(until_read.at(99) < 3_000 || moves.len() < 200, "{until_read}");
}

fn length(pause: &Range<i64>) -> i64 {
    pause.end - pause.start
}

fn is_long(pause: &Range<i64>) -> bool {
    length(pause) > PAUSE
}

/// How long both pauses lasted at one time.
fn common(one: &Range<i64>, other: &Range<i64>) -> i64 {
    (one.end.min(other.end) - one.start.max(other.start)).max(0)
}

/// How long something took, again and again, in milliseconds.
struct Times {
    what: &'static str,
    sorted: Vec<i64>,
}

impl Times {
    fn of(what: &'static str, times: impl Iterator<Item = i64>) -> Self {
        let mut sorted: Vec<i64> = times.collect();
        sorted.sort_unstable();
        Self { what, sorted }
    }

    fn at(&self, percent: usize) -> i64 {
        let time = self.sorted.get(self.sorted.len() * percent / 100);
        time.copied().unwrap_or_default()
    }

    fn longest(&self) -> i64 {
        self.sorted.last().copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} times {}: p50 {} ms, p99 {} ms, longest {} ms",
            self.sorted.len(),
            self.what,
            self.at(50),
            self.at(99),
            self.longest()
        )
    }
}

/// The broker keeps what comes meanwhile, and the route says for how long.
#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_route_without_workers_gets_what_came_meanwhile() {
    let plant = Plant::start("zero", |_| {});
    plant.route().scale(0);
    wait_until(SOON, "all workers to be gone", || plant.route().pods().is_empty());
    let warning = plant.route().wait_for("Warning", "True", "BrokerBuffering", SOON);
    assert!(
        warning.message.starts_with("the broker keeps what comes for 24h"),
        "{}",
        warning.message
    );
    let since = plant.publisher().acknowledged();
    wait_until(SOON, "the broker to have taken 10,000 messages", || {
        plant.publisher().acknowledged() > since + 10_000
    });
    let arrived = plant.observer().distinct();
    assert!(arrived < since + 5_000, "nobody reads");
    plant.route().scale(2);
    plant.wait_flow("workers are back");
    plant.route().wait_ready();
    let (verdict, _) = plant.finish();
    assert_eq!(verdict.duplicates, 0, "{verdict}");
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn what_else_scales_the_workers_is_named_and_set_back() {
    let _brokers = Brokers::start();
    let namespace = Namespace::create("e2e-conflict");
    let manifests = Manifests::new("conflict");
    namespace.apply(&manifests.yaml());
    let route = RouteHandle::new(&namespace, "conflict");
    route.wait_ready();
    namespace.kubectl(&["scale", "statefulset/conflict-worker", "--replicas=1"]);
    let warning = route.wait_for("Warning", "True", "ScalingConflict", SOON);
    assert!(
        warning
            .message
            .starts_with("kubectl has set the number of workers"),
        "{}",
        warning.message
    );
    wait_until(SOON, "two workers again", || route.pods().len() == 2);
    route.wait_ready();
    // Whoever scales the route is welcome.
    route.scale(3);
    wait_until(SOON, "three workers", || route.pods().len() == 3);
}

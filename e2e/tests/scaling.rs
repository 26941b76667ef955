//! `kubectl scale` on a route under load, up and down again and again: lanes move from worker to worker, and nothing is
//! lost, stranded or out of order.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use millrace_e2e::{Brokers, Manifests, Namespace, Plant, RouteHandle, SOON, has_session};
use millrace_testkit::{Records, wait_until};

const LANES: u16 = 8;
/// Workers, in one cycle after another.
const SIZES: [usize; 3] = [8, 3, 1];

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_lose_nothing() {
    scale(3);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn workers_that_come_and_go_twenty_times_lose_nothing() {
    scale(20);
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
                !has_session(plant.brokers().mqtt_port(), &session),
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
    let read = |map: &str, key: &str| -> Option<serde_json::Value> {
        let path = format!("jsonpath={{.data['{key}\\.json']}}");
        let json = plant.namespace().kubectl(&["get", "configmap", map, "-o", &path]);
        serde_json::from_str(&json).ok()
    };
    let (Some(live), Some(record)) = (read("lanes-live", "live"), read("lanes-lanes", "record")) else {
        return false;
    };
    let wanted = serde_json::json!({"count": lanes, "ordering": ordering});
    let owners = record["lanes"].as_array().map(Vec::as_slice).unwrap_or_default();
    live["lanes"] == wanted
        && live.get("retired").is_none()
        && owners.len() == usize::from(lanes)
        && owners.iter().all(|owner| owner["state"] == "Owned")
}

fn scale(cycles: usize) {
    let small = |manifests: &mut Manifests| {
        manifests.lanes = LANES;
        manifests.spec = "  replicas: 1\n  worker: {resources: {requests: {cpu: 20m}}}\n".to_owned();
    };
    let plant = Plant::start("scaling", small);
    for _ in 0..cycles {
        for size in SIZES {
            let replicas = format!("--replicas={size}");
            plant
                .namespace()
                .kubectl(&["scale", "topicroute/scaling", &replicas]);
            wait_until(SOON, &format!("{size} workers to share the lanes"), || {
                let statuses = plant.statuses();
                statuses.len() == size
                    && statuses
                        .iter()
                        .all(|status| status.lanes.len() >= usize::from(LANES) / size)
            });
            plant.route().wait_ready();
            plant.wait_flow(&format!("{size} workers"));
        }
    }
    let (verdict, records) = plant.finish();
    verdict.assert_duplicates_at_most(verdict.sent / 1_000);
    let mut gaps = gaps(&records);
    gaps.sort_unstable();
    let longest = gaps.last().copied().unwrap_or_default();
    let at = |percent: usize| gaps.get(gaps.len() * percent / 100).copied().unwrap_or_default();
    eprintln!(
        "{} times a filter was not read for more than 300 ms: p50 {} ms, p99 {} ms, longest {longest} ms",
        gaps.len(),
        at(50),
        at(99)
    );
    assert!(at(99) < 3_000 && longest <= 5_000, "a lane was away for too long");
}

/// For how long filters were not read, in milliseconds, where that is more than the load explains. A record has the time
/// at which the worker received its message.
fn gaps(records: &Records) -> Vec<i64> {
    let mut times: BTreeMap<u32, Vec<i64>> = BTreeMap::new();
    for record in records.seen() {
        // Each key goes through one of eight filters.
        times.entry(record.id.key % 8).or_default().push(record.timestamp);
    }
    let mut gaps = Vec::new();
    for mut times in times.into_values() {
        times.sort_unstable();
        gaps.extend(
            times
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .filter(|gap| *gap > 300),
        );
    }
    gaps
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
    namespace.kubectl(&["scale", "topicroute/conflict", "--replicas=3"]);
    wait_until(SOON, "three workers", || route.pods().len() == 3);
}

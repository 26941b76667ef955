//! The operator dies after every write, and another comes to the same objects.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures::{StreamExt, stream};
use millrace_operator::Settings;
use millrace_operator::cluster::watch::Scope;
use tokio::time::Instant;

use super::{STAGE, is_long};
use crate::compare::{State, difference, state, without_tokens};
use crate::journey::steps::{STEPS, is_settled};
use crate::real::{Cluster, Namespace, Operator};

/// How long a step may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// Nothing follows when nothing was written for so long.
const STILL: Duration = Duration::from_millis(2500);
/// Journeys that go on at the same time.
const AT_ONCE: usize = 8;

/// What came of a step, and how much was written for it.
struct Leg {
    after: State,
    writes: u64,
}

fn start(cluster: &Cluster, namespace: &Namespace, image: &str) -> Operator {
    let settings = Settings {
        worker_image: image.to_owned(),
        scrape_interval: Duration::from_millis(500),
        ..Settings::default()
    };
    Operator::start(cluster, Scope::Namespace(namespace.name.clone()), settings)
}

fn seen(namespace: &Namespace) -> State {
    let objects = namespace.objects();
    let named = objects
        .iter()
        .map(|(name, object)| (name.clone(), object.as_ref()));
    without_tokens(state(named), &namespace.name)
}

/// All steps in a namespace. In each, the operator dies after a number of writes, if there are so many, and another
/// takes its place; then all has to be as it was in `wanted`.
async fn journey(
    cluster: &Cluster,
    name: &str,
    dies_after: Option<u64>,
    wanted: &[Leg],
) -> Result<(Vec<Leg>, usize), String> {
    let namespace = cluster.namespace(name).await;
    let mut image = STEPS[0].image;
    let mut operator = start(cluster, &namespace, image);
    operator.rest(STILL).await;
    let (mut legs, mut deaths) = (Vec::new(), 0);
    for (index, step) in STEPS.iter().enumerate() {
        if step.image != image {
            operator.kill().await;
            image = step.image;
            operator = start(cluster, &namespace, image);
        }
        let before = operator.writes();
        if let Some(writes) = dies_after {
            operator.die_after(writes);
        }
        namespace.lend(step.act).await;
        let since = Instant::now();
        loop {
            if !operator.rest(STILL).await {
                deaths += 1;
                eprintln!("{name}: {}: the operator dies", step.name);
                operator.kill().await;
                operator = start(cluster, &namespace, image);
                continue;
            }
            let objects = namespace.objects();
            let settled = is_settled(
                objects
                    .iter()
                    .map(|(name, object)| (name.clone(), object.as_ref())),
            );
            if settled && wanted.get(index).is_none_or(|leg| leg.after == seen(&namespace)) {
                break;
            }
            if since.elapsed() > PATIENCE {
                let mut report = format!("{}, settled: {settled}", step.name);
                if let Some(leg) = wanted.get(index) {
                    write!(report, "\n{}", difference(&leg.after, &seen(&namespace))).ok();
                }
                return Err(report);
            }
            namespace.until(Duration::from_millis(500), |_| false).await;
        }
        eprintln!(
            "{name}: {} after {:.1} s",
            step.name,
            since.elapsed().as_secs_f64()
        );
        legs.push(Leg {
            after: seen(&namespace),
            writes: operator.writes().saturating_sub(before),
        });
    }
    operator.kill().await;
    Ok((legs, deaths))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_write_a_new_operator_comes_to_the_same() {
    let _stage = STAGE.lock().await;
    let cluster = Cluster::start().await;
    let (legs, _) = journey(&cluster, "undisturbed", None, &[])
        .await
        .expect("a journey without faults");
    for (leg, step) in legs.iter().zip(STEPS) {
        eprintln!(
            "{}: {} writes, {} objects",
            step.name,
            leg.writes,
            leg.after.len()
        );
    }
    // The comparison sees what differs: each step leaves another state than the one before.
    for pair in legs.windows(2) {
        assert!(!difference(&pair[0].after, &pair[1].after).is_empty());
    }
    let most = legs.iter().map(|leg| leg.writes).max().unwrap_or_default();
    let numbers = (1..=most).step_by(if is_long() { 1 } else { 5 });
    let runs = stream::iter(numbers).map(|number| {
        let (cluster, legs) = (&cluster, &legs);
        async move {
            (
                number,
                journey(cluster, &format!("dies-after-{number}"), Some(number), legs).await,
            )
        }
    });
    let results: BTreeMap<u64, _> = runs.buffer_unordered(AT_ONCE).collect().await;
    let mut failed = String::new();
    for (number, result) in &results {
        // In another order of events there may be fewer writes.
        let expected = legs.iter().filter(|leg| leg.writes >= *number).count();
        match result {
            Ok((_, deaths)) => eprintln!("after write {number}: {deaths} deaths of {expected}"),
            Err(error) => writeln!(failed, "after write {number}: {error}").unwrap_or_default(),
        }
    }
    let deaths: usize = results
        .values()
        .filter_map(|result| Some(result.as_ref().ok()?.1))
        .sum();
    let expected: usize = results
        .keys()
        .map(|number| legs.iter().filter(|leg| leg.writes >= *number).count())
        .sum();
    assert!(failed.is_empty(), "{failed}");
    assert!(deaths * 10 >= expected * 8, "{deaths} deaths of {expected}");
}

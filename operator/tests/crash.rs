//! The operator against an API server in memory: killed after every write, with writes that fail, with events that are
//! lost, and with answers of the past, it comes to the same objects as when nothing goes wrong, and breaks no rule on
//! the way (`fake/rules.rs`). At rest it writes nothing.

mod compare;
mod fake;
mod journey;
mod kubelet;
mod news;
mod objects;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use compare::{state, without_detours};
use fake::store::Key;
use fake::{Fake, Fault, NAMESPACE, SCRAPE};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use journey::steps::Hands;
use journey::{Leg, PATIENCE, STILL, act, legs};
use objects::conditions;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// Runs that go on at the same time, in all tests: they wait more than they work.
static AT_ONCE: Semaphore = Semaphore::const_new(28);

type Run = BoxFuture<'static, Result<(), String>>;

/// Makes all runs; fails with the names of those that failed, and why.
async fn all(runs: Vec<(String, Run)>) {
    let count = runs.len();
    let failed: Vec<String> = futures::stream::iter(runs)
        .map(|(name, run)| async move {
            let _turn = AT_ONCE.acquire().await.expect("a semaphore that is never closed");
            let result = tokio::spawn(run).await;
            match result {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(format!("{name}:\n{error}")),
                Err(panic) => Some(format!("{name}: {panic}")),
            }
        })
        .buffer_unordered(count.max(1))
        .filter_map(|failure| async move { failure })
        .collect()
        .await;
    let few: Vec<&str> = failed.iter().take(5).map(String::as_str).collect();
    assert!(
        failed.is_empty(),
        "{} of {count} runs:\n{}",
        failed.len(),
        few.join("\n\n")
    );
}

/// A leg in which one write goes wrong, if there are so many; it is counted if it did.
async fn with_fault(leg: &Leg, after: u64, fault: Fault, struck: Arc<AtomicUsize>) -> Result<(), String> {
    let (fake, mut operator) = leg.begin().await;
    fake.faults().plan(after, fault);
    operator = act(&fake, leg.step, leg.image, operator).await;
    // In another order of events there may be fewer writes.
    fake.struck(Duration::from_secs(10)).await;
    if fake.faults().cancel() {
        struck.fetch_add(1, Ordering::Relaxed);
        if fault == Fault::Killed {
            operator.kill().await;
            operator = fake.start(leg.step.image);
        }
    }
    let result = leg.end(&fake).await;
    drop(operator);
    result
}

async fn one_write_goes_wrong(fault: Fault, step: usize, first: u64) {
    let mut runs: Vec<(String, Run)> = Vec::new();
    let struck = Arc::new(AtomicUsize::new(0));
    for leg in legs().await {
        for after in (first..leg.writes).step_by(step) {
            let name = format!("{}, write {after} {fault:?}", leg.step.name);
            runs.push((name, with_fault(leg, after, fault, Arc::clone(&struck)).boxed()));
        }
    }
    let planned = runs.len();
    all(runs).await;
    let struck = struck.load(Ordering::Relaxed);
    assert!(
        struck * 10 >= planned * 9,
        "{struck} of {planned} writes went wrong"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_after_any_write_a_new_operator_comes_to_the_same() {
    one_write_goes_wrong(Fault::Killed, 1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_write_that_failed_it_comes_to_the_same() {
    one_write_goes_wrong(Fault::Refused, 4, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_write_that_only_seemed_to_fail_it_comes_to_the_same() {
    one_write_goes_wrong(Fault::Garbled, 4, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_lost_are_made_up_for() {
    let mut runs: Vec<(String, Run)> = Vec::new();
    for leg in legs().await {
        for plural in ["topicroutes", "mqttbrokers", "statefulsets", "pods", "configmaps"] {
            let run = async move {
                let (fake, operator) = leg.begin().await;
                fake.faults().lose(plural, 3);
                let operator = act(&fake, leg.step, leg.image, operator).await;
                let result = leg.end(&fake).await;
                drop(operator);
                result
            };
            runs.push((format!("{}, {plural} lost", leg.step.name), run.boxed()));
        }
    }
    all(runs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_that_were_never_seen_do_not_matter() {
    let mut runs: Vec<(String, Run)> = Vec::new();
    for leg in legs().await {
        let run = async move {
            let (fake, operator) = leg.begin().await;
            fake.faults().lag = Duration::from_millis(300);
            let operator = act(&fake, leg.step, leg.image, operator).await;
            let result = leg.end(&fake).await;
            drop(operator);
            result
        };
        runs.push((format!("{}, seen late", leg.step.name), run.boxed()));
    }
    all(runs).await;
}

/// A new operator is shown the past: what its predecessor has done is not there yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_shown_the_past_does_no_harm() {
    let mut runs: Vec<(String, Run)> = Vec::new();
    for leg in legs().await {
        for half in 0..2_usize {
            let run = async move {
                let (fake, operator) = leg.begin().await;
                act(&fake, leg.step, leg.image, operator)
                    .await
                    .kill_after(leg, &fake)
                    .await?;
                let log = fake.world().store.log;
                let past = log.get(log.len() * half / 2).map_or(0, |change| change.version);
                fake.faults().travel(past, Duration::from_millis(600));
                let operator = fake.start(leg.step.image);
                // It may have gone back to the past, and forward again.
                let result = leg.end_as(&fake, PATIENCE, without_detours).await;
                drop(operator);
                result
            };
            runs.push((format!("{}, back to {half}/2", leg.step.name), run.boxed()));
        }
    }
    all(runs).await;
}

impl fake::Operator {
    /// Kills the operator once it has done a leg.
    async fn kill_after(self, leg: &Leg, fake: &Fake) -> Result<(), String> {
        leg.end(fake).await?;
        self.kill().await;
        Ok(())
    }
}

/// A cluster with the whole journey's route, at rest.
async fn at_rest() -> (Arc<Fake>, fake::Operator) {
    let leg = &legs().await[1];
    leg.begin().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_rest_nothing_is_written() {
    let (fake, operator) = at_rest().await;
    let (writes, scrapes) = (fake.writes(), fake.scrapes());
    fake.until(Duration::from_secs(5), |_| false).await;
    assert!(fake.scrapes() >= scrapes + 10, "workers are asked");
    assert_eq!(fake.writes(), writes);
    // Counts that move are worth one write in a minute.
    fake.busy.store(true, Ordering::Relaxed);
    let scrapes = fake.scrapes();
    fake.until(Duration::from_secs(5), |_| false).await;
    assert!(fake.scrapes() >= scrapes + 10, "workers are asked");
    assert!(fake.writes() <= writes + 1, "{} writes", fake.writes() - writes);
    drop(operator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_cannot_be_read_hurts_no_other() {
    let (fake, operator) = at_rest().await;
    let route = fake
        .world()
        .store
        .get(&Key::new("topicroutes", NAMESPACE, "telemetry"))
        .cloned();
    let mut route = Value::clone(&route.expect("the route"));
    let neighbour = |name: &str, route: &mut Value| {
        *route = json!({
            "apiVersion": route["apiVersion"], "kind": route["kind"],
            "metadata": {"name": name}, "spec": route["spec"],
        });
    };
    neighbour("unreadable", &mut route);
    route["spec"]["from"]["mqtt"]["lanes"] = "x".into();
    fake.create(&route.to_string());
    neighbour("neighbour", &mut route);
    route["spec"]["from"]["mqtt"]["lanes"] = 2.into();
    fake.create(&route.to_string());
    let condition = |world: &fake::World, name: &str, kind: &str| {
        let route = world.store.get(&Key::new("topicroutes", NAMESPACE, name));
        let mut all = route.into_iter().flat_map(|route| conditions(route));
        all.find(|one| one["type"] == kind).cloned().unwrap_or_default()
    };
    let done = fake.until(PATIENCE, |world| {
        condition(world, "unreadable", "Accepted")["status"] == "False"
            && condition(world, "neighbour", "Ready")["status"] == "True"
            && condition(world, "telemetry", "Ready")["status"] == "True"
    });
    assert!(done.await, "{:#?}", state(fake.world().objects()));
    let accepted = condition(&fake.world(), "unreadable", "Accepted");
    let message = accepted["message"].as_str().unwrap_or_default();
    assert!(message.contains("cannot be read"), "{accepted}");
    fake.rest(STILL).await;
    let writes = fake.writes();
    fake.until(SCRAPE * 10, |_| false).await;
    assert_eq!(fake.writes(), writes, "it is said once");
    // Nor is it kept when it is deleted.
    let neighbour = Key::new("topicroutes", NAMESPACE, "neighbour");
    fake.edit_at(&neighbour, &|route| {
        route["spec"]["from"]["mqtt"]["lanes"] = "x".into()
    });
    let unreadable = |world: &fake::World| condition(world, "neighbour", "Accepted")["status"] == "False";
    assert!(fake.until(PATIENCE, unreadable).await);
    fake.delete_at(&neighbour);
    let gone = fake.until(PATIENCE, |world| world.store.get(&neighbour).is_none());
    assert!(gone.await, "{:#?}", state(fake.world().objects()));
    assert_eq!(fake.broken(), [""; 0]);
    drop(operator);
}

/// The comparison sees what is not done: an operator that forgets the StatefulSet, and one that forgets the record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_left_out_is_seen() {
    let legs = legs().await;
    for (leg, plural) in [(4, "statefulsets"), (0, "statefulsets"), (5, "configmaps")] {
        let leg = &legs[leg];
        let (fake, operator) = leg.begin().await;
        fake.faults().swallowed = Some(plural);
        let operator = act(&fake, leg.step, leg.image, operator).await;
        let seen = leg.end_as(&fake, Duration::from_secs(3), |state| state).await;
        let difference = seen.expect_err("a difference");
        assert!(difference.contains(plural), "{}: {difference}", leg.step.name);
        drop(operator);
    }
}

//! A message that somebody asks to be skipped: workers learn of it while they run, and it is said once.

#![allow(dead_code, reason = "the fake cluster does more for others")]

mod compare;
mod fake;
mod journey;
mod kubelet;
mod news;
mod objects;

use fake::store::Key;
use fake::{Fake, NAMESPACE, World};
use journey::steps::{Hands, MANIFEST, is_settled};
use journey::{PATIENCE, STILL};
use serde_json::Value;

const DIGEST: &str = "9f86d081884c7d65";

fn pods(world: &World) -> Vec<Value> {
    let pods = world.store.all("pods");
    let workers = pods.filter(|(key, _)| key.name.starts_with("telemetry-worker"));
    workers.map(|(_, pod)| pod["metadata"]["uid"].clone()).collect()
}

/// Whether the workers' configuration names the message, and has this key.
fn is_written(world: &World, key: &str) -> bool {
    let map = Key::new("configmaps", NAMESPACE, "telemetry-live");
    let text = world.store.get(&map).map(|map| map["data"].to_string());
    text.is_some_and(|text| text.contains(DIGEST) && text.contains(key))
}

fn told(world: &World) -> Vec<String> {
    let events = world.store.all("events").map(|(_, event)| event);
    let skipped = events.filter(|event| event["reason"] == "MessageSkipped");
    skipped.map(|event| event["note"].to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_be_skipped_is_told_to_workers_that_run_on_and_to_people_once() {
    let fake = Fake::new();
    fake.create(MANIFEST);
    let operator = fake.start("worker:1");
    let settled = |world: &World| is_settled(world.objects());
    assert!(fake.until(PATIENCE, settled).await);
    let before = pods(&fake.world());
    assert_eq!((before.len(), told(&fake.world()).len()), (2, 0));

    let route = Key::new("topicroutes", NAMESPACE, "telemetry");
    fake.edit_at(&route, &|route| {
        route["metadata"]["annotations"]["millrace.dev/skip"] = DIGEST.into();
    });
    assert!(fake.until(PATIENCE, |world| is_written(world, "{plant}")).await);
    // Another configuration that names it as well says nothing new.
    fake.edit_at(&route, &|route| {
        route["spec"]["to"]["kafka"]["key"] = "{message.topic}".into();
    });
    let changed = |world: &World| is_written(world, "{message.topic}") && settled(world);
    assert!(fake.until(PATIENCE, changed).await);
    fake.rest(STILL).await;
    let world = fake.world();
    assert_eq!(pods(&world), before);
    let told = told(&world);
    assert!(told.len() == 1 && told[0].contains(DIGEST), "{told:?}");
    assert_eq!(fake.broken(), [""; 0]);
    operator.kill().await;
}

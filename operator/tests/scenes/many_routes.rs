//! What many routes cost an operator that runs as its users run it: 500 in the long form, 120 otherwise.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams};
use millrace_operator::Settings;
use millrace_operator::cluster::watch::Scope;
use millrace_testkit::{Port, Process, usage};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{STAGE, is_long};
use crate::objects::is;
use crate::real::{Cluster, Namespace, Objects, Operator, User};

/// How many there are.
static ROUTES: LazyLock<usize> = LazyLock::new(|| if is_long() { 500 } else { 120 });
/// All routes are looked at within this time from the start of the operator.
const START: Duration = Duration::from_secs(60);
/// Resident memory of the operator, in bytes.
const MEMORY: u64 = 32 << 20;
/// Of one core.
const CORE: f64 = 0.05;
/// How often a worker is asked: as the product does it in the long form.
static SCRAPE: LazyLock<Duration> = LazyLock::new(|| Duration::from_secs(if is_long() { 15 } else { 5 }));

fn manifests() -> Vec<Value> {
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec});
    let mut all = vec![
        object("MqttBroker", "plant", json!({"urls": ["mqtt://mqtt:1883"]})),
        object("KafkaSink", "main", json!({"bootstrapServers": ["kafka:9092"]})),
    ];
    all.extend((0..*ROUTES).map(|number| {
        let spec = json!({
            "from": {"mqtt": {
                "brokerRef": {"name": "plant"}, "ordering": "PerTopic", "lanes": 1,
                "subscriptions": [{"filter": format!("plants/{number}/+line/telemetry")}],
            }},
            "to": {"kafka": {"sinkRef": {"name": "main"}, "topic": "telemetry", "key": "{line}"}},
        });
        object("TopicRoute", &format!("route-{number}"), spec)
    }));
    all
}

fn routes(objects: &Objects) -> impl Iterator<Item = &Value> {
    let routes = objects.range("topicroutes/".to_owned().."topicroutes0".to_owned());
    routes.map(|(_, object)| object.as_ref())
}

fn is_ready(route: &Value) -> bool {
    route["status"]["observedGeneration"] == route["metadata"]["generation"] && is(route, "Ready", "True")
}

/// Waits until all routes are ready, as far as their status says, and returns how long that took.
async fn all_ready(namespace: &Namespace, patience: Duration) -> Duration {
    let since = Instant::now();
    let ready = |objects: &Objects| routes(objects).filter(|route| is_ready(route)).count() == *ROUTES;
    let came = namespace.until(patience, ready).await;
    let objects = namespace.objects();
    let laggard = routes(&objects).find(|route| !is_ready(route));
    let count = routes(&objects).filter(|route| is_ready(route)).count();
    assert!(
        came,
        "{count} of {} routes are ready; one that is not: {laggard:#?}",
        *ROUTES
    );
    since.elapsed()
}

/// Writes but for the Lease's, from the audit log.
fn writes(cluster: &Cluster) -> Vec<String> {
    let mut writes = cluster.writes();
    writes.retain(|write| !write.contains("/leases/") && !write.ends_with("/leases"));
    writes
}

/// Waits until nothing has been written for two rounds of questions to the workers.
async fn rest(cluster: &Cluster) -> usize {
    let deadline = Instant::now() + Duration::from_secs(300);
    let mut before = writes(cluster).len();
    loop {
        sleep(*SCRAPE * 2).await;
        let now = writes(cluster).len();
        if now == before {
            return now;
        }
        before = now;
        assert!(Instant::now() < deadline, "the operator does not come to rest");
    }
}

/// The operator's program.
fn program(cluster: &Cluster, namespace: &Namespace) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace-operator"));
    command
        .env("KUBECONFIG", cluster.kubeconfig(User::Operator))
        .args([
            "run",
            "--worker-image",
            "worker:1",
            "--lease-namespace",
            &namespace.name,
        ])
        .args([
            "--admin",
            &format!("127.0.0.1:{}", Port::free().number()),
            "--log-format",
            "json",
        ]);
    if !is_long() {
        command.args(["--scrape-interval", &format!("{}s", SCRAPE.as_secs())]);
    }
    Process::spawn("millrace-operator", command)
}

/// What a process used over a time.
struct Span {
    cores: f64,
    memory: u64,
    answers: u64,
    writes: Vec<String>,
}

async fn observe(cluster: &Cluster, operator: &Process, time: Duration) -> Span {
    let cpu = || operator.usage().expect("the operator runs").cpu_micros;
    let (since, cpu_before) = (Instant::now(), cpu());
    let (answers, seen) = (cluster.kubelet.scrapes(), writes(cluster).len());
    let mut memory = 0;
    while since.elapsed() < time {
        sleep(Duration::from_secs(1)).await;
        memory = memory.max(operator.usage().expect("the operator runs").rss_bytes);
    }
    let used = Duration::from_micros(cpu() - cpu_before);
    Span {
        cores: used.as_secs_f64() / since.elapsed().as_secs_f64(),
        memory,
        answers: cluster.kubelet.scrapes() - answers,
        writes: writes(cluster).split_off(seen),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_routes_at_rest_cost_next_to_nothing() {
    let _stage = STAGE.lock().await;
    let (still, busy) = if is_long() { (600, 300) } else { (20, 65) };
    let (still, busy) = (Duration::from_secs(still), Duration::from_secs(busy));
    let cluster = Cluster::start().await;
    let namespace = cluster.namespace("many").await;
    let settings = Settings {
        worker_image: "worker:1".into(),
        max_concurrent_routes: *ROUTES,
        scrape_interval: *SCRAPE,
        ..Settings::default()
    };
    let creator = Operator::start(&cluster, Scope::All, settings);
    let since = Instant::now();
    let applied = stream::iter(manifests()).map(|object| {
        let namespace = &namespace;
        async move { namespace.apply(&object).await }
    });
    for result in applied.buffer_unordered(16).collect::<Vec<_>>().await {
        result.expect("a good object");
    }
    all_ready(&namespace, Duration::from_secs(300)).await;
    eprintln!(
        "{} routes are ready {:.0} s after the first was created",
        *ROUTES,
        since.elapsed().as_secs_f64()
    );
    creator.kill().await;

    // A status that the next operator has to write: so it is seen when each route has been looked at.
    let forgotten = stream::iter(0..*ROUTES).map(|number| {
        let api = namespace.api("topicroutes");
        async move {
            let patch = Patch::Merge(json!({"status": {"observedGeneration": 0}}));
            api.patch_status(&format!("route-{number}"), &PatchParams::default(), &patch)
                .await
        }
    });
    for result in forgotten.buffer_unordered(16).collect::<Vec<_>>().await {
        result.expect("a status");
    }
    let none_is = |objects: &Objects| routes(objects).all(|route| !is_ready(route));
    assert!(namespace.until(START, none_is).await, "the change is seen");
    let operator = program(&cluster, &namespace);
    let took = all_ready(&namespace, START * 3).await;
    eprintln!(
        "all are looked at {:.1} s after the start of the operator",
        took.as_secs_f64()
    );
    assert!(took < START, "{took:?}");

    let total = rest(&cluster).await;
    eprintln!("at rest after {total} writes of both operators");
    let span = observe(&cluster, &operator, still).await;
    let rate = |span: &Span, time: Duration| span.answers as f64 / time.as_secs_f64();
    let peak = usage(operator.pid()).expect("the operator runs").peak_rss_bytes;
    eprintln!(
        "at rest for {} s: {} writes, {:.3} cores, {:.1} MiB (at most {:.1} since its start), {:.1} workers asked per second",
        still.as_secs(),
        span.writes.len(),
        span.cores,
        span.memory as f64 / 1048576.0,
        peak as f64 / 1048576.0,
        rate(&span, still)
    );
    assert_eq!(span.writes, [""; 0]);
    assert!(span.cores < CORE, "{} cores", span.cores);
    assert!(span.memory <= MEMORY, "{} bytes", span.memory);
    let due = *ROUTES as f64 / SCRAPE.as_secs_f64();
    assert!(rate(&span, still) > 0.8 * due, "workers are asked");

    cluster.kubelet.busy.store(true, Ordering::Relaxed);
    let span = observe(&cluster, &operator, busy).await;
    let mut per_route: BTreeMap<&str, u64> = BTreeMap::new();
    for write in &span.writes {
        *per_route.entry(write.as_str()).or_default() += 1;
    }
    eprintln!(
        "with counts that move for {} s: {} writes, {:.3} cores, {:.1} MiB",
        busy.as_secs(),
        span.writes.len(),
        span.cores,
        span.memory as f64 / 1048576.0
    );
    let minutes = busy.as_secs().div_ceil(60);
    for (write, count) in &per_route {
        assert!(
            write.contains("/topicroutes/") && write.contains("/status"),
            "{write}"
        );
        assert!(*count <= minutes, "{count} writes in {minutes} minutes: {write}");
    }
    // Each as soon as it may be, when its worker is asked next.
    let least = busy.as_secs() / (60 + SCRAPE.as_secs());
    let current = per_route.values().filter(|count| **count >= least).count();
    assert_eq!(current, *ROUTES, "routes whose counts are kept up to date");
    assert!(span.cores < CORE, "{} cores", span.cores);
    assert!(span.memory <= MEMORY, "{} bytes", span.memory);
}

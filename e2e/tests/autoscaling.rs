//! HorizontalPodAutoscalers on routes, one by CPU and one by the load that the operator serves: each has as many workers
//! as its load asks for, soon, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_e2e::{
    Brokers, Manifests, Namespace, Release, RouteHandle, SOON, SYSTEM, kubectl, try_kubectl, try_kubectl_with,
};
use millrace_testkit::{Observer, Publisher, Report, check, wait_until};
use serde_json::{Value, json};

/// Messages per second of a route that has little to do, and of one that has much.
const LOW: f64 = 500.0;
const HIGH: f64 = 3_000.0;
/// Workers for much. The middle of what the autoscaler takes for it, so that measurements may be off by a seventh.
const MANY: usize = 4;
const MIDDLE: f64 = 3.5;
/// How long the autoscaler waits before it goes down.
const WINDOW: Duration = Duration::from_secs(30);
/// Beyond that, either way.
const PROMPT: Duration = Duration::from_secs(60);
/// For so long a size that has been reached is looked at.
const STEADY: Duration = Duration::from_secs(30);

/// About 300 steps for each message.
const COSTLY: &str = ", value: \"[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16].all(x, \
                      [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16].all(y, x + y > 0)) ? payload : payload\"";

/// What an autoscaler goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Cpu,
    Load,
}

/// A route with an autoscaler, and the messages it gets.
struct Scaled<'n> {
    namespace: &'n Namespace,
    by: By,
    manifests: Manifests,
    port: u16,
    publisher: Option<Publisher>,
    reports: Vec<Report>,
}

impl<'n> Scaled<'n> {
    fn start(namespace: &'n Namespace, brokers: &Brokers, by: By) -> Self {
        let mut manifests = Manifests::new(match by {
            By::Cpu => "by-cpu",
            By::Load => "by-load",
        });
        manifests.lanes = 8;
        manifests.record = COSTLY.to_owned();
        manifests.spec = "  worker: {resources: {requests: {cpu: 60m}}}\n".to_owned();
        namespace.apply(&manifests.yaml());
        RouteHandle::new(namespace, &manifests.name).wait_ready();
        Self {
            namespace,
            by,
            manifests,
            port: brokers.mqtt_port(),
            publisher: None,
            reports: Vec::new(),
        }
    }

    fn name(&self) -> &str {
        &self.manifests.name
    }

    /// The load is another from now on.
    fn publish(&mut self, rate: f64) {
        self.rest();
        let publisher = Publisher::builder(self.port)
            .qos(1)
            .keys(100)
            .rate(rate)
            .topic_of(self.manifests.topic_of())
            .start();
        self.publisher = Some(publisher);
    }

    fn rest(&mut self) {
        let publisher = self.publisher.take();
        self.reports
            .extend(publisher.map(|publisher| publisher.finish(SOON)));
    }

    fn workers(&self) -> usize {
        let path = format!("topicroute/{}", self.name());
        let asked = self
            .namespace
            .kubectl(&["get", &path, "-o", "jsonpath={.spec.replicas}"]);
        asked.parse().unwrap()
    }

    fn scale(&self, workers: usize) {
        let replicas = format!("--replicas={workers}");
        let path = format!("topicroute/{}", self.name());
        self.namespace.kubectl(&["scale", &path, &replicas]);
        let route = RouteHandle::new(self.namespace, self.name());
        wait_until(SOON, &format!("{workers} workers"), || {
            route.pods().len() == workers
        });
        route.wait_ready();
    }

    /// CPU time that all workers have used, by what they say themselves.
    fn cpu(&self) -> f64 {
        let route = RouteHandle::new(self.namespace, self.name());
        let of_worker = |pod: String| {
            let pod = pod.trim_start_matches("pod/");
            let namespace = self.namespace.name();
            let path = format!("/api/v1/namespaces/{namespace}/pods/{pod}:9090/proxy/metrics");
            let page = kubectl(&["get", "--raw", &path]);
            let line = page
                .lines()
                .find_map(|line| line.strip_prefix("process_cpu_seconds_total "));
            line.unwrap().parse::<f64>().unwrap()
        };
        route.pods().into_iter().map(of_worker).sum()
    }

    /// CPU that all workers use now, in cores.
    fn cores(&self) -> f64 {
        let (start, before) = (Instant::now(), self.cpu());
        wait_until(SOON, "the load to be measured", || {
            start.elapsed() > Duration::from_secs(15)
        });
        (self.cpu() - before) / start.elapsed().as_secs_f64()
    }

    /// An autoscaler as the example has it, with such a target for each worker, in cores of what it requests.
    fn autoscale(&self, target: f64) {
        let example = match self.by {
            By::Cpu => "../examples/autoscaling/cpu.yaml",
            By::Load => "../examples/autoscaling/load.yaml",
        };
        let json = kubectl(&["create", "--dry-run=client", "-o", "json", "-f", example]);
        let mut autoscaler: Value = serde_json::from_str(&json).unwrap();
        let name = json!(self.name());
        autoscaler["metadata"] = json!({"name": name});
        let spec = &mut autoscaler["spec"];
        spec["scaleTargetRef"]["name"] = name.clone();
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = json!(WINDOW.as_secs());
        let metric = &mut spec["metrics"][0];
        match self.by {
            By::Cpu => metric["resource"]["target"]["averageUtilization"] = json!((target * 100.0).round()),
            By::Load => {
                metric["object"]["describedObject"]["name"] = name;
                metric["object"]["target"]["averageValue"] = json!(format!("{:.0}m", target * 1e3));
            }
        }
        self.namespace.apply(&autoscaler.to_string());
    }
}

/// Sizes of a route that were asked for, with the times, looked at until it is dropped.
struct Watched {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Instant, usize)>>>,
}

impl Watched {
    fn start(route: &Scaled<'_>) -> Self {
        let (namespace, path) = (
            route.namespace.name().to_owned(),
            format!("topicroute/{}", route.name()),
        );
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut sizes: Vec<(Instant, usize)> = Vec::new();
            let args = ["get", "-n", &namespace, &path, "-o", "jsonpath={.spec.replicas}"];
            while !stopped.load(Ordering::Relaxed) {
                let size = try_kubectl(&args).ok().and_then(|text| text.parse().ok());
                if let Some(size) = size
                    && sizes.last().is_none_or(|(_, last)| *last != size)
                {
                    sizes.push((Instant::now(), size));
                }
                std::thread::sleep(Duration::from_millis(500));
            }
            sizes
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    fn finish(mut self) -> Vec<(Instant, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn autoscalers_give_routes_the_workers_that_their_loads_ask_for() {
    let release = Release::to_be_changed();
    release.upgrade("millrace", &["metricsApi.enabled=true"]);
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-autoscaling");
    let mut by_cpu = Scaled::start(&namespace, &brokers, By::Cpu);
    let mut by_load = Scaled::start(&namespace, &brokers, By::Load);
    let topics = [by_cpu.manifests.topic.clone(), by_load.manifests.topic.clone()];
    let observer = Observer::start(&brokers.bootstrap(), &[&topics[0], &topics[1]]);

    // What a size can carry, measured before any autoscaler acts by it.
    by_load.publish(HIGH);
    by_load.scale(MANY);
    let (request, cores) = (0.060, by_load.cores());
    let target = cores / request / MIDDLE;
    eprintln!("{MANY} workers use {cores:.3} cores for {HIGH} messages a second: {target:.2} is the target");
    by_load.publish(LOW);
    by_load.scale(1);
    by_cpu.publish(LOW);
    let alone = by_load.cores() / request;
    eprintln!("one worker has a load of {alone:.2} with {LOW} messages a second");
    assert!(
        alone < target * 0.85,
        "one worker is enough for {LOW} messages a second"
    );

    for route in [&by_cpu, &by_load] {
        route.autoscale(target);
        let path = format!("hpa/{}", route.name());
        let active = "--for=condition=ScalingActive";
        namespace.kubectl(&["wait", active, &path, "--timeout=120s"]);
    }
    // One rises, then falls while the other rises; whatever one does, the other does not follow.
    let sizes = [Watched::start(&by_cpu), Watched::start(&by_load)];
    let start = Instant::now();
    step(&mut by_cpu, HIGH, MANY, PROMPT);
    stay(&by_cpu, MANY);
    assert_eq!(by_load.workers(), 1, "it has no part in the other's load");
    step(&mut by_cpu, LOW, 1, WINDOW + PROMPT);
    stay(&by_cpu, 1);
    step(&mut by_load, HIGH, MANY, PROMPT);
    stay(&by_load, MANY);
    assert_eq!(by_cpu.workers(), 1, "it has no part in the other's load");
    step(&mut by_load, LOW, 1, WINDOW + PROMPT);
    stay(&by_load, 1);
    for (route, sizes) in [&by_cpu, &by_load].into_iter().zip(sizes) {
        let sizes = sizes.finish();
        let told: Vec<String> = sizes
            .iter()
            .map(|(at, size)| format!("{size} at {} s", at.saturating_duration_since(start).as_secs()))
            .collect();
        eprintln!("{}: {}", route.name(), told.join(", "));
        let turns = sizes
            .windows(3)
            .filter(|three| (three[1].1 > three[0].1) != (three[2].1 > three[1].1));
        assert_eq!(turns.count(), 1, "it rises once, and falls once");
    }

    by_cpu.rest();
    by_load.rest();
    let acknowledged = [&by_cpu, &by_load]
        .into_iter()
        .flat_map(|route| &route.reports)
        .map(Report::acknowledged);
    observer.wait_for(acknowledged.sum(), SOON);
    let records = observer.finish();
    let reports = [by_cpu.reports, by_load.reports].concat();
    let runs: Vec<u32> = reports.iter().map(Report::run).collect();
    for report in &reports {
        let others: Vec<u32> = runs.iter().copied().filter(|run| *run != report.run()).collect();
        check(report, &records.clone().without(&others)).assert_nothing_lost();
    }
}

/// The load changes, and the route has as many workers as it asks for, in time.
fn step(route: &mut Scaled<'_>, rate: f64, workers: usize, deadline: Duration) {
    route.publish(rate);
    let what = format!(
        "{} to have {workers} workers for {rate} messages a second",
        route.name()
    );
    let took = wait_until(deadline, &what, || route.workers() == workers);
    eprintln!("{what}: {:.0} s", took.as_secs_f64());
}

/// It keeps them.
fn stay(route: &Scaled<'_>, workers: usize) {
    let since = Instant::now();
    wait_until(SOON, "some time to pass", || {
        assert_eq!(route.workers(), workers, "{} flaps", route.name());
        since.elapsed() > STEADY
    });
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn the_metrics_api_is_refused_where_another_serves_it_and_goes_with_the_release() {
    let release = Release::to_be_changed();
    let api = "v1beta2.custom.metrics.k8s.io";
    let foreign = json!({
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": api},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta2",
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"namespace": "monitoring", "name": "prometheus-adapter"},
            "insecureSkipTLSVerify": true,
        },
    });
    try_kubectl_with(&["apply", "-f", "-"], &foreign.to_string()).unwrap();
    let refused = release.try_upgrade("millrace", &["metricsApi.enabled=true"]);
    let left = kubectl(&["get", "apiservice", api, "-o", "jsonpath={.spec.service.name}"]);
    kubectl(&["delete", "apiservice", api]);
    let refused = refused.unwrap_err();
    assert!(
        refused.contains("served by Service monitoring/prometheus-adapter already"),
        "{refused}"
    );
    assert_eq!(left, "prometheus-adapter");

    release.upgrade("millrace", &["metricsApi.enabled=true", "replicas=2"]);
    let available = "--for=condition=Available";
    let path = format!("apiservice/{api}");
    kubectl(&["wait", available, &path, "--timeout=60s"]);
    let group = "/apis/custom.metrics.k8s.io/v1beta2";
    assert!(kubectl(&["get", "--raw", group]).contains("topicroutes.millrace.dev/millrace_route_load"));
    // Both are trusted: each has put its certificate in.
    let decode = "go-template={{with .spec.caBundle}}{{base64decode .}}{{end}}";
    let bundle = || kubectl(&["get", "apiservice", api, "-o", decode]);
    wait_until(SOON, "both operators to be trusted", || {
        bundle().matches("END CERTIFICATE").count() == 2
    });
    // Somebody else takes it over: it is left to them.
    let patch =
        r#"{"spec":{"service":{"namespace":"monitoring","name":"prometheus-adapter"},"caBundle":null}}"#;
    kubectl(&["patch", "apiservice", api, "--type=merge", "-p", patch]);
    let operators = || {
        let selector = "app.kubernetes.io/component=operator";
        let names = kubectl(&["get", "pods", "-n", SYSTEM, "-l", selector, "-o", "name"]);
        names.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until(SOON, "an operator to say so", || {
        operators().iter().any(|pod| {
            // One that the upgrade has replaced may be gone by now.
            let log = try_kubectl(&["logs", "-n", SYSTEM, pod, "--tail=20"]);
            log.is_ok_and(|log| log.contains("belongs to Service monitoring/prometheus-adapter"))
        })
    });
    assert_eq!(bundle(), "", "nobody adds a certificate to what is another's");

    release.put_back();
    let gone = try_kubectl(&["get", "apiservice", api]).unwrap_err();
    assert!(gone.contains("NotFound"), "{gone}");
}

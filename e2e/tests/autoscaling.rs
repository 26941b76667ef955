//! HorizontalPodAutoscalers on routes, one by CPU and one by the load that the operator serves: each has as many workers
//! as its load asks for, soon, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_e2e::{
    Brokers, Manifests, Namespace, Release, RouteHandle, SOON, SYSTEM, are_ready, kubectl, try_kubectl,
    try_kubectl_with,
};
use millrace_testkit::{Observer, Publisher, Report, check, wait_until};
use serde_json::{Value, json};

/// Messages per second of a route that has little to do, and of one that has much.
const LOW: f64 = 500.0;
const HIGH: f64 = 3_000.0;
/// How long the autoscaler waits before it goes down.
const WINDOW: Duration = Duration::from_secs(30);
/// Beyond that, either way.
const PROMPT: Duration = Duration::from_secs(60);
/// The sizes at which loads are measured.
const FEW: usize = 2;
const MANY: usize = 6;
/// What a load may be of what was measured. A message takes a third less of a machine that is busy than of one that sleeps
/// before each, and an autoscaler leaves a number as it is that misses the target by a tenth.
const SPREAD: [f64; 2] = [0.6, 1.15];
/// For so long a size that has been reached is looked at.
const STEADY: Duration = Duration::from_secs(30);

/// What a worker requests, in cores.
const REQUEST: f64 = 0.08;
/// A value that takes more to compute than what else a message costs, which depends on how many there are at once: the
/// same load has to be the same for any number of workers. Much more would have workers wait for CPU instead of using it,
/// on two cores for all.
const COSTLY: &str = ", producer: {linger: 50ms}, value: \"[1,2,3,4,5,6,7,8].all(x, [1,2,3,4,5,6,7,8].all(y, x + y > 0)) ? payload : payload\"";

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
    broker: SocketAddr,
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
        let request = format!("{:.0}m", REQUEST * 1e3);
        manifests.spec = format!("  worker: {{resources: {{requests: {{cpu: {request}}}}}}}\n");
        namespace.apply(&manifests.yaml());
        RouteHandle::new(namespace, &manifests.name).wait_ready();
        Self {
            namespace,
            by,
            manifests,
            broker: brokers.mqtt(),
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
        let publisher = Publisher::builder(self.broker)
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

    fn acknowledged(&self) -> u64 {
        let now = self.publisher.as_ref().map_or(0, Publisher::acknowledged);
        now + self.reports.iter().map(Report::acknowledged).sum::<u64>()
    }

    fn workers(&self) -> usize {
        let path = format!("topicroute/{}", self.name());
        let asked = self
            .namespace
            .kubectl(&["get", &path, "-o", "jsonpath={.spec.replicas}"]);
        asked.parse().unwrap()
    }

    /// All workers that are asked for are ready, and there are no others.
    fn are_ready(&self, workers: usize) -> bool {
        let selector = format!(
            "app.kubernetes.io/instance={},app.kubernetes.io/component=worker",
            self.name()
        );
        are_ready(self.namespace.name(), &selector, workers)
    }

    /// The route has such a size by then, and so many workers that are ready.
    fn has(&self, workers: &RangeInclusive<usize>, deadline: Instant) {
        let what = format!("{} to have {workers:?} workers", self.name());
        let rest = deadline.saturating_duration_since(Instant::now());
        let took = wait_until(rest, &what, || {
            let asked = self.workers();
            workers.contains(&asked) && self.are_ready(asked)
        });
        eprintln!("{what}: {:.0} s", took.as_secs_f64());
    }

    fn route(&self) -> RouteHandle<'_> {
        RouteHandle::new(self.namespace, self.name())
    }

    fn scale(&self, workers: usize) {
        self.route().scale(workers);
        wait_until(SOON, &format!("{workers} workers to be ready"), || {
            self.are_ready(workers)
        });
    }

    /// CPU time that all workers have used, by what they say themselves.
    fn cpu(&self) -> f64 {
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
        self.route().pods().into_iter().map(of_worker).sum()
    }

    /// CPU that all workers use, in cores, when that has become steady: lanes that have just moved take more.
    fn cores(&self) -> f64 {
        let mut last = f64::NAN;
        wait_until(SOON, "a steady load", || {
            let before = std::mem::replace(&mut last, self.cores_now());
            (last / before - 1.0).abs() < 0.1
        });
        last
    }

    /// CPU that all workers use now, in cores.
    fn cores_now(&self) -> f64 {
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

/// How many workers two loads take.
struct Sizes {
    /// The load that each of them is to have.
    target: f64,
    few: RangeInclusive<usize>,
    many: RangeInclusive<usize>,
}

impl Sizes {
    /// For loads that were measured with as many workers as they are about to have: with fewer, each is woken for more
    /// messages at once, and all of them together do less.
    fn for_loads(low: f64, high: f64) -> Self {
        // In the middle between what fewer would do, and what more are asked for.
        let target = high / (MANY as f64 - 0.5);
        let sizes = |load: f64| {
            let [least, most] = SPREAD.map(|spread| (load * spread / target).ceil() as usize);
            least.max(1)..=most
        };
        let (few, many) = (sizes(low), sizes(high));
        assert!(
            few.end() < many.start(),
            "loads of {low:.2} and {high:.2} are too near each other"
        );
        Self { target, few, many }
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
#[ignore = "needs a cluster: make e2e"]
fn autoscalers_give_routes_the_workers_that_their_loads_ask_for() {
    let release = Release::to_be_changed();
    release.upgrade("millrace", &["metricsApi.enabled=true"]);
    let brokers = Brokers::start();
    let namespace = Namespace::create("e2e-autoscaling");
    let mut by_cpu = Scaled::start(&namespace, &brokers, By::Cpu);
    let mut by_load = Scaled::start(&namespace, &brokers, By::Load);
    let topics = [by_cpu.manifests.topic.clone(), by_load.manifests.topic.clone()];
    let observer = Observer::start(&brokers.bootstrap(), &[&topics[0], &topics[1]]);

    let caught_up = |routes: [&Scaled<'_>; 2]| {
        wait_until(SOON, "Kafka to have nearly all", || {
            let acknowledged: u64 = routes.iter().map(|route| route.acknowledged()).sum();
            acknowledged < observer.distinct() + 1_000
        });
    };

    // What the load is, measured before any autoscaler acts by it, gives the sizes.
    by_load.scale(MANY);
    by_load.publish(HIGH);
    caught_up([&by_cpu, &by_load]);
    let high = by_load.cores() / REQUEST;
    by_load.publish(LOW);
    by_load.scale(FEW);
    caught_up([&by_cpu, &by_load]);
    let low = by_load.cores() / REQUEST;
    let Sizes { target, few, many } = Sizes::for_loads(low, high);
    eprintln!(
        "loads of {low:.2} and {high:.2} with {LOW} and {HIGH} messages a second: with a target of {target:.2} they take {few:?} \
         and {many:?} workers"
    );
    by_load.scale(*few.end());
    by_cpu.scale(*few.end());
    by_cpu.publish(LOW);

    for route in [&by_cpu, &by_load] {
        route.autoscale(target);
        let path = format!("hpa/{}", route.name());
        let active = "--for=condition=ScalingActive";
        namespace.kubectl(&["wait", active, &path, "--timeout=120s"]);
    }
    // One rises, then falls while the other rises: neither follows the other.
    let sizes = [Watched::start(&by_cpu), Watched::start(&by_load)];
    let start = Instant::now();
    by_cpu.publish(HIGH);
    by_cpu.has(&many, Instant::now() + PROMPT);
    stay([(&by_cpu, &many), (&by_load, &few)]);
    by_cpu.publish(LOW);
    by_load.publish(HIGH);
    let since = Instant::now();
    by_load.has(&many, since + PROMPT);
    by_cpu.has(&few, since + WINDOW + PROMPT);
    stay([(&by_cpu, &few), (&by_load, &many)]);
    by_load.publish(LOW);
    by_load.has(&few, Instant::now() + WINDOW + PROMPT);
    stay([(&by_cpu, &few), (&by_load, &few)]);
    for (route, sizes) in [&by_cpu, &by_load].into_iter().zip(sizes) {
        let sizes = sizes.finish();
        let told: Vec<String> = sizes
            .iter()
            .map(|(at, size)| format!("{size} at {} s", at.saturating_duration_since(start).as_secs()))
            .collect();
        eprintln!("{}: {}", route.name(), told.join(", "));
        let peaks = sizes
            .windows(3)
            .filter(|three| three[0].1 < three[1].1 && three[1].1 > three[2].1);
        assert_eq!(peaks.count(), 1, "it rises once, and falls once");
    }

    by_cpu.rest();
    by_load.rest();
    observer.wait_for(by_cpu.acknowledged() + by_load.acknowledged(), SOON);
    let records = observer.finish();
    let reports = [by_cpu.reports, by_load.reports].concat();
    let runs: Vec<u32> = reports.iter().map(Report::run).collect();
    for report in &reports {
        let others: Vec<u32> = runs.iter().copied().filter(|run| *run != report.run()).collect();
        check(report, &records.clone().without(&others)).assert_nothing_lost();
    }
}

/// They keep their sizes.
fn stay(routes: [(&Scaled<'_>, &RangeInclusive<usize>); 2]) {
    let since = Instant::now();
    wait_until(SOON, "some time to pass", || {
        for (route, workers) in routes {
            assert!(workers.contains(&route.workers()), "{} flaps", route.name());
        }
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

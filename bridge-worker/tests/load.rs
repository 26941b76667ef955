//! The load that autoscalers act by is the CPU time that the process takes, of what its pod requests.

mod harness;

use std::time::{Duration, Instant};

use harness::{Holding, MockKafka, WorkerProcess, route};
use millrace_contract::PayloadFormat;
use millrace_contract::status::Phase;
use millrace_testkit::{ScriptedBroker, wait_until};

const MILLICORES: u32 = 200;
/// The load is taken over ten seconds, and measured once a second.
const WINDOW: Duration = Duration::from_secs(12);
/// A changed rate has settled by then.
const SETTLES: Duration = Duration::from_secs(2);
/// How often it is asked for: the question costs CPU as well.
const PACE: Duration = Duration::from_millis(500);
/// Rates that stay well below what a core does, in messages per second. Far apart: a message costs more at a low rate, where
/// each wakes a thread of its own, and how much more varies between 190 and 250 us at 800/s.
const RATES: [u64; 3] = [200, 800, 4_000];
/// How far it may be from what the system says.
const TOLERANCE: f64 = 0.25;
/// How exactly the system says it: in ticks of 10 ms, for the program and for the kernel, of the 2 s that ten seconds have.
const RESOLUTION: f64 = 0.01;

/// Asks for the load again and again, until it has been asked for so long as `until` says.
#[track_caller]
fn load_when(worker: &WorkerProcess, what: &str, until: impl Fn(f64, Duration) -> bool) -> f64 {
    let start = Instant::now();
    let (mut asked, mut load) = (None::<Instant>, f64::NAN);
    wait_until(Duration::from_secs(60), what, || {
        if asked.is_some_and(|asked| asked.elapsed() < PACE) {
            return false;
        }
        asked = Some(Instant::now());
        load = worker.status().load;
        until(load, start.elapsed())
    });
    load
}

/// What the process takes of the CPU that is requested, by the system's word, while its load is asked for; and the load.
#[track_caller]
fn measured(worker: &WorkerProcess) -> (f64, f64) {
    // What was before is out of the load's own ten seconds at the end.
    load_when(worker, "the rate to settle", |_, lasted| lasted >= SETTLES);
    let (start, before) = (Instant::now(), worker.usage().cpu_micros);
    let load = load_when(worker, "the window to end", |_, lasted| lasted >= WINDOW);
    let used = (worker.usage().cpu_micros - before) as f64 / 1e6;
    let requested = f64::from(MILLICORES) / 1e3 * start.elapsed().as_secs_f64();
    (used / requested, load)
}

#[test]
fn the_load_is_the_cpu_time_by_the_request_and_falls_when_nothing_is_to_be_done() {
    let kafka = MockKafka::start(&["out.a"]);
    let values: Vec<String> = (0..100).map(|n| format!("{n}.5")).collect();
    let payload = format!(r#"{{"line":"north","values":[{}]}}"#, values.join(","));
    let broker = Holding::start(u64::from(u16::MAX), payload.into_bytes());
    let mut document = route(&ScriptedBroker::start(), kafka.bootstrap());
    document.settings.broker.urls = vec![broker.url()];
    document.settings.sink.producer.linger_ms = 5;
    document.live.source.payload = PayloadFormat::Json;
    document.live.mapping.value = Some(
        "merge(payload, {'hot': payload.values.filter(v, v * 1.8 + 32.0 > 100.0), 'stream': stream})".into(),
    );
    let worker = WorkerProcess::with_cpu_request(&document, MILLICORES);
    worker.wait_for("the lane to be up", |status| status.phase == Phase::Running);
    let mut loads = Vec::new();
    for rate in RATES {
        broker.publish(rate);
        let (used, load) = measured(&worker);
        let metric = worker.metric("millrace_worker_load");
        println!("{rate}/s: the load is {load:.3}, by the metric {metric:.3}, by the system {used:.3}");
        for load in [load, metric] {
            assert!(
                (load / used - 1.0).abs() < TOLERANCE,
                "{rate}/s: a load of {load}, by the system {used}"
            );
        }
        loads.push(load);
    }
    assert!(loads.is_sorted_by(|less, more| less * 1.5 < *more), "{loads:?}");
    let status = worker.status();
    assert_eq!(status.problems, []);
    assert_eq!(status.ledger.dead_lettered, 0);

    broker.publish(0);
    let (used, load) = measured(&worker);
    let metric = worker.metric("millrace_worker_load");
    println!("at rest: the load is {load:.3}, by the metric {metric:.3}, by the system {used:.3}");
    for load in [load, metric] {
        assert!(
            (load - used).abs() < RESOLUTION + TOLERANCE * used,
            "at rest: a load of {load}, by the system {used}"
        );
        // What timers and the question itself take is the machine's: the least of messages costs many times that.
        assert!(
            load < loads[0] / 4.0,
            "at rest: a load of {load}, after {loads:?}"
        );
    }
}

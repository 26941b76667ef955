//! Who has part in a move of lanes dies at a step of it: the worker that gives lanes up, the one that gets them, the
//! operator, or several of them. To be sure of the step, those who would go on are stopped (SIGSTOP) until it is over.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use millrace_contract::status::LaneState;
use millrace_contract::{LaneRecord, Ownership};
use millrace_e2e::{Plant, Process, SOON, SYSTEM, are_ready, kubectl, pauses};
use millrace_testkit::wait_until;

const LANES: u16 = 8;
/// `timeouts.failover` and five seconds.
const GAP_MS: i64 = 20_000;

/// A crash in a move from worker 1 to worker 0.
struct Crash {
    name: &'static str,
    play: fn(&Stage),
}

/// What is most likely to go wrong comes first: it is replayed in every run.
const CRASHES: [Crash; 10] = [
    Crash {
        name: "all three are killed while the lanes are to be released",
        play: |stage| {
            stage.begin_release();
            stage.operator().signal("KILL");
            stage.worker(0).signal("KILL");
            stage.worker(1).signal("KILL");
        },
    },
    Crash {
        name: "the operator is killed before it knows that the lanes are released",
        play: |stage| {
            stage.begin_release();
            stage.release_unseen();
            stage.operator().signal("KILL");
        },
    },
    Crash {
        name: "the old owner hangs until it is passed over, and goes on then",
        play: |stage| {
            let hanging = stage.worker(1);
            stage.begin_release();
            stage.wait("the lanes to be given to the other", is_moved);
            // Its pod may have been given up by now.
            hanging.signal("CONT");
        },
    },
    Crash {
        name: "the new owner is killed while nobody owns the lanes",
        play: |stage| {
            stage.begin_release();
            stage.release_unseen();
            stage.worker(0).signal("KILL");
            stage.operator().signal("CONT");
        },
    },
    Crash {
        name: "the new owner is killed when it is told to take the lanes",
        play: |stage| {
            stage.worker(0).signal("STOP");
            stage.scale(1);
            stage.wait("the lanes to be given to the other", is_moved);
            stage.worker(0).signal("KILL");
        },
    },
    Crash {
        name: "the new owner is killed when it has just taken them",
        play: |stage| {
            stage.scale(1);
            stage.wait("the lanes to be given to the other", is_moved);
            stage.worker(0).signal("KILL");
        },
    },
    Crash {
        name: "the old owner is killed before it has released the lanes",
        play: |stage| {
            stage.begin_release();
            stage.worker(1).signal("KILL");
        },
    },
    Crash {
        name: "the old owner's pod is deleted by force before it has released the lanes",
        play: |stage| {
            stage.begin_release();
            let pod = &stage.pods()[1];
            let now = ["delete", pod, "--force", "--grace-period=0"];
            stage.plant.namespace().kubectl(&now);
        },
    },
    Crash {
        name: "the operator is killed while the old owner releases the lanes",
        play: |stage| {
            stage.begin_release();
            stage.operator().signal("KILL");
            stage.worker(1).signal("CONT");
        },
    },
    Crash {
        name: "the move is taken back while the operator and the old owner are away",
        play: |stage| {
            stage.begin_release();
            stage.operator().signal("STOP");
            stage.scale(2);
            stage.worker(1).signal("KILL");
            stage.operator().signal("KILL");
            stage.wait("the lanes to be shared again", |record| counts(record) == [4, 4]);
            stage.scale(1);
        },
    },
];

/// A route with two workers, under load.
struct Stage {
    plant: Plant,
}

impl Stage {
    fn pods(&self) -> Vec<String> {
        self.plant.route().pods()
    }

    fn scale(&self, workers: usize) {
        self.plant.route().scale(workers);
    }

    fn worker(&self, ordinal: usize) -> Process {
        let pod = format!("pod/crashes-worker-{ordinal}");
        Process::of(self.plant.namespace().name(), &pod)
    }

    fn operator(&self) -> Process {
        let selector = "app.kubernetes.io/component=operator";
        let pod = kubectl(&["get", "pods", "-n", SYSTEM, "-l", selector, "-o", "name"]);
        Process::of(SYSTEM, pod.trim())
    }

    fn record(&self) -> LaneRecord {
        self.plant.route().record().unwrap()
    }

    fn wait(&self, what: &str, is: impl Fn(&LaneRecord) -> bool) {
        wait_until(SOON, what, || is(&self.record()));
    }

    /// Worker 1 is to give up its lanes, and does not.
    fn begin_release(&self) {
        self.worker(1).signal("STOP");
        self.scale(1);
        self.wait("lanes to be released", |record| {
            record
                .lanes
                .iter()
                .any(|lane| lane.ordinal == 1 && lane.state == Ownership::Releasing)
        });
    }

    /// Worker 1 gives them up, and the operator does not hear of it.
    fn release_unseen(&self) {
        self.operator().signal("STOP");
        self.worker(1).signal("CONT");
        wait_until(SOON, "worker 1 to release its lanes", || {
            let reads = |state: LaneState| matches!(state, LaneState::Up | LaneState::Connecting);
            let statuses = self.plant.statuses();
            let reading = statuses
                .iter()
                .filter(|status| status.lanes.iter().any(|lane| reads(lane.state)));
            statuses.len() == 2 && reading.count() == 1
        });
    }

    /// Replaces pods whose process was killed: the kubelet would have the next crash of the same pod wait longer and longer.
    fn renew(&self) {
        let here = self.plant.namespace().name();
        for (namespace, component) in [(here, "worker"), (SYSTEM, "operator")] {
            let selector = format!("app.kubernetes.io/component={component}");
            let restarted = "jsonpath={range .items[?(@.status.containerStatuses[0].restartCount>0)]}{.metadata.name} {end}";
            let pods = kubectl(&["get", "pods", "-n", namespace, "-l", &selector, "-o", restarted]);
            for pod in pods.split_whitespace() {
                kubectl(&["delete", "pod", "-n", namespace, pod]);
            }
            wait_until(SOON, "a pod in place of one that was killed", || {
                are_ready(namespace, &selector, 1)
            });
        }
    }

    /// All is as it is to be with so many workers.
    fn settle(&self, workers: usize) {
        wait_until(SOON, &format!("{workers} workers to own all lanes"), || {
            let owned = self
                .record()
                .lanes
                .iter()
                .all(|lane| lane.state == Ownership::Owned);
            owned && counts(&self.record()).len() == workers && self.pods().len() == workers
        });
        self.plant.route().wait_ready();
        self.plant.wait_flow(&format!("{workers} workers"));
    }
}

/// How many lanes each worker has.
fn counts(record: &LaneRecord) -> Vec<usize> {
    let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
    for lane in &record.lanes {
        *counts.entry(lane.ordinal).or_default() += 1;
    }
    counts.into_values().collect()
}

/// Whether worker 0 has all lanes.
fn is_moved(record: &LaneRecord) -> bool {
    record
        .lanes
        .iter()
        .all(|lane| lane.ordinal == 0 && lane.state == Ownership::Owned)
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn crashes_in_a_move_lose_nothing() {
    replay(&CRASHES[..3]);
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn crashes_at_every_step_of_a_move_lose_nothing() {
    replay(&CRASHES);
}

fn replay(crashes: &[Crash]) {
    let stage = Stage {
        plant: Plant::start("crashes", |manifests| manifests.lanes = LANES),
    };
    stage.settle(2);
    for crash in crashes {
        let start = std::time::Instant::now();
        (crash.play)(&stage);
        stage.settle(1);
        eprintln!(
            "{}: over after {:.1} s",
            crash.name,
            start.elapsed().as_secs_f64()
        );
        stage.renew();
        stage.scale(2);
        stage.settle(2);
    }
    let (verdict, records) = stage.plant.finish();
    let pauses = pauses(&records, LANES);
    let longest = pauses.values().flatten().map(|pause| pause.end - pause.start);
    let longest = longest.max().unwrap();
    eprintln!(
        "the longest time without a message of a filter: {:.1} s; {} records were written twice",
        longest as f64 / 1e3,
        verdict.duplicates
    );
    assert!(longest <= GAP_MS, "{longest} ms");
}

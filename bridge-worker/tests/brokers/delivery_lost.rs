//! A worker is stopped (SIGSTOP) for longer than its group waits for it. Another one takes its partitions over; it learns
//! of that only when it goes on, with messages on their way and offsets to commit that are not its own any more.

use crate::support::{Commands, DEVICES, Log, PARTITIONS, SOON, Worker, last};
use millrace_contract::status::{DeliveryStatus, Phase};
use millrace_testkit::{Kafka, Mosquitto, Subscriber, check, committed, partition_ends, wait_until};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Commands per second.
const RATE: f64 = 1_000.0;
/// What the worker has published, and the broker has not answered, when it is stopped.
const UNANSWERED: u64 = 100;

#[test]
fn a_worker_that_is_stopped_until_another_has_its_partitions_loses_nothing_and_takes_part_again() {
    let log = Log::start();
    let mut mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::builder().with_proxy().start();
    for qos in [1, 2] {
        stop_one_of_two(qos, &log, &mut mosquitto, &kafka);
    }
}

fn stop_one_of_two(qos: u8, log: &Log, mosquitto: &mut Mosquitto, kafka: &Kafka) {
    let devices = Subscriber::start(mosquitto.port(), DEVICES, qos, |device| {
        Commands::topic(&format!("commands{qos}"), device)
    });
    let mut commands = Commands::start(mosquitto, kafka, qos, RATE);
    commands.scale(2);
    commands.wait_flow(&devices);
    let (group, topic) = (commands.route.group(), commands.route.topic.clone());
    let watch = Watch::start(kafka.bootstrap(), group.clone(), topic.clone());

    let before = commands.witness.repeats();
    let partitions = delivery(&commands.workers[0]).partitions;
    let mut offsets = BTreeMap::new();
    wait_until(SOON, "Kafka to say what is committed", || {
        offsets = committed(&kafka.bootstrap(), &group, &topic).unwrap_or_default();
        offsets.len() == PARTITIONS as usize
    });
    mosquitto.pause();
    wait_until(SOON, "unanswered messages", || {
        delivery(&commands.workers[0]).connection.window >= UNANSWERED
    });
    stop(&mut commands.workers[0]);
    mosquitto.resume();
    // It has nothing that was committed before, or written later.
    let ends = partition_ends(&kafka.bootstrap(), &topic);
    let under_way = partitions.iter().map(|one| {
        let committed = u64::try_from(offsets[&one.partition]).expect("an offset");
        ends[one.partition as usize] - committed
    });
    let under_way: u64 = under_way.sum();

    wait_until(SOON, "the other worker to have all partitions", || {
        commands.workers[1].partitions() == PARTITIONS as usize
    });
    commands.wait_flow(&devices);
    log.say(&format!(
        "QoS {qos}: taken over, {} of at most {under_way} records were repeated",
        commands.witness.repeats() - before
    ));

    commands.workers[0].resume();
    wait_until(SOON, "it to see that its partitions are lost", || {
        let log = commands.workers[0].log();
        let mut lines = log.lines();
        lines.any(|line| line.contains("partitions have gone") && line.contains("\"lost\":true"))
    });
    commands.wait_shared_out();
    commands.wait_flow(&devices);
    wait_until(SOON, "nothing to be wrong with it", || {
        let status = commands.workers[0].status();
        status.phase == Phase::Running && status.problems.is_empty()
    });

    let witness = commands.witness.clone();
    let report = commands.finish(log, &devices, kafka);
    let (rises, falls) = watch.finish();
    let repeats = witness.repeats() - before;
    let verdict = check(&report, &devices.finish());
    log.say(&format!(
        "QoS {qos}: {repeats} repeats, offsets seen to rise {rises} times\n{verdict}"
    ));
    verdict.assert_nothing_lost();
    assert_eq!(falls, [] as [String; 0]);
    assert!(rises > 20, "offsets were seen to rise {rises} times");
    // Once by who took over, and once more by who had been stopped.
    let explained = UNANSWERED..=2 * under_way;
    assert!(
        explained.contains(&repeats),
        "{repeats} repeats, not {explained:?}"
    );
}

fn delivery(worker: &Worker) -> DeliveryStatus {
    worker.status().delivery.expect("the status of a delivery")
}

/// SIGSTOP, and waits until it has come to rest.
fn stop(worker: &mut Worker) {
    worker.pause();
    let stat = format!("/proc/{}/stat", worker.pid());
    wait_until(SOON, "the worker to be stopped", || {
        let stat = std::fs::read_to_string(&stat).expect("a running worker");
        stat.contains(") T ")
    });
}

/// Looks again and again at what a group has committed.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Vec<String>)>,
}

impl Watch {
    /// Of a group that reads one topic, until it is finished.
    fn start(bootstrap: String, group: String, topic: String) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let (mut offsets, mut rises, mut falls) = (BTreeMap::new(), 0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                for (partition, now) in committed(&bootstrap, &group, &topic).unwrap_or_default() {
                    let before = offsets.insert(partition, now).unwrap_or(0);
                    rises += u64::from(now > before);
                    if now < before {
                        falls.push(format!("partition {partition}: from {before} to {now}"));
                    }
                }
                last(Duration::from_millis(20));
            }
            (rises, falls)
        });
        Watch { stop, thread }
    }

    /// How often an offset has risen, and where one has fallen.
    fn finish(self) -> (u64, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch")
    }
}

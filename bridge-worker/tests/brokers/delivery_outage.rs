//! The MQTT broker is away while commands keep coming to Kafka. The worker stays a member of its group, in little memory;
//! everything arrives when the broker is back.

use crate::support::{Log, Route, SOON, Worker, last};
use millrace_testkit::{Kafka, Mosquitto, Subscriber, Writer, check, wait_until};
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 6;
const DEVICES: u32 = 50;
const RATE: f64 = 5_000.0;
const AWAY: Duration = Duration::from_secs(60);
/// The most memory that the worker may take.
const MEMORY: u64 = 64 * 1024 * 1024;

/// With 5,000 commands a second for a minute, the worker has all partitions all the time.
#[test]
fn a_minute_without_the_broker_is_spent_in_the_group_and_in_little_memory() {
    let log = Log::start();
    // Its sessions outlive it, and take what comes at once after a minute.
    let mut mosquitto = Mosquitto::builder().persistence(true).max_queued(0).start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("outage", PARTITIONS as i32);
    let devices = Subscriber::start(mosquitto.port(), DEVICES, 1, |device| format!("{topic}/{device}"));
    let route = Route::new(&topic, mosquitto.port(), &kafka.bootstrap(), &topic);
    let mut worker = Worker::new(&route.delivery());
    worker.start();
    worker.wait_ready();
    let writer = Writer::start(&kafka.bootstrap(), &topic, PARTITIONS, DEVICES, RATE);
    devices.wait_for(2 * RATE as u64, SOON);

    let before = writer.confirmed();
    mosquitto.terminate();
    let until = Instant::now() + AWAY;
    while Instant::now() < until {
        assert_eq!(worker.partitions(), PARTITIONS as usize);
        last(Duration::from_millis(500));
    }
    let waiting = writer.confirmed() - devices.distinct();
    log.say(&format!(
        "{waiting} records wait, the worker took at most {} MiB",
        worker.peak_memory() >> 20
    ));
    assert!(
        writer.confirmed() - before >= (AWAY.as_secs_f64() * RATE * 0.9) as u64,
        "too few records came meanwhile"
    );
    mosquitto.start();
    let back = Instant::now();
    wait_until(SOON, "commands to flow normally", || {
        devices.distinct() + RATE as u64 >= writer.confirmed()
    });
    log.say(&format!("normal flow after {:?}", back.elapsed()));

    let report = writer.finish(SOON);
    devices.wait_for(report.sent(), SOON);
    worker.settled();
    assert_eq!(
        worker.log().matches("partitions have gone").count(),
        0,
        "it has left its group:\n{}",
        worker.log()
    );
    worker.terminate();
    let verdict = check(&report, &devices.finish());
    let peak = worker.peak_memory();
    log.say(&format!("the worker took at most {} MiB\n{verdict}", peak >> 20));
    verdict.assert_nothing_lost();
    assert!(peak <= MEMORY, "the worker took {} MiB", peak >> 20);
}

/// Another worker comes and goes while the first one has read as much as it may: what it gave away and got back is read on.
#[test]
fn partitions_that_go_and_come_back_while_the_broker_is_away_are_read_on() {
    // More than the first worker takes, and half of them less.
    const COMMANDS: u64 = 90_000;
    let log = Log::start();
    let mut mosquitto = Mosquitto::builder().persistence(true).max_queued(0).start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("away", PARTITIONS as i32);
    let devices = Subscriber::start(mosquitto.port(), DEVICES, 1, |device| format!("{topic}/{device}"));
    mosquitto.terminate();
    let writer = Writer::start(&kafka.bootstrap(), &topic, PARTITIONS, DEVICES, 30_000.0);
    writer.wait_confirmed(COMMANDS, SOON);
    let report = writer.finish(SOON);

    let route = Route::new(&topic, mosquitto.port(), &kafka.bootstrap(), &topic);
    let mut workers = [0, 1].map(|ordinal| Worker::numbered(&route.delivery(), ordinal));
    let partitions = |workers: &[Worker; 2]| workers.each_ref().map(Worker::partitions);
    workers[0].start();
    let buffered = |worker: &Worker| worker.status().buffered_bytes;
    wait_until(SOON, "the first worker to have read as much as it may", || {
        let before = buffered_if_up(&workers[0]);
        last(Duration::from_secs(1));
        before > 8 << 20 && before == buffered(&workers[0])
    });
    let most = buffered(&workers[0]);
    workers[1].start();
    wait_until(SOON, "both to have partitions", || {
        partitions(&workers).iter().all(|count| *count > 0)
    });
    workers[1].terminate();
    wait_until(SOON, "the first worker to have all again", || {
        workers[0].partitions() == PARTITIONS as usize
    });
    log.say(&format!(
        "{} MiB were buffered, {} are",
        most >> 20,
        buffered(&workers[0]) >> 20
    ));
    mosquitto.start();
    devices.wait_for(report.sent(), SOON);
    workers[0].settled();
    assert_eq!(buffered(&workers[0]), 0);
    workers[0].terminate();
    check(&report, &devices.finish()).assert_nothing_lost();
}

fn buffered_if_up(worker: &Worker) -> u64 {
    match worker.partitions() {
        0 => 0,
        _ => worker.status().buffered_bytes,
    }
}

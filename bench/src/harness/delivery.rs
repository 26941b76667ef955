//! Runs the other way: from Apache Kafka to a broker that takes messages.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use millrace_testkit::{Kafka, Mosquitto, Usage};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::Timing;
use super::bridge::{Bridge, Lab};
use super::document::{COMMANDS, RECEIVE_MAXIMUM, delivery};
use super::part::Part;
use super::sample::{Sample, Subject};
use crate::broker::Listening;
use crate::load::Published;
use crate::payload;
use crate::taker::Taken;

/// Records that are there to be delivered: more than a run takes.
const RECORDS: u64 = 4_000_000;
/// Bytes of each.
const SIZE: usize = 100;
/// Keys of the records, each a topic.
const KEYS: u64 = 100;
const PARTITIONS: i32 = 8;
/// For Kafka to take them all.
const WRITTEN: Duration = Duration::from_secs(120);

/// Creates the topic of commands and fills it.
pub(super) fn fill(kafka: &Kafka) -> anyhow::Result<()> {
    kafka.create_topic(COMMANDS, PARTITIONS, &[]);
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("linger.ms", "20")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    let values: Vec<Vec<u8>> = (0..KEYS).map(|n| payload::telemetry(SIZE, n)).collect();
    let keys: Vec<String> = (0..KEYS).map(|n| format!("plant{n:03}")).collect();
    for number in 0..RECORDS {
        let place = (number % KEYS) as usize;
        loop {
            let record = BaseRecord::to(COMMANDS)
                .key(&keys[place])
                .payload(&values[place])
                .partition((number % PARTITIONS as u64) as i32);
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(WRITTEN).context("Kafka did not take the commands")
}

/// A group that has read nothing yet.
fn group() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// To the synthetic broker.
pub(super) fn synthetic(kafka: &Kafka, lab: &Lab, timing: Timing) -> anyhow::Result<Sample> {
    let mut taker = Part::start(&lab.bench, &["take".into()], &lab.logs)?;
    let port = taker.answer::<Listening>()?.port;
    let route = delivery(port, &kafka.bootstrap(), &group());
    let mut bridge = Bridge::start(lab, Subject::Worker, &route)?;
    bridge.wait(|| Ok(taker.ask::<Taken>("stats")?.messages > 0))?;

    std::thread::sleep(timing.warm);
    let mut look = || -> anyhow::Result<(Taken, Usage)> { Ok((taker.ask("stats")?, bridge.usage()?)) };
    let (first, before) = look()?;
    std::thread::sleep(timing.measure);
    let (last, after) = look()?;
    let seconds = (last.at_ns - first.at_ns) as f64 / 1e9;
    let messages = last.messages - first.messages;
    let mut sample = Sample::new(Subject::Worker, messages, seconds, before, after);
    bridge.add_status(&mut sample)?;
    expect_more(&mut sample, last.messages);
    Ok(sample)
}

/// To mosquitto. The contender is a publisher that has nothing else to do, and reads nothing.
pub(super) fn real(kafka: &Kafka, lab: &Lab, subject: Subject, timing: Timing) -> anyhow::Result<Sample> {
    let mosquitto = Mosquitto::builder().config("log_dest none").start();
    match subject {
        Subject::Worker => bridged(kafka, lab, &mosquitto, timing),
        Subject::Contender => raw(lab, &mosquitto, timing),
    }
}

fn bridged(kafka: &Kafka, lab: &Lab, mosquitto: &Mosquitto, timing: Timing) -> anyhow::Result<Sample> {
    let route = delivery(mosquitto.port(), &kafka.bootstrap(), &group());
    let mut bridge = Bridge::start(lab, Subject::Worker, &route)?;
    bridge.wait(|| Ok(true))?;
    std::thread::sleep(timing.warm);
    let look = || -> anyhow::Result<(Instant, u64, Usage)> {
        let written = bridge.written()?;
        Ok((Instant::now(), written, bridge.usage()?))
    };
    let (began, first, before) = look()?;
    std::thread::sleep(timing.measure);
    let (ended, last, after) = look()?;
    let seconds = (ended - began).as_secs_f64();
    let mut sample = Sample::new(Subject::Worker, last - first, seconds, before, after);
    bridge.add_status(&mut sample)?;
    expect_more(&mut sample, last);
    Ok(sample)
}

/// One connection with one window, as the worker has: mosquitto sets no limit here.
fn raw(lab: &Lab, mosquitto: &Mosquitto, timing: Timing) -> anyhow::Result<Sample> {
    let arguments = [
        "load".into(),
        format!("--port={}", mosquitto.port()),
        "--connections=1".into(),
        format!("--window={RECEIVE_MAXIMUM}"),
        format!("--size={SIZE}"),
    ];
    let mut load = Part::start(&lab.bench, &arguments, &lab.logs)?;
    load.answer::<Published>()?;
    std::thread::sleep(timing.warm);
    let mut look = || -> anyhow::Result<(Instant, Published)> {
        let published = load.ask("stats")?;
        Ok((Instant::now(), published))
    };
    let (began, first) = look()?;
    std::thread::sleep(timing.measure);
    let (ended, last) = look()?;
    let seconds = (ended - began).as_secs_f64();
    // Its CPU time is nothing to compare with: it reads no Kafka.
    let nothing = Usage::default();
    Ok(Sample::new(
        Subject::Contender,
        last.acked - first.acked,
        seconds,
        nothing,
        nothing,
    ))
}

/// Notes as a violation that there was not always something to deliver.
fn expect_more(sample: &mut Sample, delivered: u64) {
    if delivered >= RECORDS {
        sample
            .violations
            .push(format!("all {RECORDS} records were delivered before the end"));
    }
}

//! Runs against the synthetic broker and the mock cluster.

use std::time::{Duration, Instant};

use millrace_testkit::Usage;

use super::Timing;
use super::bridge::{Bridge, Lab};
use super::cases::Synthetic;
use super::document::{SITES, document, kafka_topics};
use super::part::Part;
use super::sample::{Sample, Subject};
use crate::broker::{Listening, Snapshot};
use crate::kafka::{Done, Serving};

/// The longest a bridge may take until messages flow again after Kafka has come back.
const RECOVERY: Duration = Duration::from_secs(30);

/// How often memory is read while Kafka is away.
const LOOK: Duration = Duration::from_millis(250);

/// The parts of a run.
struct Rig {
    broker: Part,
    kafka: Part,
    bridge: Bridge,
}

impl Rig {
    /// Starts everything and waits until messages flow.
    fn start(lab: &Lab, load: &Synthetic, subject: Subject) -> anyhow::Result<Self> {
        let topics = kafka_topics().join(",");
        let kafka = Part::start(
            &lab.bench,
            &["kafka".into(), "--topics".into(), topics],
            &lab.logs,
        )?;
        let bootstrap = kafka.answer::<Serving>()?.bootstrap;
        let mut arguments = vec![
            "broker".into(),
            format!("--size={}", load.size),
            format!("--sites={SITES}"),
        ];
        arguments.extend(load.rate.map(|rate| format!("--rate={rate}")));
        arguments.extend(load.overrun.map(|window| format!("--overrun={window}")));
        let mut broker = Part::start(&lab.bench, &arguments, &lab.logs)?;
        let port = broker.answer::<Listening>()?.port;
        let route = document(port, &bootstrap, load.qos, load.linger_ms, load.compression);
        let mut bridge = Bridge::start(lab, subject, &route)?;
        bridge.wait(|| {
            let seen: Snapshot = broker.ask("stats")?;
            Ok(seen.subscribed && (seen.acked > 0 || load.rate == Some(0)))
        })?;
        Ok(Self {
            broker,
            kafka,
            bridge,
        })
    }

    /// Counters and usage, read right after each other.
    fn look(&mut self) -> anyhow::Result<(Snapshot, Usage)> {
        Ok((self.broker.ask("stats")?, self.bridge.usage()?))
    }

    /// Seconds until new messages flow, after `acked` of them. `None`: they do not.
    fn recovery(&mut self, acked: u64) -> anyhow::Result<Option<f64>> {
        let back = Instant::now();
        let flowing = acked + 2 * u64::from(u16::MAX); // more than can have been in flight
        while back.elapsed() < RECOVERY {
            if self.look()?.0.acked > flowing {
                return Ok(Some(back.elapsed().as_secs_f64()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }
}

/// One run.
pub fn run(lab: &Lab, load: &Synthetic, subject: Subject, timing: Timing) -> anyhow::Result<Sample> {
    let mut rig = Rig::start(lab, load, subject)?;
    std::thread::sleep(timing.warm);
    let (first, before) = rig.look()?;
    std::thread::sleep(timing.measure);
    let (last, after) = rig.look()?;
    let mut sample = sample(subject, &first, &last, before, after);
    rig.bridge.add_status(&mut sample)?;
    sample.expect_rate(load.rate);
    Ok(sample)
}

/// One run in which Kafka is away for `down` while the broker goes on sending.
pub fn run_outage(
    lab: &Lab,
    load: &Synthetic,
    subject: Subject,
    timing: Timing,
    down: Duration,
) -> anyhow::Result<Sample> {
    let mut rig = Rig::start(lab, load, subject)?;
    std::thread::sleep(timing.warm);
    let (first, before) = rig.look()?;
    rig.kafka.ask::<Done>("down")?;
    let end = Instant::now() + down;
    while Instant::now() < end {
        rig.bridge.usage()?; // an error if it has given up
        std::thread::sleep(LOOK);
    }
    let (last, after) = rig.look()?;
    let mut sample = sample(subject, &first, &last, before, after);
    rig.kafka.ask::<Done>("up")?;
    sample.recovery_seconds = rig.recovery(last.acked)?;
    sample.violations = violations(&rig.broker.ask("stats")?);
    if sample.recovery_seconds.is_none() {
        let violation = format!("no messages {RECOVERY:?} after Kafka came back");
        sample.violations.push(violation);
    }
    Ok(sample)
}

/// What the two ends of an interval say.
fn sample(subject: Subject, first: &Snapshot, last: &Snapshot, before: Usage, after: Usage) -> Sample {
    let messages = last.acked - first.acked;
    let seconds = (last.at_ns - first.at_ns) as f64 / 1e9;
    Sample {
        latency_us: last.latency_us,
        out_of_order: last.out_of_order,
        acks_per_read: Some(messages as f64 / (last.reads - first.reads).max(1) as f64),
        violations: violations(last),
        ..Sample::new(subject, messages, seconds, before, after)
    }
}

/// What an honest client does not do.
fn violations(seen: &Snapshot) -> Vec<String> {
    let mut violations = Vec::new();
    if seen.connections != 1 {
        violations.push(format!("connected {} times", seen.connections));
    }
    if seen.unknown > 0 {
        violations.push(format!("{} acks of ids that were not outstanding", seen.unknown));
    }
    if seen.out_of_order > 0 {
        violations.push(format!("{} acks out of order", seen.out_of_order));
    }
    violations
}

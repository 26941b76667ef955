//! Runs against mosquitto and Apache Kafka.

use std::time::Instant;

use millrace_contract::Compression;
use millrace_testkit::{Kafka, Mosquitto, Usage};

use super::Timing;
use super::bridge::{Bridge, Lab};
use super::delivery;
use super::document::{SITES, document, kafka_topics};
use super::part::Part;
use super::sample::{Sample, Subject};
use crate::load::Published;
use crate::stats::Percentiles;

/// Partitions of each topic.
const PARTITIONS: i32 = 8;

/// The Kafka that all runs share: it takes seconds to start, and more to get warm.
pub(super) struct Site {
    kafka: Kafka,
    topics: Vec<String>,
    /// Whether the topic of commands is there, and full.
    is_filled: bool,
}

impl Site {
    pub(super) fn start() -> Self {
        // The full compiler: it is to be fast here, not to start quickly.
        let kafka = Kafka::builder().jvm("-XX:TieredStopAtLevel=4").start();
        let topics = kafka_topics();
        for topic in &topics {
            kafka.create_topic(topic, PARTITIONS, &[]);
        }
        Self {
            kafka,
            topics,
            is_filled: false,
        }
    }

    /// One run the other way, with a consumer group of its own: all records are there to be read.
    pub(super) fn deliver(
        &mut self,
        lab: &Lab,
        real: bool,
        subject: Subject,
        timing: Timing,
    ) -> anyhow::Result<Sample> {
        if !self.is_filled {
            delivery::fill(&self.kafka)?;
            self.is_filled = true;
        }
        match real {
            true => delivery::real(&self.kafka, lab, subject, timing),
            false => delivery::synthetic(&self.kafka, lab, timing),
        }
    }

    /// One run, with a mosquitto of its own: no session of an earlier run is left in it. Messages are counted in
    /// Kafka; at a rate, a consumer measures latencies.
    pub(super) fn run(
        &self,
        lab: &Lab,
        rate: Option<u64>,
        subject: Subject,
        timing: Timing,
    ) -> anyhow::Result<Sample> {
        let mosquitto = Mosquitto::builder().config("log_dest none").start();
        let bootstrap = self.kafka.bootstrap();
        let route = document(mosquitto.port(), &bootstrap, 1, 5, Compression::None);
        let mut bridge = Bridge::start(lab, subject, &route)?;
        let mut consumer = match rate {
            Some(_) => Some(self.consumer(lab)?),
            None => None,
        };
        let start = self.records();
        let mut load = vec![
            "load".into(),
            format!("--port={}", mosquitto.port()),
            format!("--sites={SITES}"),
        ];
        load.extend(rate.map(|rate| format!("--rate={rate}")));
        let load = Part::start(&lab.bench, &load, &lab.logs)?;
        load.answer::<Published>()?;
        bridge.wait(|| Ok(self.records() > start))?;

        std::thread::sleep(timing.warm);
        ask(&mut consumer)?;
        let (began, first, before) = self.look(&bridge)?;
        std::thread::sleep(timing.measure);
        let (ended, last, after) = self.look(&bridge)?;
        let latency_us = ask(&mut consumer)?;
        let seconds = (ended - began).as_secs_f64();
        let mut sample = Sample {
            latency_us,
            ..Sample::new(subject, last - first, seconds, before, after)
        };
        bridge.add_status(&mut sample)?;
        sample.expect_rate(rate);
        Ok(sample)
    }

    /// Time, records in Kafka and usage of the bridge, right after each other.
    fn look(&self, bridge: &Bridge) -> anyhow::Result<(Instant, u64, Usage)> {
        let records = self.records();
        Ok((Instant::now(), records, bridge.usage()?))
    }

    fn records(&self) -> u64 {
        self.topics
            .iter()
            .map(|topic| self.kafka.end_offsets(topic))
            .sum()
    }

    fn consumer(&self, lab: &Lab) -> anyhow::Result<Part> {
        let arguments = [
            "consume".into(),
            "--bootstrap".into(),
            self.kafka.bootstrap(),
            "--topics".into(),
            self.topics.join(","),
        ];
        let consumer = Part::start(&lab.bench, &arguments, &lab.logs)?;
        consumer.answer::<Percentiles>()?;
        Ok(consumer)
    }
}

/// The latencies since the last time.
fn ask(consumer: &mut Option<Part>) -> anyhow::Result<Percentiles> {
    consumer
        .as_mut()
        .map_or_else(|| Ok(Percentiles::default()), |consumer| consumer.ask("stats"))
}

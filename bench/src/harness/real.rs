//! Runs against mosquitto and Apache Kafka.

use std::time::Instant;

use millrace_contract::{Compression, Tls, Value};
use millrace_testkit::{Authority, Issued, Kafka, Mosquitto, Usage};

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
    authority: Authority,
    /// What mosquitto and Kafka show where TLS is spoken.
    server: Issued,
    topics: Vec<String>,
    /// Whether the topic of commands is there, and full.
    is_filled: bool,
}

impl Site {
    pub(super) fn start() -> Self {
        let authority = Authority::new("bench");
        // Of another name than the authority: OpenSSL would take it for one that has signed itself.
        let server = authority.issue("server", &["localhost", "127.0.0.1"]);
        let keys = server.both();
        // The full compiler: it is to be fast here, not to start quickly.
        let kafka = Kafka::builder()
            .jvm("-XX:TieredStopAtLevel=4")
            .listener("TLS", "SSL")
            .property("listener.name.tls.ssl.keystore.type", "PEM")
            .property(
                "listener.name.tls.ssl.keystore.location",
                &keys.display().to_string(),
            )
            .start();
        let topics = kafka_topics();
        for topic in &topics {
            kafka.create_topic(topic, PARTITIONS, &[]);
        }
        Self {
            kafka,
            authority,
            server,
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
        let bridge = Bridge::start(lab, subject, &route)?;
        self.measure(lab, &mosquitto, bridge, rate, subject, timing)
    }

    /// One run of the worker: with TLS at both ends, or without where it is to be compared with that.
    pub(super) fn run_with_tls(
        &self,
        lab: &Lab,
        rate: u64,
        subject: Subject,
        timing: Timing,
    ) -> anyhow::Result<Sample> {
        let mosquitto = Mosquitto::builder()
            .config("log_dest none")
            .listener(&[
                "allow_anonymous true".into(),
                format!("certfile {}", self.server.certificate().display()),
                format!("keyfile {}", self.server.key().display()),
            ])
            .start();
        let mut route = document(mosquitto.port(), &self.kafka.bootstrap(), 1, 5, Compression::None);
        if subject == Subject::Worker {
            let trust = Tls {
                ca: Some(Value::File(self.authority.certificate())),
                ..Tls::default()
            };
            let settings = &mut route.settings;
            settings.broker.urls = vec![format!("mqtts://localhost:{}", mosquitto.listener(0))];
            settings.sink.bootstrap_servers = vec![self.kafka.listener("TLS")];
            (settings.broker.tls, settings.sink.tls) = (Some(trust.clone()), Some(trust));
        }
        let bridge = Bridge::start(lab, Subject::Worker, &route)?;
        self.measure(lab, &mosquitto, bridge, Some(rate), subject, timing)
    }

    fn measure(
        &self,
        lab: &Lab,
        mosquitto: &Mosquitto,
        mut bridge: Bridge,
        rate: Option<u64>,
        subject: Subject,
        timing: Timing,
    ) -> anyhow::Result<Sample> {
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

//! A consumer that measures the time from publish to receipt from Kafka. Its own share is part of the figure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use hdrhistogram::Histogram;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use crate::{payload, stats};

/// What is consumed.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// `host:port` of Kafka.
    #[arg(long)]
    pub bootstrap: String,
    /// Topics; all their partitions are read, from their ends.
    #[arg(long, value_delimiter = ',', required = true)]
    pub topics: Vec<String>,
}

/// Reads until standard input ends. Prints [`stats::Percentiles`] in microseconds once it reads, and as the answer
/// to `stats`, which starts a new interval.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let consumer = assign(options)?;
    let latencies = Arc::new(Mutex::new(stats::histogram()));
    let recorded = Arc::clone(&latencies);
    std::thread::spawn(move || {
        for message in consumer.iter() {
            match message {
                Ok(message) => record(&recorded, message.payload().and_then(payload::stamped)),
                Err(error) => eprintln!("consumer: {error}"),
            }
        }
    });
    print(&latencies)?;
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "stats" => print(&latencies)?,
            other => anyhow::bail!("unknown command {other:?}; known: stats"),
        }
    }
    Ok(())
}

fn assign(options: &Options) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &options.bootstrap)
        .set("group.id", "millrace-bench")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "100") // how long Kafka holds a fetch that finds nothing; data ends it at once
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for topic in &options.topics {
        let metadata = consumer
            .fetch_metadata(Some(topic), Duration::from_secs(10))
            .context("no metadata")?;
        for partition in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
            let (_, end) = consumer.fetch_watermarks(topic, partition.id(), Duration::from_secs(10))?;
            partitions.add_partition_offset(topic, partition.id(), Offset::Offset(end))?;
        }
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

fn record(latencies: &Mutex<Histogram<u64>>, sent: Option<u64>) {
    let Some(sent) = sent else { return };
    let micros = payload::now().saturating_sub(sent) / 1000;
    latencies
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .saturating_record(micros);
}

fn print(latencies: &Mutex<Histogram<u64>>) -> anyhow::Result<()> {
    let mut latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", serde_json::to_string(&stats::Percentiles::of(&latencies))?);
    latencies.reset();
    Ok(())
}

//! A mock Kafka cluster of one broker: librdkafka's own, so that the sink costs next to nothing.

use anyhow::Context as _;
use rdkafka::mocking::MockCluster;
use serde::{Deserialize, Serialize};

/// What the cluster has.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Topics, created at the start.
    #[arg(long, value_delimiter = ',', required = true)]
    pub topics: Vec<String>,
    /// Partitions of each topic.
    #[arg(long, default_value_t = 8)]
    pub partitions: i32,
}

/// The first line the cluster prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Serving {
    /// What clients connect to, `host:port`.
    pub bootstrap: String,
}

/// The answer to each command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Done {
    /// The command.
    pub done: String,
}

/// The only broker's id.
const BROKER: i32 = 1;

/// Serves until standard input ends. Commands: `down` closes all connections and refuses new ones, `up` ends that.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cluster = MockCluster::new(1).context("cannot start the mock cluster")?;
    for topic in &options.topics {
        cluster
            .create_topic(topic, options.partitions, 1)
            .with_context(|| format!("cannot create {topic}"))?;
    }
    println!(
        "{}",
        serde_json::to_string(&Serving {
            bootstrap: cluster.bootstrap_servers()
        })?
    );
    for line in std::io::stdin().lines() {
        let done = line?;
        match done.as_str() {
            "down" => cluster.broker_down(BROKER)?,
            "up" => cluster.broker_up(BROKER)?,
            other => anyhow::bail!("unknown command {other:?}; known: down, up"),
        }
        println!("{}", serde_json::to_string(&Done { done })?);
    }
    Ok(())
}

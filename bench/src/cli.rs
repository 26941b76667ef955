//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{broker, consume, contender, harness, kafka, load, taker};

/// Measures bridge-worker and compares it with a straightforward bridge.
#[derive(Debug, Parser)]
#[command(name = "millrace-bench", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole matrix and print one table.
    All(harness::Options),
    /// Part: a synthetic MQTT 5 broker that sends as fast as the client's window allows, or at a rate.
    Broker(broker::Options),
    /// Part: a synthetic MQTT 5 broker that takes messages.
    Take,
    /// Part: a mock Kafka cluster of one broker.
    Kafka(kafka::Options),
    /// Part: the straightforward bridge that the worker is compared with.
    Contender(contender::Options),
    /// Part: a publisher for a real MQTT broker.
    Load(load::Options),
    /// Part: a consumer that measures the time from publish to receipt from Kafka.
    Consume(consume::Options),
}

impl Cli {
    /// Runs the command. [`ExitCode::FAILURE`]: a target was missed.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::All(options) => return harness::run(&options),
            Command::Broker(options) => broker::run(&options)?,
            Command::Take => taker::run()?,
            Command::Kafka(options) => kafka::run(&options)?,
            Command::Contender(options) => contender::run(&options)?,
            Command::Load(options) => load::run(&options)?,
            Command::Consume(options) => consume::run(&options)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

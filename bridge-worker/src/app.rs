//! The `bridge-worker` process.

mod leave;
mod operated;
mod probe;
mod report;
mod run;
mod watched;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use millrace_contract::{AnyDocument, Live, LiveToMqtt, Settings};
use serde::de::DeserializeOwned;

use crate::telemetry::{self, LogFormat};

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;

/// Moves the messages of one route.
#[derive(Debug, Parser)]
#[command(name = "bridge-worker", version, subcommand_required = true)]
struct Cli {
    /// How logs are written to standard error.
    #[arg(long, value_enum, default_value_t, global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a route until SIGTERM, then drain: what is in flight is confirmed and acknowledged first.
    Run(run::Run),
    /// Try what a route will do, and report what the MQTT broker can and what is in Kafka.
    Probe(probe::Probe),
    /// End a route's MQTT sessions for good: unsubscribe, write what the broker still holds, and leave nothing there.
    Leave(leave::Leave),
}

/// What was asked for cannot be understood: a file that is not there, or is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

/// Runs the process with the arguments it was given.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is there to be told that it could not be printed.
            error.print().ok();
            return if error.use_stderr() {
                USAGE.into()
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = telemetry::init(cli.log_format, "info")
        .map_err(anyhow::Error::from)
        .and_then(|()| match cli.command {
            Command::Run(run) => run.run(),
            Command::Probe(probe) => probe.run(),
            Command::Leave(leave) => leave.run(),
        });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        if error.is::<UsageError>() {
            USAGE.into()
        } else {
            ExitCode::FAILURE
        }
    })
}

/// Reads a JSON file that was named on the command line.
fn read_json<T: DeserializeOwned>(path: &Path, what: &str) -> Result<T, UsageError> {
    from_json(&read(path, what)?, path, what)
}

/// Reads a document, whichever way its route goes.
fn read_document(path: &Path) -> Result<AnyDocument, UsageError> {
    let what = "a worker's document";
    let text = read(path, what)?;
    let settings: Settings = from_json(&text, path, what)?;
    Ok(match settings.consumer {
        None => AnyDocument::ToKafka(from_json(&text, path, what)?),
        Some(_) => AnyDocument::ToMqtt(from_json(&text, path, what)?),
    })
}

/// The live part of a document, whichever way its route goes.
enum AnyLive {
    ToKafka(Live),
    ToMqtt(LiveToMqtt),
}

/// Reads the live part of a document, with the SHA-256 of the file.
fn read_live(path: &Path, settings: &Settings) -> Result<(AnyLive, String), UsageError> {
    let what = "the live configuration of a worker";
    let text = read(path, what)?;
    let live = match settings.consumer {
        None => AnyLive::ToKafka(from_json(&text, path, what)?),
        Some(_) => AnyLive::ToMqtt(from_json(&text, path, what)?),
    };
    Ok((live, watched::hash(text.as_bytes())))
}

fn read(path: &Path, what: &str) -> Result<String, UsageError> {
    std::fs::read_to_string(path)
        .map_err(|error| UsageError(format!("cannot read {what} {}: {error}", path.display())))
}

fn from_json<T: DeserializeOwned>(text: &str, path: &Path, what: &str) -> Result<T, UsageError> {
    serde_json::from_str(text)
        .map_err(|error| UsageError(format!("{} is not {what}: {error}", path.display())))
}

/// Reads a time such as `20s` or `500ms`.
fn time(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{text:?} is not a time such as 20s"))?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err(format!(
            "{text:?} is not a time such as 20s: its unit is none of ms, s, m"
        )),
    }
}

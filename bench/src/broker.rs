//! A synthetic MQTT 5 broker: the fastest honest one there is, so that the worker is the limit.
//!
//! Packets are encoded once; only their ids change, in place, and a write holds up to 256 KiB of them. The
//! client's Receive Maximum is kept (unless told otherwise), and each ack is checked: it must be of an
//! outstanding id, and in the order of receipt.

mod connection;
mod packets;
mod tally;
mod window;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub use packets::{Block, topics};
pub use tally::{Snapshot, Tally};
pub use window::{Ack, AckOrder, Window, following};

use crate::payload;

/// What the broker sends.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// 0, 1 or 2.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Bytes of a payload.
    #[arg(long, default_value_t = 100)]
    pub size: usize,
    /// Number of MQTT topics.
    #[arg(long, default_value_t = 100)]
    pub topics: usize,
    /// Number of sites, each a Kafka topic.
    #[arg(long, default_value_t = 2)]
    pub sites: usize,
    /// Messages per second; 0 sends none. Absent: as many as the window allows.
    #[arg(long)]
    pub rate: Option<u64>,
    /// Ignore the client's Receive Maximum and keep this many messages outstanding, as some brokers do.
    #[arg(long)]
    pub overrun: Option<u16>,
}

/// The first line the broker prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listening {
    /// The port on 127.0.0.1.
    pub port: u16,
}

/// Serves until standard input ends. The command `stats` is answered with a [`Snapshot`].
pub fn run(options: &Options) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("cannot listen on loopback")?;
    println!(
        "{}",
        serde_json::to_string(&Listening {
            port: listener.local_addr()?.port()
        })?
    );
    let tally = Arc::new(Tally::new());
    let start = Instant::now();
    let (accepting, counted) = (options.clone(), Arc::clone(&tally));
    std::thread::spawn(move || accept(&listener, &accepting, &counted, start));
    for line in std::io::stdin().lines() {
        match line?.as_str() {
            "stats" => println!("{}", serde_json::to_string(&tally.snapshot(nanos(start)))?),
            other => anyhow::bail!("unknown command {other:?}; known: stats"),
        }
    }
    Ok(())
}

fn accept(listener: &TcpListener, options: &Options, tally: &Arc<Tally>, start: Instant) {
    for stream in listener.incoming().flatten() {
        let (options, tally) = (options.clone(), Arc::clone(tally));
        std::thread::spawn(move || {
            let topics = topics(options.sites, options.topics);
            let block = Block::new(&topics, options.qos, |n| payload::telemetry(options.size, n));
            if let Err(error) = connection::serve(stream, &options, block, &tally, start) {
                eprintln!("connection: {error:#}");
            }
        });
    }
}

/// Nanoseconds since `start`.
fn nanos(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

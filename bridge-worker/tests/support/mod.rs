//! What the tests of the worker's binary share: the process, its document, and a look at the wire.
//!
//! A folder with `mod.rs`, unlike elsewhere: Cargo takes every file directly in `tests/` for a test of its own.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    reason = "compiled into each test, and each uses a part"
)]

mod audit;
mod commands;
mod document;
mod http;
mod tap;
mod witness;
mod worker;

pub use audit::{Audit, Findings};
pub use commands::{Commands, DEVICES, PARTITIONS, place_of};
pub use document::Route;
pub use tap::{Acks, Tap};
pub use witness::{Confirmations, Witness};
pub use worker::Worker;

use std::time::{Duration, Instant};

/// For what takes a moment, on a machine that does much else.
pub const SOON: Duration = Duration::from_secs(60);

/// The most memory a worker may take, whatever happens.
pub const MEMORY: u64 = 128 * 1024 * 1024;

/// Lets a fault last.
pub fn last(duration: Duration) {
    std::thread::sleep(duration);
}

/// Tells what a long test does, with the seconds since its start.
pub struct Log(Instant);

impl Log {
    pub fn start() -> Log {
        Log(Instant::now())
    }

    /// Microseconds since its start.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub fn say(&self, what: &str) {
        eprintln!("{:6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

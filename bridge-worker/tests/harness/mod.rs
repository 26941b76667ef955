//! What the tests of the worker against a scripted broker and a mock Kafka share.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses its own part of it"
)]

mod holding;
mod kafka;
mod pacer;
mod process;
mod route;
mod running;

pub(crate) use holding::Holding;
pub(crate) use kafka::{Api, Code, MockKafka, Written};
pub(crate) use pacer::{Message, Pacer};
pub(crate) use process::{POD_UID, WorkerProcess, keeping_cores};
pub(crate) use route::{commands, message, repeat, route, session};
pub(crate) use running::Running;

use std::time::Duration;

/// How long any condition may take to come true.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);
/// How long nothing may happen where nothing is to happen.
pub(crate) const QUIET: Duration = Duration::from_millis(150);

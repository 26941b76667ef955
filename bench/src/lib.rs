//! Measures `bridge-worker` and compares it with a straightforward bridge.
//!
//! Every part is a process of its own, started by the [`harness`] on free ports: the synthetic MQTT [`broker`]
//! or the [`load`] generator in front, the worker or the [`contender`] in the middle, the mock [`kafka`] cluster
//! or the [`consume`]r behind; the other way the [`taker`]. Parts read commands from their standard input, answer with one JSON object a line
//! and end when their standard input does, so a harness that is killed leaves nothing behind.
//!
//! `docs` of the figures: `bench/README.md`.

pub mod broker;
pub mod cli;
pub mod consume;
pub mod contender;
pub mod harness;
pub mod kafka;
pub mod load;
pub mod pace;
pub mod payload;
pub mod stats;
pub mod table;
pub mod taker;

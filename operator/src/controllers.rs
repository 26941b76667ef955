//! What happens when something has changed: fetch, plan, apply, prune, status.
//!
//! Routes and their lanes have a controller each, and no object is written by both. Brokers and sinks are asked by
//! probes.

mod backoff;
mod brokers;
mod changes;
mod context;
mod endpoint;
mod error;
mod lanes;
mod latest;
mod leaving;
mod nudges;
mod pace;
mod routes;
mod run;
mod silences;
mod sinks;

pub use context::Context;
pub use error::Error;
pub use run::{Controllers, Stores, follow};

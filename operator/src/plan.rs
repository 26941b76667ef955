//! What is to be, from what was asked for and what has been seen: pure, without a client or a clock.
//!
//! [`route()`] decides about the workers of a route, [`lanes`] who of them reads what, [`probe`] whether something is
//! to be tried first, [`leave`] what follows the deletion of a route. One file below makes one kind of child.

mod budget;
mod configuration;
mod desired;
mod inputs;
pub mod lanes;
pub mod leave;
mod meta;
mod network_policy;
mod placement;
mod pod;
mod pod_monitor;
pub mod probe;
mod rejection;
mod route;
mod service;
mod stateful_set;
mod uptake;
mod valid;
mod whereabouts;

pub use configuration::{LIVE_KEY, RECORD_KEY, SETTINGS_KEY, record};
pub use desired::Desired;
pub use inputs::{
    Inputs, blocking, is_misplaced, leaves, live, live_hash, misplaced, record_of, set_of, whereabouts_of,
    workers,
};
pub use meta::Family;
pub(crate) use pod::file;
pub use rejection::Rejection;
pub use route::{Plan, Rollout, goal, goes_before, render, route};
pub use stateful_set::grace;
pub use uptake::Uptake;
pub use valid::Checks;
pub use whereabouts::{Whereabouts, client};

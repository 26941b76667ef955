//! What the tests in a cluster share: `kubectl`, namespaces that clean up after themselves, brokers inside the cluster,
//! and a way to them from outside.
//!
//! The tests are ignored by `cargo test`, because they need a cluster with Millrace installed: `make e2e-full` makes one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod brokers;
mod kubectl;
mod namespace;
mod outside;
mod pauses;
mod plant;
mod release;
mod route;
mod sessions;
mod sight;
mod workers;

pub use brokers::{BROKERS, Brokers, Mqtt, start_brokers};
pub use kubectl::{get, kubectl, kubectl_with, try_kubectl, try_kubectl_with};
pub use namespace::{Namespace, restrict};
pub use pauses::pauses;
pub use plant::{Plant, RATE, login};
pub use release::{OperatorAway, Release, SYSTEM, helm};
pub use route::{Manifests, RouteHandle};
pub use sessions::{end_session, has_session};
pub use sight::{all_that_is_seen, sightings};
pub use workers::{Confinement, Process, are_ready, docker, kill_worker, node_of, wait_restarted};

use std::time::Duration;

/// More than anything in the cluster takes that works.
pub const SOON: Duration = Duration::from_secs(120);

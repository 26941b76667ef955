//! The data plane of Millrace: moves messages from MQTT to Kafka, and acknowledges a message to the broker only
//! after Kafka has confirmed it.
//!
//! A [`Worker`] runs one route, described by a [`millrace_contract::Document`]. Inside, `config` divides the
//! document among the parts; `mqtt` and `kafka` talk to the two sides; `pipeline` decides, without I/O, what
//! happens to each message; `limits` judges what keeps it from more; `lane_task` drives a lane's connection; `worker` holds it all together.

mod admin;
mod app;
mod backoff;
mod certificates;
mod clock;
mod config;
mod courier;
mod credentials;
mod delivery;
mod failback;
mod kafka;
mod lane_report;
mod lane_task;
pub mod latency;
mod limits;
pub mod metrics;
mod mqtt;
mod pipeline;
mod probe;
mod random;
mod route;
mod survey;
pub mod telemetry;
mod value;
mod worker;

pub use admin::serve as serve_admin;
pub use app::main;
pub use config::ConfigError;
pub use courier::{Courier, CourierError, Parcel};
pub use delivery::Delivery;
pub use kafka::{OptionsError, reaching};
pub use metrics::RouteSnapshot;
pub use route::Route;
pub use worker::{StartError, Worker};

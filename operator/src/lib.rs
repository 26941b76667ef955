//! The control plane of Millrace: from `MqttBroker`, `KafkaSink` and `TopicRoute` objects to running workers.
//!
//! Dependencies point one way. [`observed`] is what has been seen, [`plan`] decides from it what is to be, [`status`]
//! what is to be said: all pure. [`cluster`] does all I/O, [`controllers`] join the two, [`app`] joins everything. The
//! operator has no MQTT and no Kafka client, and no permission to read a Secret: what needs either is done by probes
//! and workers.

pub mod admin;
pub mod app;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod flow;
pub mod metrics;
pub mod metrics_api;
pub mod names;
pub mod observed;
pub mod plan;
mod settings;
pub mod status;
mod telemetry;
mod uninstall;

pub use settings::Settings;

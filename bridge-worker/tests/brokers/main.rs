//! The worker between a real mosquitto and a real Apache Kafka, each test with brokers of its own.

#[path = "../support/mod.rs"]
mod support;

mod delivery_control;
mod delivery_faults;
mod delivery_lost;
mod delivery_outage;
mod delivery_retained;
mod faults;
mod faults_control;
mod faults_restart;
mod loop_guard;
mod survey;

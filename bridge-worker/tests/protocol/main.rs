//! The worker between a scripted MQTT broker and librdkafka's mock cluster.

#[path = "../harness/mod.rs"]
mod harness;

mod acks;
mod credentials;
mod delivery;
mod failback;
mod hostile;
mod kafka_faults;
mod lanes;
mod leave;
mod limits;
mod probe;
mod qos2;
mod records;
mod reload;
mod repeats;
mod session;

//! Real parts for tests: brokers, a Kafka, a faulty network, and an account of what was sent and what arrived.
//!
//! Every part is started on a port of its own in a temporary folder, is reached through a blocking API that works in
//! any test (inside a multi-threaded tokio runtime too), and is stopped when it is dropped. When a test panics, the
//! logs of its parts are printed. Nothing outlives the test process, even when that is killed.
//!
//! ```no_run
//! use millrace_testkit::{Kafka, Mosquitto, Observer, Publisher, check};
//! use std::time::Duration;
//!
//! let mosquitto = Mosquitto::builder().persistence(true).start();
//! let kafka = Kafka::shared();
//! let topic = kafka.unique_topic("orders", 6);
//! let observer = Observer::start(&kafka.bootstrap(), &[&topic]);
//! // ... start the bridge here ...
//! let publisher = Publisher::builder(mosquitto.port()).messages(10_000).rate(2_000.0).start();
//! let report = publisher.finish(Duration::from_secs(60));
//! observer.wait_for(report.acknowledged(), Duration::from_secs(30));
//! check(&report, &observer.finish()).assert_nothing_lost();
//! ```
//!
//! | part | what it is |
//! |---|---|
//! | [`Mosquitto`], [`Kafka`] | the real servers, killed, stopped and started again at will |
//! | [`Proxy`] | a network that can be cut, half-open or slow |
//! | [`Publisher`] | publishes until acknowledged and keeps account of it |
//! | [`Observer`] | reads Kafka from the beginning and keeps account of it |
//! | [`Writer`] | writes to Kafka until confirmed and keeps account of it |
//! | [`Subscriber`] | subscribes with many sessions and keeps account of what comes |
//! | [`Dialogue`] | devices that ask, and an application behind Kafka that answers |
//! | [`Authority`] | issues certificates, good and bad ones |
//! | [`check`] | compares the two accounts |
//! | [`ScriptedBroker`] | an MQTT broker that does exactly what a test says |
//! | [`Process`], [`wait_until`], [`Port`], [`no_forks`], [`open_files`] | small helpers |

mod address;
mod bits;
mod check;
mod client;
mod dialogue;
mod forks;
mod kafka;
mod limits;
mod mosquitto;
mod observer;
mod pki;
mod port;
mod process;
mod proxy;
mod publisher;
mod scripted;
mod stamp;
mod subscriber;
mod wait;
pub mod wire;
mod writer;

pub use address::Address;
pub use check::{Findings, Verdict, check};
pub use dialogue::{Dialogue, Heard};
pub use forks::{no_forks, spawn};
pub use kafka::{Consumed, Kafka, KafkaBuilder, add_partitions, committed, consume, partition_ends};
pub use limits::open_files;
pub use mosquitto::{Mosquitto, MosquittoBuilder};
pub use observer::{Observer, Records, Seen};
pub use pki::{Authority, Issued};
pub use port::Port;
pub use process::{Process, Usage, usage};
pub use proxy::{Direction, Proxy, ProxyCounts};
pub use publisher::{Publisher, PublisherBuilder, Report};
pub use scripted::{Connection, End, ScriptedBroker};
pub use stamp::{MessageId, Stamp, StampError};
pub use subscriber::Subscriber;
pub use wait::{now_micros, wait_until};
pub use writer::Writer;

//! One running route: its lanes, its producer, and what can be seen of them.

mod assign;
mod credentials;
mod failback;
mod lanes;
mod load;
mod rates;
mod reload;
mod snapshot;
mod start;
mod totals;

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use millrace_contract::{Document, Settings};
use thiserror::Error;
use tokio::sync::watch;

use crate::config::{ConfigError, RoutePlan};
use crate::credentials::Credentials;
use crate::kafka::{KafkaCredentials, KafkaState, Mailbox, OptionsError, Producer, Topics};
use crate::lane_task::Command;
use crate::metrics::RouteSnapshot;
use crate::survey::Surveys;
use lanes::Lanes;
pub(crate) use load::Load;
pub(crate) use rates::Rates;
pub(crate) use start::wait_for;

/// Why a route cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The document.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The document's Kafka settings.
    #[error(transparent)]
    Kafka(#[from] OptionsError),
    /// librdkafka.
    #[error("cannot create the Kafka client")]
    Client(#[from] rdkafka::error::KafkaError),
    /// No thread or runtime.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
}

/// One running route. Dropping it gives up what is in flight; [`Worker::stop`] and [`Worker::wait`] do not.
pub struct Worker {
    route: Arc<Route>,
    /// Becomes true when the last thread has ended.
    ended: watch::Receiver<bool>,
}

/// What the parts of a running route share.
struct Route {
    settings: Settings,
    /// The uid of the pod, where there is one.
    pod_uid: Option<String>,
    /// It is told what to do while it runs, so it stays when a message stops it.
    is_operated: bool,
    plan: RoutePlan,
    /// One for each lane that the route can have, whoever owns it.
    mailboxes: Arc<[Mailbox]>,
    producer: Arc<Producer>,
    topics: Arc<Topics>,
    surveys: Arc<Surveys>,
    kafka: Arc<KafkaState>,
    credentials: Arc<Credentials>,
    kafka_credentials: Arc<KafkaCredentials>,
    /// Of the hashes by which repeats are told.
    seed: u64,
    started: Instant,
    lanes: Mutex<Lanes>,
    rates: Mutex<Rates>,
    load: Mutex<Load>,
    /// Every lane has been up once and Kafka has answered.
    has_been_ready: AtomicBool,
}

impl Worker {
    /// Starts a route with all of its lanes: its threads connect, read and write until [`Worker::stop`], or until a
    /// message stops the route.
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn start(document: Document) -> Result<Self, StartError> {
        let lanes = (0..document.live.lanes.count.max(1)).collect();
        let worker = Self::new(document, String::new(), None, false)?;
        worker.route.assign(0, lanes, Vec::new())?;
        Ok(worker)
    }

    /// Starts a route without lanes, which are given to it by [`Worker::assign`]. `live` is the hash of the document's
    /// live part, `pod_uid` the uid of the pod that this process runs in.
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn operated(document: Document, live: String, pod_uid: Option<String>) -> Result<Self, StartError> {
        Self::new(document, live, pod_uid, true)
    }

    /// Stops reading, waits for Kafka to confirm what is in flight (at most the document's `timeouts.drain`), sends
    /// the last acks and disconnects, keeping the sessions. Returns at once: see [`Worker::wait`].
    pub fn stop(&self) {
        self.route.end(Command::Drain);
    }

    /// Gives up what is in flight: the broker sends it again when the route comes back.
    pub fn abort(&self) {
        self.route.end(Command::Abort);
    }

    /// Whether all of the route's threads have ended.
    pub fn ended(&self) -> bool {
        *self.ended.borrow()
    }

    /// Waits until all of the route's threads have ended.
    pub async fn wait(&self) {
        // The sender is dropped only after it has said so.
        self.ended.clone().wait_for(|ended| *ended).await.ok();
    }

    /// Everything that is known of the route at this moment. The ledger balances in every snapshot.
    pub fn snapshot(&self) -> RouteSnapshot {
        self.route.snapshot(self.ended())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

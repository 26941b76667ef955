//! Many clients that subscribe, and an account of what came to them.

mod session;

use crate::address::Address;
use crate::observer::{Position, Records};
use crate::publisher::new_run;
use crate::wait::{holds_within, now_micros, wait_until};
use bytes::Bytes;
use session::Session;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;

/// For all clients to have their subscriptions.
const SUBSCRIBED: Duration = Duration::from_secs(60);
/// How many clients connect at once: a broker's queue of connections to be accepted is short.
const CONNECTING: usize = 50;

/// Clients of MQTT 5, each with a session that the broker keeps and one subscription, in a thread of their own. A broker
/// that goes away and comes back only delays them; what it repeats within a message of QoS 2 counts once.
///
/// ```no_run
/// use millrace_testkit::{Mosquitto, Subscriber};
/// use std::time::Duration;
///
/// let mosquitto = Mosquitto::builder().persistence(true).start();
/// let subscriber = Subscriber::start(mosquitto.port(), 1_000, 1, |key| format!("devices/{key}/commands"));
/// // ... something publishes ...
/// subscriber.wait_for(10_000, Duration::from_secs(30));
/// let records = subscriber.finish();
/// ```
#[derive(Debug)]
pub struct Subscriber {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The number of each that came is its offset, in one partition of one topic.
    records: Mutex<(i64, Records)>,
    /// Clients whose subscription the broker has granted.
    subscribed: AtomicU64,
    connecting: Semaphore,
}

impl Subscriber {
    /// Starts `clients` and waits until all are subscribed; the one with number `k` to `filter_of(k)`.
    ///
    /// # Panics
    /// When they are not within a minute.
    #[track_caller]
    pub fn start(
        broker: impl Into<Address>,
        clients: u32,
        qos: u8,
        filter_of: impl Fn(u32) -> String,
    ) -> Subscriber {
        let broker = broker.into();
        let shared = Arc::new(Shared {
            records: Mutex::default(),
            subscribed: AtomicU64::new(0),
            connecting: Semaphore::new(CONNECTING),
        });
        let (stop, stopped) = watch::channel(false);
        let run = new_run();
        let sessions = (0..clients).map(|number| Session {
            broker,
            client_id: format!("testkit-{run:08x}-{number}"),
            filter: filter_of(number),
            qos,
            shared: shared.clone(),
            stopped: stopped.clone(),
        });
        let sessions: Vec<Session> = sessions.collect();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let local = LocalSet::new();
            for session in sessions {
                local.spawn_local(session.run());
            }
            runtime.block_on(local);
        });
        let subscriber = Subscriber {
            shared,
            stop,
            thread: Some(thread),
        };
        wait_until(SUBSCRIBED, "all clients to be subscribed", || {
            subscriber.shared.subscribed.load(Ordering::Relaxed) >= u64::from(clients)
        });
        subscriber
    }

    /// Different messages that have come so far.
    pub fn distinct(&self) -> u64 {
        self.shared.lock().1.distinct()
    }

    /// Those of one run.
    pub fn distinct_of(&self, run: u32) -> u64 {
        self.shared.lock().1.distinct_of(run)
    }

    /// Messages that have come so far, repeats included.
    pub fn count(&self) -> u64 {
        self.shared.lock().1.seen().len() as u64
    }

    /// Waits until `count` different messages have come, and returns how long that took.
    ///
    /// # Panics
    /// When there are fewer after `deadline`.
    #[track_caller]
    pub fn wait_for(&self, count: u64, deadline: Duration) -> Duration {
        match holds_within(deadline, || self.distinct() >= count) {
            Some(waited) => waited,
            None => panic!(
                "{} of {count} messages have come after {deadline:?}",
                self.distinct()
            ),
        }
    }

    /// A copy of what has come so far.
    pub fn snapshot(&self) -> Records {
        self.shared.lock().1.clone()
    }

    /// Ends all clients and returns what has come.
    pub fn finish(mut self) -> Records {
        self.stop();
        std::mem::take(&mut self.shared.lock().1)
    }

    fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (i64, Records)> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn came(&self, payload: &Bytes) {
        let (next, records) = &mut *self.lock();
        let at = Position {
            topic: 0,
            partition: 0,
            offset: *next,
        };
        *next += 1;
        records.add(at, 0, payload, now_micros());
    }
}

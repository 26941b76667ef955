//! A publisher that sends until acknowledged, and keeps account of every message.

mod account;
mod acks;
mod builder;
mod connection;
mod schedule;
mod window;

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::address::Address;
use crate::wait::{holds_within, wait_until};
use account::Account;
pub use account::Report;
pub use builder::PublisherBuilder;
pub(crate) use builder::new_run;
pub(crate) use schedule::Schedule;

/// Publishes over MQTT 5 from threads of its own.
///
/// A key is always sent by the same connection, in order. After a lost connection the session is resumed and what is
/// not acknowledged is sent again, in order, before anything new. A message the broker took but had nobody to give to
/// (reason 0x10, no matching subscribers) or refused is sent again as a new message after a pause. With QoS 2 a message
/// is acknowledged by PUBCOMP; with QoS 0 none ever is.
///
/// ```no_run
/// use millrace_testkit::{Mosquitto, Publisher};
/// use std::time::Duration;
///
/// let mosquitto = Mosquitto::builder().start();
/// let publisher = Publisher::builder(mosquitto.port()).keys(100).messages(200_000).rate(3_000.0).start();
/// publisher.wait_acknowledged(50_000, Duration::from_secs(60));
/// // ... break something ...
/// let report = publisher.finish(Duration::from_secs(120));
/// assert_eq!(report.acknowledged(), 200_000);
/// ```
#[derive(Debug)]
pub struct Publisher {
    run: u32,
    /// Whether it was told how many messages to send.
    is_counted: bool,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Account>>,
    sockets: Sockets,
}

/// The open socket of each connection, so that the threads can be freed from a peer that does nothing.
type Sockets = Arc<Vec<Mutex<Option<TcpStream>>>>;

#[derive(Debug, Default)]
struct Shared {
    /// No new messages.
    stop: AtomicBool,
    /// No messages at all.
    abort: AtomicBool,
    sent: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    connects: AtomicU64,
}

impl Publisher {
    /// A publisher; see [`PublisherBuilder`] for the defaults.
    pub fn builder(broker: impl Into<Address>) -> PublisherBuilder {
        PublisherBuilder::new(broker.into())
    }

    /// The run its messages belong to.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Messages put on the wire at least once.
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// Messages acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Times the broker had no subscriber for a message or refused it.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    /// Times a connection was made, first ones included.
    pub fn connects(&self) -> u64 {
        self.shared.connects.load(Ordering::Relaxed)
    }

    /// Waits until `count` messages are acknowledged, and returns how long that took.
    ///
    /// # Panics
    /// When there are fewer after `deadline`.
    #[track_caller]
    pub fn wait_acknowledged(&self, count: u64, deadline: Duration) -> Duration {
        wait_until(deadline, &format!("{count} acknowledged messages"), || {
            self.acknowledged() >= count
        })
    }

    /// Begins no new message; those begun are still sent until acknowledged.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until all messages are acknowledged (with QoS 0: written) and reports. A publisher without a number of
    /// messages is stopped first.
    ///
    /// # Panics
    /// When that is not the case after `deadline`.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Report {
        if !self.is_counted {
            self.stop();
        }
        if holds_within(deadline, || self.threads.iter().all(JoinHandle::is_finished)).is_none() {
            let (sent, acknowledged) = (self.sent(), self.acknowledged());
            panic!(
                "the publisher is not done after {deadline:?}: {acknowledged} of {sent} sent are acknowledged"
            );
        }
        self.report()
    }

    /// Stops at once, and reports what was acknowledged until now.
    pub fn abandon(mut self) -> Report {
        self.abort();
        self.report()
    }

    fn report(&mut self) -> Report {
        let accounts = self
            .threads
            .drain(..)
            .map(|thread| thread.join().expect("a connection's account"));
        Report::new(self.run, accounts.collect())
    }

    fn abort(&self) {
        self.shared.abort.store(true, Ordering::Relaxed);
        for socket in self.sockets.iter() {
            if let Some(socket) = &*socket.lock().unwrap_or_else(PoisonError::into_inner) {
                // Closed already if that fails.
                socket.shutdown(Shutdown::Both).ok();
            }
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.abort();
        for thread in self.threads.drain(..) {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }
}

//! Reads Kafka from the beginning and keeps account of every record.

mod records;

use crate::kafka::from_beginning;
use crate::wait::{POLL, holds_within, now_micros};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

pub use records::{Records, Seen};

/// Reads topics from their first record, in a thread of its own and in no consumer group, as records come. A Kafka that
/// goes away and comes back only delays it. Topics must exist; partitions added later are not read.
///
/// ```no_run
/// use millrace_testkit::{Kafka, Observer};
/// use std::time::Duration;
///
/// let kafka = Kafka::shared();
/// let topic = kafka.unique_topic("orders", 6);
/// let observer = Observer::start(&kafka.bootstrap(), &[&topic]);
/// // ... something writes ...
/// observer.wait_for(10_000, Duration::from_secs(30));
/// assert!(observer.rate(Duration::from_secs(1)) > 1_000.0);
/// let records = observer.finish();
/// ```
#[derive(Debug)]
pub struct Observer {
    records: Arc<Mutex<Records>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Observer {
    /// Begins to read.
    ///
    /// # Panics
    /// When a topic is not there within 30 seconds.
    #[track_caller]
    pub fn start(bootstrap: &str, topics: &[&str]) -> Observer {
        let consumer = from_beginning(bootstrap, topics, Duration::from_secs(30));
        let records = Arc::new(Mutex::new(Records::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let topics = topics.iter().map(|&topic| topic.to_owned()).collect::<Vec<_>>();
        let thread = std::thread::spawn({
            let (records, stop) = (records.clone(), stop.clone());
            move || read(&consumer, &topics, &records, &stop)
        });
        Observer {
            records,
            stop,
            thread: Some(thread),
        }
    }

    /// Different messages seen so far.
    pub fn distinct(&self) -> u64 {
        self.lock().distinct()
    }

    /// Records seen so far, repeats included.
    pub fn count(&self) -> u64 {
        self.lock().seen().len() as u64
    }

    /// Records per second over the last `span`.
    pub fn rate(&self, span: Duration) -> f64 {
        let now = now_micros();
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX).max(1);
        let count = self.lock().between(now.saturating_sub(span), now).len();
        count as f64 * 1e6 / span as f64
    }

    /// When the last record was seen, in microseconds since the Unix epoch.
    pub fn last_at(&self) -> Option<u64> {
        self.lock().seen().last().map(|seen| seen.seen_at)
    }

    /// When the first record after that moment was seen; both in microseconds since the Unix epoch ([`now_micros`]).
    pub fn first_after(&self, moment: u64) -> Option<u64> {
        self.lock()
            .between(moment + 1, u64::MAX)
            .first()
            .map(|seen| seen.seen_at)
    }

    /// Waits until `count` different messages have been seen, and returns how long that took.
    ///
    /// # Panics
    /// When there are fewer after `deadline`.
    #[track_caller]
    pub fn wait_for(&self, count: u64, deadline: Duration) -> Duration {
        match holds_within(deadline, || self.distinct() >= count) {
            Some(waited) => waited,
            None => panic!(
                "{} of {count} messages in Kafka after {deadline:?}",
                self.distinct()
            ),
        }
    }

    /// A copy of what has been seen so far.
    pub fn snapshot(&self) -> Records {
        self.lock().clone()
    }

    /// Stops reading and returns what has been seen.
    pub fn finish(mut self) -> Records {
        self.stop();
        std::mem::take(&mut *self.lock())
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn read(consumer: &BaseConsumer, topics: &[String], records: &Mutex<Records>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(20)) {
            Some(Ok(message)) => {
                let topic = topics
                    .iter()
                    .position(|topic| topic == message.topic())
                    .unwrap_or_default();
                let at = records::Position {
                    topic: u16::try_from(topic).unwrap_or(u16::MAX),
                    partition: message.partition(),
                    offset: message.offset(),
                };
                let timestamp = message.timestamp().to_millis().unwrap_or_default();
                let mut records = records.lock().unwrap_or_else(PoisonError::into_inner);
                records.add(at, timestamp, message.payload().unwrap_or_default(), now_micros());
            }
            // Kafka is away: librdkafka comes back by itself.
            Some(Err(_)) => std::thread::sleep(POLL),
            None => {}
        }
    }
}

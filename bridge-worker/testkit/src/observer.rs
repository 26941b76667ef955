//! Reads Kafka from the beginning and keeps account of every record.

mod records;

use crate::kafka::{from_beginning, in_place_of};
use crate::wait::{POLL, holds_within, now_micros};
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) use records::Position;
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
        let reader = Reader {
            bootstrap: bootstrap.to_owned(),
            topics: topics.iter().map(|&topic| topic.to_owned()).collect(),
            records: records.clone(),
            stop: stop.clone(),
        };
        let thread = std::thread::spawn(move || reader.run(consumer));
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

/// How long after an error a new consumer takes over.
///
/// librdkafka 2.12 may forget all brokers when one that comes back from a long pause answers that the cluster has
/// none; such a consumer reads nothing any more, and says so by no more than an error about lost connections.
const NEW_CONSUMER: Duration = Duration::from_secs(3);

struct Reader {
    bootstrap: String,
    topics: Vec<String>,
    records: Arc<Mutex<Records>>,
    stop: Arc<AtomicBool>,
}

impl Reader {
    fn run(&self, mut consumer: BaseConsumer) {
        let mut error_at: Option<Instant> = None;
        while !self.stop.load(Ordering::Relaxed) {
            match consumer.poll(Duration::from_millis(20)) {
                Some(Ok(message)) => self.add(&message),
                // Kafka is away.
                Some(Err(_)) => {
                    error_at.get_or_insert_with(Instant::now);
                    std::thread::sleep(POLL);
                }
                None => {}
            }
            if error_at.is_some_and(|at| at.elapsed() > NEW_CONSUMER) {
                error_at = None;
                consumer = in_place_of(&consumer, &self.bootstrap, |topic, partition| {
                    self.lock().next(self.index(topic), partition)
                });
            }
        }
    }

    fn add(&self, message: &impl Message) {
        let at = Position {
            topic: self.index(message.topic()),
            partition: message.partition(),
            offset: message.offset(),
        };
        let timestamp = message.timestamp().to_millis().unwrap_or_default();
        self.lock()
            .add(at, timestamp, message.payload().unwrap_or_default(), now_micros());
    }

    /// The topic's place in the list.
    fn index(&self, topic: &str) -> u16 {
        let index = self.topics.iter().position(|known| known == topic);
        u16::try_from(index.unwrap_or_default()).unwrap_or(u16::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

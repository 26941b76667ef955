//! Writes to Kafka until it has confirmed, and keeps account of it.

use crate::kafka::client;
use crate::publisher::{Report, Schedule, new_run};
use crate::stamp::{MessageId, Stamp};
use crate::wait::{holds_within, wait_until};
use millrace_librdkafka::add_brokers;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The size of a record's value.
const SIZE: usize = 100;
/// Microseconds: a broker that is away is tried again sooner.
const AT_REST: i64 = 5_000_000;
/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);

/// Writes stamped records at a steady rate, from threads of its own. The keys take turns; a record of key `k` has the
/// decimal number as its key and goes to partition `k % partitions`. Every record is written once, and in the order of
/// its partition, also by way of a Kafka that goes away and comes back.
///
/// ```no_run
/// use millrace_testkit::{Kafka, Writer};
/// use std::time::Duration;
///
/// let kafka = Kafka::shared();
/// let topic = kafka.unique_topic("commands", 6);
/// let writer = Writer::start(&kafka.bootstrap(), &topic, 6, 1_000, 2_000.0);
/// writer.wait_confirmed(10_000, Duration::from_secs(30));
/// let report = writer.finish(Duration::from_secs(10));
/// assert_eq!(report.sent(), report.acknowledged());
/// ```
#[derive(Debug)]
pub struct Writer {
    run: u32,
    keys: u32,
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    written: AtomicU64,
    confirmed: AtomicU64,
    failed: AtomicU64,
    /// The producer knows no broker any more: one that came back from a long pause said that there is none.
    is_lost: AtomicBool,
}

impl Writer {
    /// Begins to write.
    ///
    /// # Panics
    /// When there can be no producer.
    #[track_caller]
    pub fn start(bootstrap: &str, topic: &str, partitions: u32, keys: u32, rate: f64) -> Writer {
        let counts = Arc::new(Counts::default());
        let producer = client(bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            // What is written to a Kafka that is away waits for it.
            .set("message.timeout.ms", "0")
            .set("statistics.interval.ms", "1000")
            .create_with_context(Confirmations(counts.clone()))
            .expect("a producer");
        let run = new_run();
        let writing = Writing {
            run,
            bootstrap: bootstrap.to_owned(),
            topic: topic.to_owned(),
            partitions,
            keys,
            counts: counts.clone(),
            producer,
        };
        Writer {
            run,
            keys,
            counts,
            thread: Some(thread::spawn(move || writing.run(rate))),
        }
    }

    /// The run its records belong to.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Records that Kafka has confirmed.
    pub fn confirmed(&self) -> u64 {
        self.counts.confirmed.load(Ordering::Relaxed)
    }

    /// Waits until Kafka has confirmed `count` records.
    ///
    /// # Panics
    /// When there are fewer after `deadline`.
    #[track_caller]
    pub fn wait_confirmed(&self, count: u64, deadline: Duration) -> Duration {
        wait_until(deadline, &format!("Kafka to confirm {count} records"), || {
            self.confirmed() >= count
        })
    }

    /// Stops writing, waits until everything is confirmed, and says what it was.
    ///
    /// # Panics
    /// When Kafka has not confirmed everything after `deadline`, or has refused a record.
    #[track_caller]
    pub fn finish(mut self, deadline: Duration) -> Report {
        self.stop();
        let written = self.counts.written.load(Ordering::Relaxed);
        let all = holds_within(deadline, || self.confirmed() == written);
        let (confirmed, failed) = (self.confirmed(), self.counts.failed.load(Ordering::Relaxed));
        assert!(
            all.is_some(),
            "{confirmed} of {written} records confirmed, {failed} refused after {deadline:?}"
        );
        let ids = (0..written).map(|number| (id(self.run, self.keys, number), 1, true));
        Report::of(self.run, &ids.collect::<Vec<_>>())
    }

    fn stop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in there was printed, and this one may be panicking itself.
            thread.join().ok();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The message with that number in the order of writing.
fn id(run: u32, keys: u32, number: u64) -> MessageId {
    MessageId {
        run,
        key: (number % u64::from(keys)) as u32,
        sequence: u32::try_from(number / u64::from(keys)).expect("fewer than 2^32 messages of a key"),
    }
}

struct Writing {
    run: u32,
    bootstrap: String,
    topic: String,
    partitions: u32,
    keys: u32,
    counts: Arc<Counts>,
    producer: ThreadedProducer<Confirmations>,
}

impl Writing {
    fn run(self, rate: f64) {
        let mut schedule = Schedule::new(rate);
        let mut written = 0;
        while !self.counts.stop.load(Ordering::Relaxed) {
            let due = schedule.due(written, Instant::now());
            let end = written + due;
            while written < end && self.write(written) {
                written += 1;
            }
            self.counts.written.store(written, Ordering::Relaxed);
            self.look_for_brokers();
            thread::sleep(TICK);
        }
        // The caller waits for it to be confirmed.
        let until = Instant::now() + Duration::from_secs(60);
        while self.producer.in_flight_count() > 0 && Instant::now() < until {
            self.look_for_brokers();
            self.producer.flush(Duration::from_secs(1)).ok();
        }
    }

    fn look_for_brokers(&self) {
        if self.counts.is_lost.swap(false, Ordering::Relaxed) {
            add_brokers(self.producer.client(), &self.bootstrap).expect("the brokers of before");
        }
    }

    /// False when there is no room for it now.
    fn write(&self, number: u64) -> bool {
        let id = id(self.run, self.keys, number);
        let mut value = Vec::with_capacity(SIZE);
        Stamp::now(id).write(SIZE, &mut value);
        let key = id.key.to_string();
        let record = BaseRecord::to(&self.topic)
            .partition((id.key % self.partitions) as i32)
            .key(&key)
            .payload(&value);
        match self.producer.send(record) {
            Ok(()) => true,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => false,
            Err((error, _)) => panic!("cannot write to {}: {error}", self.topic),
        }
    }
}

/// Counts what Kafka says of records.
struct Confirmations(Arc<Counts>);

impl ClientContext for Confirmations {
    fn stats(&self, statistics: Statistics) {
        let mut brokers = statistics.brokers.values();
        let is_tried = brokers.any(|broker| broker.state != "DOWN" || broker.stateage < AT_REST);
        self.0.is_lost.store(!is_tried, Ordering::Relaxed);
    }
}

impl ProducerContext for Confirmations {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = match result {
            Ok(_) => &self.0.confirmed,
            Err(_) => &self.0.failed,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

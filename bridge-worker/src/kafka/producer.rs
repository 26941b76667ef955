use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use millrace_contract::Document;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig,
};
use tokio::sync::Notify;

use super::error::FailureClass;
use super::options::{OptionsError, client_config};
use super::record::{Failure, OwnedRecord, RecordRef, Report, SendError, Sink};
use super::state::KafkaState;
use super::topics::Topics;
use crate::backoff::Backoff;

/// How long one call to librdkafka's event queue lasts: bounds how soon a stop or a replacement is noticed.
const POLL: Duration = Duration::from_millis(50);
/// A producer that has lived so long works.
const STEADY: Duration = Duration::from_secs(10);
/// Batches of reports a lane takes before it goes on reading.
const MAX_BATCHES: usize = 64;

/// The reports that wait for a lane.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    reports: Mutex<Vec<Report>>,
    arrived: Notify,
}

impl Mailbox {
    fn put(&self, report: Report) {
        let first = {
            let mut reports = lock(&self.reports);
            reports.push(report);
            reports.len() == 1
        };
        if first {
            self.arrived.notify_one();
        }
    }

    /// Swaps what has arrived into `into`, which must be empty: the two buffers change places, none is allocated.
    pub(crate) fn take(&self, into: &mut Vec<Report>) {
        std::mem::swap(&mut *lock(&self.reports), into);
    }

    fn len(&self) -> usize {
        lock(&self.reports).len()
    }

    /// Waits until something may have arrived.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// Wakes the lane without a report.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }
}

/// What librdkafka calls back: hands each report to its lane's mailbox.
pub(crate) struct Context {
    mailboxes: Arc<[Mailbox]>,
    state: Arc<KafkaState>,
    fatal: AtomicBool,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => self.state.unreachable(reason),
            _ => self.state.trouble(reason),
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.state.statistics(statistics);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Lost and refused connections come here again and again; `KafkaUnreachable` says them once.
        if level as i32 <= RDKafkaLogLevel::Error as i32 {
            tracing::debug!(target: "librdkafka", facility, "{message}");
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (lane, sequence) = unpack(opaque);
        let result = match result {
            Ok(_) => Ok(()),
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                Err(Box::new(Failure {
                    class: code.map_or(FailureClass::Retry, FailureClass::of),
                    at_once: self.fatal.load(Ordering::Acquire)
                        || matches!(
                            code,
                            Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
                        ),
                    message: error.to_string(),
                    record: owned(message),
                }))
            }
        };
        if let Some(mailbox) = self.mailboxes.get(usize::from(lane)) {
            mailbox.put(Report { sequence, result });
        }
    }
}

fn owned(message: &rdkafka::message::BorrowedMessage<'_>) -> OwnedRecord {
    use rdkafka::message::Headers as _;
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    OwnedRecord {
        topic: message.topic().to_owned(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers,
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
    }
}

/// Lane in the upper 16 bits, sequence number below: 2^48 messages are 8 years at a million a second.
fn pack(lane: u16, sequence: u64) -> usize {
    usize::from(lane) << 48 | (sequence as usize & ((1 << 48) - 1))
}

fn unpack(opaque: usize) -> (u16, u64) {
    ((opaque >> 48) as u16, opaque as u64 & ((1 << 48) - 1))
}

pub(crate) type Native = BaseProducer<Context>;

/// The route's way into Kafka, shared by its lanes. A fatal error replaces the librdkafka producer behind it;
/// what had not been confirmed comes back to the lanes as reports and is sent again through the new one.
pub(crate) struct Producer {
    document: Document,
    mailboxes: Arc<[Mailbox]>,
    state: Arc<KafkaState>,
    topics: Arc<Topics>,
    native: RwLock<Arc<Native>>,
    /// Being replaced: nothing is taken.
    paused: AtomicBool,
    /// For records that must be a batch of their own; made when first needed.
    alone: Mutex<Option<Arc<Native>>>,
    batch_bytes: AtomicU64,
    replaced: AtomicU64,
    stop: AtomicBool,
    /// Lanes that serve librdkafka's reports themselves just now.
    serving_lanes: AtomicUsize,
    poll_thread: OnceLock<Thread>,
}

impl Producer {
    /// Creates the producer; connections are made in the background.
    ///
    /// # Errors
    /// When the document's settings cannot be used.
    pub(crate) fn new(
        document: &Document,
        mailboxes: Arc<[Mailbox]>,
        state: Arc<KafkaState>,
        topics: Arc<Topics>,
    ) -> Result<Arc<Self>, OptionsError> {
        let batch_bytes = topics.batch_bytes();
        let native = native(document, batch_bytes, false, &mailboxes, &state)?;
        Ok(Arc::new(Self {
            document: document.clone(),
            mailboxes,
            state,
            topics,
            native: RwLock::new(native),
            paused: AtomicBool::new(false),
            alone: Mutex::new(None),
            batch_bytes: AtomicU64::new(batch_bytes),
            replaced: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            serving_lanes: AtomicUsize::new(0),
            poll_thread: OnceLock::new(),
        }))
    }

    /// Starts the thread that serves librdkafka's callbacks until [`Producer::stop`].
    pub(crate) fn spawn(self: &Arc<Self>) -> std::io::Result<JoinHandle<()>> {
        let producer = Arc::clone(self);
        std::thread::Builder::new()
            .name("kafka-poll".into())
            .spawn(move || producer.run())
    }

    /// Ends the poll thread; what is still in the producer is given up.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Fatal errors survived.
    pub(crate) fn restarts(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// The librdkafka producer of the moment, for metadata and administration.
    pub(crate) fn native(&self) -> Arc<Native> {
        Arc::clone(&self.native.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A lane is busy: it takes the reports itself, between reads, with [`Producer::serve`]. The memory of a
    /// record is then given back by the thread that asked for it, and no thread has to be woken for each batch:
    /// together that is a third of the worker's CPU under load.
    pub(crate) fn begin_serving(&self) {
        self.serving_lanes.fetch_add(1, Ordering::AcqRel);
    }

    /// The lane waits: the poll thread takes over.
    pub(crate) fn end_serving(&self) {
        if self.serving_lanes.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(thread) = self.poll_thread.get()
        {
            thread.unpark();
        }
    }

    /// Takes the reports that are there, of all lanes, into their mailboxes; stops when none is left for `lane`.
    pub(crate) fn serve(&self, lane: u16) {
        let native = self.native.read().unwrap_or_else(PoisonError::into_inner);
        let Some(mailbox) = self.mailboxes.get(usize::from(lane)) else { return };
        // A call takes one batch at most.
        for _ in 0..MAX_BATCHES {
            let before = mailbox.len();
            native.poll(Duration::ZERO);
            if mailbox.len() == before {
                return;
            }
        }
    }

    /// A sink for one lane.
    pub(crate) fn sink(self: &Arc<Self>) -> LaneSink {
        LaneSink {
            seen: RefCell::default(),
            last: RefCell::default(),
            producer: Arc::clone(self),
        }
    }

    fn run(&self) {
        self.poll_thread.get_or_init(std::thread::current);
        let mut backoff = Backoff::default();
        let (mut born, mut patience) = (Instant::now(), Duration::ZERO);
        while !self.stop.load(Ordering::Acquire) {
            let native = self.native();
            if self.serving_lanes.load(Ordering::Acquire) > 0 {
                std::thread::park_timeout(POLL);
            } else {
                native.poll(POLL);
            }
            if has_failed(&native) {
                // One that fails as soon as it is made will fail again: no rush of producers.
                if born.elapsed() < patience {
                    continue;
                }
                if born.elapsed() >= STEADY {
                    backoff.reset();
                }
                self.replace(&native, true);
                (born, patience) = (Instant::now(), backoff.next());
            } else if self.topics.batch_bytes() < self.batch_bytes.load(Ordering::Relaxed) {
                self.replace(&native, false);
            }
        }
    }

    /// Puts a new librdkafka producer in the place of `old`. All of the old one's reports are in the mailboxes
    /// before the new one takes records, so that what is sent again keeps its place.
    fn replace(&self, old: &Arc<Native>, fatal: bool) {
        self.paused.store(true, Ordering::Release);
        // No lane is in the middle of a call once this lock has been had.
        drop(self.native.write().unwrap_or_else(PoisonError::into_inner));
        if fatal {
            let (code, reason) = old
                .client()
                .fatal_error()
                .unwrap_or((RDKafkaErrorCode::Fatal, String::new()));
            tracing::warn!(%code, reason, "the Kafka producer failed for good: a new one takes over");
            old.purge(PurgeConfig::default().queue().inflight());
        } else {
            tracing::info!(
                bytes = self.topics.batch_bytes(),
                "a topic takes smaller batches: a new Kafka producer takes over"
            );
        }
        while old.in_flight_count() > 0 && !self.stop.load(Ordering::Acquire) {
            old.poll(Duration::from_millis(10));
            if !fatal && has_failed(old) {
                old.purge(PurgeConfig::default().queue().inflight());
            }
        }
        let bytes = self.topics.batch_bytes();
        match native(&self.document, bytes, false, &self.mailboxes, &self.state) {
            Ok(new) => {
                *self.native.write().unwrap_or_else(PoisonError::into_inner) = new;
                self.batch_bytes.store(bytes, Ordering::Relaxed);
                if fatal {
                    self.replaced.fetch_add(1, Ordering::Relaxed);
                }
                self.paused.store(false, Ordering::Release);
            }
            // The same settings made a producer before: what fails now is the system, so try again.
            Err(error) => tracing::error!(%error, "cannot make a new Kafka producer"),
        }
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    fn alone(&self) -> Option<Arc<Native>> {
        let mut alone = lock(&self.alone);
        if alone.as_ref().is_some_and(|native| has_failed(native)) {
            *alone = None;
        }
        if alone.is_none() {
            let native = native(
                &self.document,
                self.topics.batch_bytes(),
                true,
                &self.mailboxes,
                &self.state,
            )
            .ok()?;
            let poll = Arc::downgrade(&native);
            let spawned = std::thread::Builder::new()
                .name("kafka-alone".into())
                .spawn(move || {
                    while let Some(native) = poll.upgrade() {
                        native.poll(POLL);
                    }
                });
            spawned.ok()?;
            *alone = Some(native);
        }
        alone.clone()
    }
}

/// Whether a producer can do nothing more. Asked, and not taken from its error events: those carry the code of the
/// cause, which is fatal in some places and harmless in others.
fn has_failed(native: &Native) -> bool {
    let failed = native.client().fatal_error().is_some();
    if failed {
        native.context().fatal.store(true, Ordering::Release);
    }
    failed
}

fn native(
    document: &Document,
    batch_bytes: u64,
    alone: bool,
    mailboxes: &Arc<[Mailbox]>,
    state: &Arc<KafkaState>,
) -> Result<Arc<Native>, OptionsError> {
    let config = client_config(document, batch_bytes, alone)?;
    let context = Context {
        mailboxes: Arc::clone(mailboxes),
        state: Arc::clone(state),
        fatal: AtomicBool::new(false),
    };
    Ok(Arc::new(Native::from_config_and_context(&config, context)?))
}

/// One lane's view of the producer.
pub(crate) struct LaneSink {
    producer: Arc<Producer>,
    /// Topics this lane has asked the keeper about.
    seen: RefCell<HashSet<String>>,
    last: RefCell<String>,
}

impl LaneSink {
    /// Tells the keeper of topics about those it has not heard of; refuses one that is known to be missing.
    fn check_topic(&self, record: &RecordRef<'_>) -> Result<(), SendError> {
        if *self.last.borrow() == record.topic {
            return Ok(());
        }
        let topics = &self.producer.topics;
        if !self.seen.borrow().contains(record.topic) {
            topics.want(record.topic);
            self.seen.borrow_mut().insert(record.topic.to_owned());
        }
        if topics.is_missing(record.topic) {
            return Err(SendError::Refused {
                class: FailureClass::TopicMissing,
                message: format!(
                    "Kafka has no topic {:?}, and the sink does not allow its creation",
                    record.topic
                ),
            });
        }
        record.topic.clone_into(&mut self.last.borrow_mut());
        Ok(())
    }
}

impl Sink for LaneSink {
    fn send(&self, lane: u16, sequence: u64, record: RecordRef<'_>, alone: bool) -> Result<(), SendError> {
        // Held over the call: a producer that is being replaced takes nothing after it has been drained.
        let native = self
            .producer
            .native
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if self.producer.paused.load(Ordering::Acquire) {
            return Err(SendError::Full);
        }
        self.check_topic(&record)?;
        let size = record.size() as u64;
        if let Some(limit) = self.producer.topics.exceeds(record.topic, size) {
            return Err(SendError::Refused {
                class: FailureClass::Batch,
                message: format!(
                    "the record has {size} bytes, more than topic {:?} takes (max.message.bytes {limit})",
                    record.topic
                ),
            });
        }
        let mut headers: Option<OwnedHeaders> = None;
        for (key, value) in record.headers.iter() {
            headers = Some(headers.unwrap_or_default().insert(Header {
                key,
                value: Some(value),
            }));
        }
        let base = BaseRecord {
            topic: record.topic,
            partition: None,
            payload: Some(record.value),
            timestamp: Some(record.timestamp_ms),
            key: record.key,
            headers,
            delivery_opaque: pack(lane, sequence),
        };
        let sent = if alone {
            let Some(native) = self.producer.alone() else {
                return Err(SendError::Full);
            };
            native.send(base)
        } else {
            native.send(base)
        };
        sent.map_err(|(error, _)| match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull | RDKafkaErrorCode::Fatal) => SendError::Full,
            code => SendError::Refused {
                class: code.map_or(FailureClass::Record, FailureClass::of),
                message: error.to_string(),
            },
        })
    }

    fn paused(&self) -> bool {
        self.producer.paused.load(Ordering::Acquire)
    }

    fn has_known(&self, topic: &str) -> bool {
        self.producer.topics.has_known(topic)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_and_sequence_survive_the_opaque() {
        for (lane, sequence) in [(0, 0), (7, 1), (u16::MAX, (1 << 48) - 1), (1, 123_456_789_012)] {
            assert_eq!(unpack(pack(lane, sequence)), (lane, sequence));
        }
    }

    #[test]
    fn a_mailbox_gives_reports_in_the_order_they_came() {
        let mailbox = Mailbox::default();
        for sequence in 0..3 {
            mailbox.put(Report {
                sequence,
                result: Ok(()),
            });
        }
        let mut taken = Vec::new();
        mailbox.take(&mut taken);
        assert_eq!(
            taken.iter().map(|report| report.sequence).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
}

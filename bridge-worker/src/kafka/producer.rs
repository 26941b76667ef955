use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use millrace_librdkafka::{Record, Topic};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _, PurgeConfig};

use super::callbacks::Context;
use super::mailbox::Mailbox;
use super::options::{ClientSettings, OptionsError, client_config};
use super::outlet::Outlet;
use super::sight::Sight;
use super::state::KafkaState;
use super::tokens::Armed;
use super::topics::Topics;
use crate::backoff::Backoff;

/// How long one call to librdkafka's event queue lasts: bounds how soon a stop or a replacement is noticed. It waits for
/// whole milliseconds and spins for the rest, so what is left of the last one is short: half of a millisecond each time
/// would be 1 % of a core at rest.
const POLL: Duration = Duration::from_micros(50_100);
/// Milliseconds between two looks at what a producer knows of its cluster.
const STATISTICS_MS: &str = "2000";
/// A producer that has lived so long works.
const STEADY: Duration = Duration::from_secs(10);
/// How long a new producer may take to get ready, and to learn of a topic.
const WARM_UP: Duration = Duration::from_secs(10);
const METADATA: Duration = Duration::from_secs(2);
/// How long a producer whose credentials are replaced may take to send what it has.
const FLUSH: Duration = Duration::from_secs(2);
/// Batches of reports a lane takes before it goes on reading.
const MAX_BATCHES: usize = 64;

pub(crate) type Native = BaseProducer<Context>;

/// The route's way into Kafka, shared by its lanes. A fatal error replaces the librdkafka producer behind it;
/// what had not been confirmed comes back to the lanes as reports and is sent again through the new one.
pub(crate) struct Producer {
    settings: Mutex<ClientSettings>,
    mailboxes: Arc<[Mailbox]>,
    state: Arc<KafkaState>,
    topics: Arc<Topics>,
    outlet: RwLock<Outlet>,
    /// Being replaced: nothing is taken.
    paused: AtomicBool,
    /// For records that must be a batch of their own; made when first needed.
    alone: Mutex<Option<Arc<Native>>>,
    batch_bytes: AtomicU64,
    /// Larger messages are to be taken than those it was made for.
    outgrown: AtomicBool,
    /// To take over: made with other credentials.
    next: Mutex<Option<Arc<Native>>>,
    replaced: AtomicU64,
    stop: AtomicBool,
    /// Lanes that serve librdkafka's reports themselves just now.
    serving_lanes: AtomicUsize,
    poll_thread: OnceLock<Thread>,
}

/// Why a librdkafka producer is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It can do nothing more.
    Failed,
    /// It was made for other batches or messages.
    Outgrown,
    /// It was made with other credentials.
    Renewed,
}

impl Producer {
    /// Creates the producer; connections are made in the background.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub(crate) fn new(
        settings: ClientSettings,
        mailboxes: Arc<[Mailbox]>,
        state: Arc<KafkaState>,
        topics: Arc<Topics>,
    ) -> Result<Arc<Self>, OptionsError> {
        let batch_bytes = topics.batch_bytes();
        let native = native(&settings, batch_bytes, false, &mailboxes, &state)?;
        Ok(Arc::new(Self {
            settings: Mutex::new(settings),
            mailboxes,
            state,
            topics,
            outlet: RwLock::new(Outlet::new(native)),
            paused: AtomicBool::new(false),
            alone: Mutex::new(None),
            batch_bytes: AtomicU64::new(batch_bytes),
            outgrown: AtomicBool::new(false),
            next: Mutex::default(),
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

    /// The route takes messages of so many bytes from now on.
    pub(crate) fn set_max_message_bytes(&self, bytes: u64) {
        {
            let mut settings = lock(&self.settings);
            if bytes <= settings.max_message_bytes {
                return;
            }
            settings.max_message_bytes = bytes;
        }
        // Not with the lock above held: whoever makes this one takes them the other way round.
        *lock(&self.alone) = None;
        self.outgrown.store(true, Ordering::Release);
    }

    /// Has a new librdkafka producer take over, with what the settings are made with now. Returns once it is ready to: from
    /// its first record on a new one needs an identifier and metadata, which takes a second.
    ///
    /// # Errors
    /// When there can be none.
    pub(crate) fn renew(&self) -> Result<(), OptionsError> {
        let settings = lock(&self.settings).clone();
        let new = native(
            &settings,
            self.topics.batch_bytes(),
            false,
            &self.mailboxes,
            &self.state,
        )?;
        let until = Instant::now() + WARM_UP;
        while !new.context().has_id() && Instant::now() < until && !self.has_stopped() {
            arm(&new);
            new.poll(POLL);
        }
        for topic in self.topics.names() {
            // What it does not know now it asks for later.
            new.client().fetch_metadata(Some(&topic), METADATA).ok();
        }
        *lock(&self.alone) = None;
        *lock(&self.next) = Some(new);
        Ok(())
    }

    /// Whether it has been told to end.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Fatal errors survived.
    pub(crate) fn restarts(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// The librdkafka producer of the moment, for metadata and administration.
    pub(crate) fn native(&self) -> Arc<Native> {
        Arc::clone(self.outlet().native())
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
        let outlet = self.outlet();
        let Some(mailbox) = self.mailboxes.get(usize::from(lane)) else {
            return;
        };
        // A call takes one batch at most.
        for _ in 0..MAX_BATCHES {
            let before = mailbox.len();
            outlet.native().poll(Duration::ZERO);
            if mailbox.len() == before {
                return;
            }
        }
    }

    /// Hands a record to librdkafka, which takes nothing while it is being replaced: its queue is full then.
    pub(super) fn send(&self, topic: &str, record: Record<'_>) -> KafkaResult<()> {
        loop {
            // Held over the call: a producer that is replaced takes nothing after it has been drained.
            let outlet = self.outlet();
            if self.is_paused() {
                return Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            }
            if let Some(topic) = outlet.topic(topic) {
                return topic.send(record);
            }
            let native = Arc::clone(outlet.native());
            drop(outlet);
            self.topics.want(topic);
            let opened = Topic::open(&native, topic)?;
            self.outlet_mut().add(&native, topic, opened);
        }
    }

    /// Hands over a record that must be a batch of its own. The producer for those is not replaced by another.
    pub(super) fn send_alone(&self, topic: &str, record: Record<'_>) -> KafkaResult<()> {
        match self.alone() {
            Some(native) => Topic::open(&native, topic)?.send(record),
            None => Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
        }
    }

    /// The keeper of topics is told again of each that is written to.
    pub(crate) fn forget_topics(&self) {
        self.outlet_mut().forget_topics();
    }

    /// Whether it is being replaced.
    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// What is known of topics.
    pub(super) fn topics(&self) -> &Topics {
        &self.topics
    }

    fn run(&self) {
        self.poll_thread.get_or_init(std::thread::current);
        let mut backoff = Backoff::default();
        let (mut born, mut patience) = (Instant::now(), Duration::ZERO);
        while !self.stop.load(Ordering::Acquire) {
            let native = self.native();
            tend(&native);
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
                self.replace(&native, Why::Failed, None);
                (born, patience) = (Instant::now(), backoff.next());
            } else if self.topics.batch_bytes() < self.batch_bytes.load(Ordering::Relaxed)
                || self.outgrown.swap(false, Ordering::AcqRel)
            {
                self.replace(&native, Why::Outgrown, None);
            } else if let Some(next) = lock(&self.next).take() {
                self.replace(&native, Why::Renewed, Some(next));
            }
            // Given up, it reports what it held; the lanes send that through another.
            let given_up = lock(&self.alone).take_if(|native| has_failed(native));
            drop(given_up);
        }
    }

    /// Puts a new librdkafka producer in the place of `old`. All of the old one's reports are in the mailboxes
    /// before the new one takes records, so that what is sent again keeps its place.
    fn replace(&self, old: &Arc<Native>, why: Why, next: Option<Arc<Native>>) {
        self.paused.store(true, Ordering::Release);
        // No lane is in the middle of a call once this lock has been had.
        drop(self.outlet_mut());
        if why == Why::Failed {
            let fatal = old.client().fatal_error();
            let (code, reason) = fatal.unwrap_or((RDKafkaErrorCode::Fatal, String::new()));
            if code == RDKafkaErrorCode::ClusterAuthorizationFailed {
                self.state.refused(&reason);
            }
            tracing::warn!(%code, reason, "the Kafka producer failed for good: a new one takes over");
            old.purge(PurgeConfig::default().queue().inflight());
        } else if why == Why::Outgrown {
            tracing::info!(
                batch_bytes = self.topics.batch_bytes(),
                "a topic takes smaller batches, or the route larger messages: a new Kafka producer takes over"
            );
        }
        let started = Instant::now();
        while old.in_flight_count() > 0 && !self.stop.load(Ordering::Acquire) {
            tend(old);
            old.poll(Duration::from_millis(1));
            // Credentials of before may not be taken any more, or a partition has no leader: what has not been confirmed goes
            // with the new producer. Until then no lane goes on.
            let is_hopeless = why != Why::Failed && started.elapsed() >= FLUSH;
            if is_hopeless || (why != Why::Failed && has_failed(old)) {
                old.purge(PurgeConfig::default().queue().inflight());
            }
        }
        let bytes = self.topics.batch_bytes();
        let settings = lock(&self.settings).clone();
        let make = || native(&settings, bytes, false, &self.mailboxes, &self.state);
        match next.map_or_else(make, Ok) {
            Ok(new) => {
                *self.outlet_mut() = Outlet::new(new);
                self.batch_bytes.store(bytes, Ordering::Relaxed);
                if why == Why::Failed {
                    self.replaced.fetch_add(1, Ordering::Relaxed);
                }
                self.paused.store(false, Ordering::Release);
            }
            // The same settings made a producer before: what fails now is the system, so try again.
            Err(error) => {
                tracing::error!(%error, "cannot make a new Kafka producer");
                self.outgrown.store(true, Ordering::Release);
            }
        }
        self.mailboxes.iter().for_each(Mailbox::wake);
    }

    fn outlet(&self) -> RwLockReadGuard<'_, Outlet> {
        self.outlet.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn outlet_mut(&self) -> RwLockWriteGuard<'_, Outlet> {
        self.outlet.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The producer for records that must be a batch of their own.
    fn alone(&self) -> Option<Arc<Native>> {
        let mut alone = lock(&self.alone);
        if alone.as_ref().is_some_and(|native| has_failed(native)) {
            *alone = None;
        }
        if alone.is_none() {
            let settings = lock(&self.settings).clone();
            let native = native(
                &settings,
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
                        tend(&native);
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
    settings: &ClientSettings,
    batch_bytes: u64,
    alone: bool,
    mailboxes: &Arc<[Mailbox]>,
    state: &Arc<KafkaState>,
) -> Result<Arc<Native>, OptionsError> {
    let mut config = client_config(settings, batch_bytes, alone)?;
    config.set("statistics.interval.ms", STATISTICS_MS);
    let context = Context {
        mailboxes: Arc::clone(mailboxes),
        state: Arc::clone(state),
        fatal: AtomicBool::new(false),
        alone,
        bearer: settings.credentials.bearer().clone(),
        armed: Armed::default(),
        servers: settings.sink.bootstrap_servers.join(","),
        sight: Sight::default(),
        has_id: AtomicBool::new(false),
    };
    let native = Arc::new(Native::from_config_and_context(&config, context)?);
    arm(&native);
    Ok(native)
}

/// Gives it a newer token, and brokers if it has lost them.
fn tend(native: &Native) {
    arm(native);
    let context = native.context();
    context.sight.restore(native.client(), &context.servers);
}

/// Gives it a newer token, if there is one.
fn arm(native: &Native) {
    let context = native.context();
    context.bearer.arm(native.client(), &context.armed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

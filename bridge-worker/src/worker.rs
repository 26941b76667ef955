//! One running route: its lanes, its producer, and what can be seen of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_contract::status::{LaneState, Phase, Problem, Reason, RouteStatus};
use millrace_contract::{Document, Ledger};
use thiserror::Error;
use tokio::sync::watch;

use crate::config::{self, ConfigError};
use crate::kafka::{
    KafkaState, LaneSink, MAX_BATCH_BYTES, Mailbox, OptionsError, Producer, TopicKeeper, Topics,
    client_config,
};
use crate::lane_report::LaneReport;
use crate::lane_task::{Command, LaneTask};
use crate::latency::Histogram;
use crate::metrics::RouteSnapshot;
use crate::pipeline::{Lane, Stop};

/// Rates are taken over so much time.
const RATE_WINDOW: Duration = Duration::from_secs(5);

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
    document: Document,
    lanes: Vec<Arc<LaneReport>>,
    commands: watch::Sender<Command>,
    stopped: Arc<Mutex<Option<Stop>>>,
    producer: Arc<Producer>,
    topics: Arc<Topics>,
    kafka: Arc<KafkaState>,
    rates: Mutex<VecDeque<(Instant, Ledger)>>,
    /// Becomes true when the last thread has ended.
    ended: watch::Receiver<bool>,
    /// Asked to end, as opposed to stopped by a message.
    ending: Mutex<bool>,
}

impl Worker {
    /// Starts a route: its threads connect, read and write until [`Worker::stop`].
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn start(document: Document) -> Result<Self, StartError> {
        let plans = config::plan(&document)?;
        let mappers = plans
            .iter()
            .map(|plan| plan.mapper(&document))
            .collect::<Result<Vec<_>, _>>()?;
        let topics = Arc::new(config::topics(&document)?);
        let kafka = Arc::new(KafkaState::default());
        let mailboxes: Arc<[Mailbox]> = plans.iter().map(|_| Mailbox::default()).collect();
        let producer = Producer::new(
            &document,
            Arc::clone(&mailboxes),
            Arc::clone(&kafka),
            Arc::clone(&topics),
        )?;
        let admin = client_config(&document, MAX_BATCH_BYTES, true)?;
        let keeper = TopicKeeper::new(
            Arc::clone(&topics),
            Arc::clone(&producer),
            Arc::clone(&kafka),
            &admin,
        )?;

        let (commands, told) = watch::channel(Command::Run);
        let stopped = Arc::new(Mutex::new(None));
        let poll = producer.spawn()?;
        // Not waited for at the end: it may be in a request that takes seconds, and holds nothing of a message.
        keeper.spawn()?;
        let mut threads = Vec::new();
        let mut lanes = Vec::new();
        let started = Instant::now();
        let seed = RandomState::new().build_hasher().finish();
        for (plan, mapper) in plans.into_iter().zip(mappers) {
            let report = Arc::new(LaneReport::new(plan.lane.lane, &plan.session.client_id));
            lanes.push(Arc::clone(&report));
            if plan.filters.is_empty() {
                report.state(LaneState::Idle);
                continue;
            }
            let task = LaneTask {
                lane: Lane::new(
                    plan.lane.clone(),
                    mapper,
                    LaneSink::new(Arc::clone(&producer)),
                    seed,
                ),
                mailboxes: Arc::clone(&mailboxes),
                producer: Arc::clone(&producer),
                commands: told.clone(),
                on_stop: on_stop(&stopped, &commands, &document),
                report,
                started,
                plan,
            };
            threads.push(spawn(task)?);
        }
        let ended = {
            let (producer, topics) = (Arc::clone(&producer), Arc::clone(&topics));
            let (sender, receiver) = watch::channel(false);
            std::thread::Builder::new()
                .name("worker-end".into())
                .spawn(move || {
                    threads.into_iter().for_each(join);
                    topics.stop();
                    producer.stop();
                    join(poll);
                    sender.send_replace(true);
                })?;
            receiver
        };
        Ok(Self {
            document,
            lanes,
            commands,
            stopped,
            producer,
            topics,
            kafka,
            rates: Mutex::default(),
            ended,
            ending: Mutex::new(false),
        })
    }

    /// Stops reading, waits for Kafka to confirm what is in flight (at most the document's `timeouts.drain`), sends
    /// the last acks and disconnects, keeping the sessions. Returns at once: see [`Worker::wait`].
    pub fn stop(&self) {
        *lock(&self.ending) = true;
        self.commands.send_if_modified(|command| {
            let modified = *command == Command::Run;
            if modified {
                *command = Command::Drain;
            }
            modified
        });
    }

    /// Gives up what is in flight: the broker sends it again when the route comes back.
    pub fn abort(&self) {
        *lock(&self.ending) = true;
        self.commands.send_replace(Command::Abort);
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
        let mut ledger = Ledger::default();
        let mut latency = Histogram::new();
        let mut errors: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut lanes = Vec::new();
        let mut problems = Vec::new();
        let (mut received, mut written, mut buffered, mut taken_over, mut up) = (0, 0, 0, 0, true);
        for report in &self.lanes {
            let (status, view, lane_problems) = report.view();
            ledger += view.ledger;
            latency.merge(&view.latency);
            for (reason, count) in view.errors {
                *errors.entry(reason).or_default() += count;
            }
            received += view.bytes_received;
            written += view.bytes_written;
            buffered += view.buffered;
            taken_over += view.taken_over;
            up &= view.has_been_up || status.state == LaneState::Idle;
            problems.extend(lane_problems);
            lanes.push(status);
        }
        let stop = lock(&self.stopped).clone();
        let (received_per_second, written_per_second) = self.rates(ledger);
        RouteSnapshot {
            status: RouteStatus {
                namespace: self.document.settings.route.namespace.clone(),
                name: self.document.settings.route.name.clone(),
                uid: self.document.settings.route.uid.clone(),
                pod_uid: None,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                generation: 0,
                live: String::new(),
                credentials_taken_over: 0,
                credentials_refused: 0,
                retired: Vec::new(),
                phase: self.phase(&lanes, stop.is_some()),
                ready: up && self.kafka.has_answered(),
                problems: self.problems(stop, problems),
                ledger,
                received_per_second,
                written_per_second,
                latency: latency.to_contract(),
                buffered_bytes: buffered,
                lanes: lanes.clone(),
            },
            latency,
            bytes_received: received,
            bytes_written: written,
            reconnects: lanes.iter().map(|lane| lane.connections.saturating_sub(1)).sum(),
            taken_over,
            errors,
            producer_restarts: self.producer.restarts(),
        }
    }

    fn phase(&self, lanes: &[millrace_contract::status::LaneStatus], stopped: bool) -> Phase {
        let ending = *lock(&self.ending);
        if self.ended() && ending {
            Phase::Ended
        } else if ending {
            Phase::Draining
        } else if stopped {
            Phase::Stopped
        } else if lanes
            .iter()
            .all(|lane| matches!(lane.state, LaneState::Up | LaneState::Idle))
        {
            Phase::Running
        } else {
            Phase::Connecting
        }
    }

    fn problems(&self, stop: Option<Stop>, lanes: Vec<Problem>) -> Vec<Problem> {
        let servers = self.document.settings.sink.bootstrap_servers.join(", ");
        let stop = stop.map(|stop| Problem {
            reason: Reason::MessageUndeliverable,
            message: stop.message,
        });
        let mut seen = BTreeSet::new();
        let all = stop
            .into_iter()
            .chain(self.kafka.problems(&servers))
            .chain(self.topics.problems())
            .chain(lanes);
        all.filter(|problem| seen.insert((format!("{:?}", problem.reason), problem.message.clone())))
            .collect()
    }

    /// Messages per second received and written, over the last seconds.
    fn rates(&self, ledger: Ledger) -> (f64, f64) {
        let now = Instant::now();
        let mut rates = lock(&self.rates);
        while rates.get(1).is_some_and(|(at, _)| now - *at >= RATE_WINDOW) {
            rates.pop_front();
        }
        if rates
            .back()
            .is_none_or(|(at, _)| now - *at >= Duration::from_millis(100))
        {
            rates.push_back((now, ledger));
        }
        let Some((since, before)) = rates.front() else {
            return (0.0, 0.0);
        };
        let seconds = (now - *since).as_secs_f64();
        if seconds < 0.1 {
            return (0.0, 0.0);
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        (
            rate(ledger.received, before.received),
            rate(ledger.written, before.written),
        )
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.commands.send_replace(Command::Abort);
    }
}

/// What a lane does when a message stops the route: says so, and has all lanes drain.
fn on_stop(
    stopped: &Arc<Mutex<Option<Stop>>>,
    commands: &watch::Sender<Command>,
    document: &Document,
) -> Box<dyn Fn(Stop) + Send> {
    let (stopped, commands) = (Arc::clone(stopped), commands.clone());
    let route = format!(
        "{}/{}",
        document.settings.route.namespace, document.settings.route.name
    );
    Box::new(move |stop| {
        tracing::error!(route, reason = stop.reason, "{}", stop.message);
        lock(&stopped).get_or_insert(stop);
        commands.send_if_modified(|command| {
            let modified = *command == Command::Run;
            if modified {
                *command = Command::Drain;
            }
            modified
        });
    })
}

fn spawn(task: LaneTask) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = format!("lane-{}", task.plan.lane.lane);
    std::thread::Builder::new()
        .name(name)
        .spawn(move || runtime.block_on(task.run()))
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the worker panicked");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A route from Kafka to MQTT: a member of the route's consumer group that publishes what it reads, and commits offsets
//! only after the broker has confirmed.
//!
//! Two threads: `reader` polls Kafka, maps, and commits; `publisher` owns the connection to the broker. `progress` and
//! `window` decide, without I/O, what may be committed and what the broker still owes an answer for.

mod group;
mod outgoing;
mod plan;
mod progress;
mod publisher;
mod reader;
mod shared;
mod window;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_contract::status::{DeliveryStatus, PartitionStatus, Phase, Problem, Reason, RouteStatus};
use millrace_contract::{Document, LiveToMqtt, Settings};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use tokio::sync::{mpsc, watch};

use crate::backoff::Backoff;
use crate::certificates::expiring;
use crate::config::{self, ConfigError};
use crate::credentials::{Credentials, Trial};
use crate::failback::Failback;
use crate::kafka::{
    Armed, ClientSettings, KafkaCredentials, KafkaState, LaneSink, Looker, MAX_BATCH_BYTES, Mailbox,
    OptionsError, Producer, Reporting, Sight, TopicKeeper, TopicMaker, Topics, client_config,
    consumer_config, rotation,
};
use crate::metrics::RouteSnapshot;
use crate::survey::{Surveyor, Surveys};
use crate::worker::{Load, Rates, StartError, wait_for};
use group::{Group, Wrong};
use plan::{LivePlan, Plan};
use publisher::{Letters, Publisher};
use reader::Reader;
use shared::{Command, Orders, Shared};

/// Bytes that records between Kafka and the broker may take.
const BUDGET: usize = 16 * 1024 * 1024;
/// How long Kafka may answer nothing before another client asks.
const SILENCE: Duration = Duration::from_secs(60);

/// One running route from Kafka to MQTT. Dropping it gives up what is under way; [`Delivery::stop`] and
/// [`Delivery::wait`] do not.
pub struct Delivery {
    settings: Settings,
    plan: Plan,
    pod_uid: Option<String>,
    shared: Arc<Shared>,
    orders: watch::Sender<Orders>,
    credentials: Arc<Credentials>,
    kafka_credentials: Arc<KafkaCredentials>,
    /// Of dead letters.
    topics: Arc<Topics>,
    surveys: Arc<Surveys>,
    /// The configuration that is taken over.
    written: Mutex<LiveToMqtt>,
    rates: Mutex<Rates>,
    load: Mutex<Load>,
    /// Becomes true when the last thread has ended.
    ended: watch::Receiver<bool>,
}

impl Delivery {
    /// Starts a route: its threads connect, read and publish until [`Delivery::stop`], or until a record stops the route.
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn start(document: Document<LiveToMqtt>) -> Result<Self, StartError> {
        Self::new(document, String::new(), None, 0)
    }

    /// Starts a route as one of several workers. `live` is the hash of the document's live part, `pod_uid` the uid of the
    /// pod that this process runs in, `ordinal` its number.
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn operated(
        document: Document<LiveToMqtt>,
        live: String,
        pod_uid: String,
        ordinal: u32,
    ) -> Result<Self, StartError> {
        Self::new(document, live, Some(pod_uid), ordinal)
    }

    fn new(
        document: Document<LiveToMqtt>,
        hash: String,
        pod_uid: Option<String>,
        ordinal: u32,
    ) -> Result<Self, StartError> {
        let plan = Plan::of(&document.settings, ordinal)?;
        let live = Arc::new(LivePlan::new(&document.live, hash, 1)?);
        let client = ClientSettings::for_route(&document.settings, 0)?;
        let shared = Arc::new(Shared::new(
            &plan.session.client_id,
            BUDGET,
            &live.hash,
            pod_uid.is_none(),
        ));
        let credentials = Arc::new(Credentials::new(document.settings.broker.clone()));
        let (orders, receiver) = watch::channel(Orders {
            command: Command::Run,
            live: Arc::clone(&live),
        });
        let (steps, received) = mpsc::unbounded_channel();
        let surveys = Arc::new(Surveys::new(document.live.survey.clone()));
        let config = consumer_config(&client, &plan.consumer.group, live.failover)?;
        let kafka_credentials = Arc::clone(&client.credentials);
        let group = Group {
            name: plan.consumer.group.clone(),
            topics: plan.consumer.topics.clone(),
            start: plan.consumer.start,
            credentials: Arc::clone(&client.credentials),
            armed: Armed::default(),
            sight: Sight::default(),
            shared: Arc::clone(&shared),
            orders: receiver.clone(),
            surveys: Arc::clone(&surveys),
            paused: AtomicBool::new(false),
            pending: Mutex::default(),
        };
        let topics = Arc::new(Topics::new(live.dead_letter_topic.clone()));
        // The topic says how large a record may be that could not be delivered.
        let of_letters = ClientSettings {
            max_message_bytes: u64::from(u32::MAX),
            ..client.clone()
        };
        let (letters, producer) = letters(&of_letters, &topics)?;
        let of_producer = client_config(&client, MAX_BATCH_BYTES, true)?;
        let policies = config::topic_policies(&document.settings.sink)?;
        let maker = Arc::new(TopicMaker::new(
            policies,
            &of_producer,
            Arc::clone(&client.credentials),
        )?);
        let keeper = TopicKeeper::new(
            Arc::clone(&topics),
            Arc::clone(&producer),
            Arc::new(KafkaState::default()),
            Arc::clone(&maker),
        );
        let (read, written) = (plan.consumer.topics.clone(), Arc::clone(&topics));
        let surveyor = Surveyor::new(Arc::clone(&surveys), Looker::new(&client)?, maker, move || {
            read.iter().cloned().chain(written.names()).collect()
        });
        let publisher = Publisher {
            plan: plan.clone(),
            shared: Arc::clone(&shared),
            credentials: Arc::clone(&credentials),
            orders: receiver.clone(),
            steps: received,
            letters,
        };
        let poll = producer.spawn()?;
        // Not waited for at the end: it may be in a request that takes seconds, and holds nothing of a message.
        keeper.spawn()?;
        surveyor.spawn()?;
        let beginner = Beginner::new(&config, &group)?;
        let reader = spawn("kafka-read", {
            let (shared, orders) = (Arc::clone(&shared), receiver.clone());
            move || {
                if !begin(beginner, &config, &group, &shared, &orders) {
                    return;
                }
                // Made only now: what it has to say is heard from the first moment.
                match Reader::new(config, group, Arc::clone(&shared), orders, steps) {
                    Ok(reader) => reader.run(),
                    // Settings like these have just made a client.
                    Err(error) => {
                        let message = format!("no member of the group can be made: {error}");
                        shared
                            .view()
                            .cannot_read("start", Reason::KafkaUnreachable, message);
                    }
                }
            }
        })?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let publisher = spawn("mqtt-publish", move || runtime.block_on(publisher.run()))?;
        let failback = Failback::of(&document.settings.broker, &plan.session);
        if failback.is_some() || credentials.are_to_be_watched() {
            watch_broker(&credentials, &plan, failback, &shared)?;
        }
        rotation::spawn(client, Arc::clone(&producer), Arc::clone(&shared.kafka))?;
        let ended = wait_for(
            [publisher, reader].into_iter(),
            poll,
            &producer,
            &topics,
            &surveys,
        )?;
        Ok(Self {
            settings: document.settings,
            plan,
            pod_uid,
            shared,
            orders,
            credentials,
            kafka_credentials,
            topics,
            surveys,
            written: Mutex::new(document.live),
            rates: Mutex::default(),
            load: Mutex::default(),
            ended,
        })
    }

    /// Stops reading, waits for the broker to confirm what has been published (at most the document's
    /// `timeouts.drain`), commits that, and leaves the group. Returns at once: see [`Delivery::wait`].
    pub fn stop(&self) {
        self.command(Command::Drain);
    }

    /// Gives up what is under way: it is read again.
    pub fn abort(&self) {
        self.command(Command::Abort);
    }

    /// Takes over another configuration, between two records. `hash` is what `/status` reports from then on. A route that a
    /// record had stopped goes on: what has not arrived is read and mapped anew.
    ///
    /// # Errors
    /// When it cannot be used: the one before stays in use, and `/status` says so.
    pub fn reload(&self, live: &LiveToMqtt, hash: String) -> Result<(), ConfigError> {
        let mut written = lock(&self.written);
        let is_same =
            self.shared.view().refused.is_none() && written.without_survey() == live.without_survey();
        let revision = self.orders.borrow().live.revision + u64::from(!is_same);
        let plan = match LivePlan::new(live, hash, revision) {
            Ok(plan) => plan,
            Err(error) => {
                self.refuse_reload(&error.to_string());
                return Err(error);
            }
        };
        *written = live.clone();
        self.surveys.want(live.survey.clone());
        if !is_same {
            tracing::info!(live = plan.hash, "taking over a changed configuration");
            self.topics
                .renew(plan.dead_letter_topic.iter().cloned().collect());
            let mut view = self.shared.view();
            view.refused = None;
            view.reloads += 1;
        }
        self.orders.send_modify(|orders| orders.live = Arc::new(plan));
        self.shared.budget.wake();
        Ok(())
    }

    /// A changed configuration cannot even be read: `message` says why. The one before stays in use, and `/status`
    /// says so until another one can be used.
    pub fn refuse_reload(&self, message: &str) {
        let message = format!(
            "the changed configuration cannot be used: {message}; the one before is still in use: correct the route, \
             or use a worker of the operator's release"
        );
        tracing::error!("{message}");
        let mut view = self.shared.view();
        view.refused = Some(message);
        view.refusals += 1;
    }

    fn command(&self, command: Command) {
        self.orders.send_if_modified(|orders| {
            let changed = orders.command != Command::Abort && orders.command != command;
            if changed {
                orders.command = command;
            }
            changed
        });
        self.shared.budget.wake();
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
        let view = self.shared.view().clone();
        let ended = self.ended();
        let now = Instant::now();
        let (received_per_second, written_per_second) = lock(&self.rates).at(now, view.ledger);
        let of_broker = self.credentials.known().seen();
        let of_entry = self.kafka_credentials.known().seen();
        let mut connection = view.connection.clone();
        connection.oldest_unanswered_ms = view
            .oldest
            .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        let partitions = {
            let progress = self.shared.progress();
            let positions = progress.positions();
            positions
                .map(|(topic, partition, arrived)| PartitionStatus {
                    topic: topic.to_owned(),
                    partition,
                    arrived,
                    lag: view.lags.get(&(topic.to_owned(), partition)).copied(),
                })
                .collect()
        };
        let command = self.orders.borrow().command;
        let is_up = view.has_been_up && connection.state == millrace_contract::status::ConnectionState::Up;
        let phase = match (command, &view.stopped) {
            (Command::Drain | Command::Abort, _) if ended => Phase::Ended,
            (Command::Drain | Command::Abort, _) => Phase::Draining,
            (Command::Run, Some(_)) => Phase::Stopped,
            (Command::Run, None) if is_up && view.has_joined => Phase::Running,
            (Command::Run, None) => Phase::Connecting,
        };
        let servers = self.settings.sink.bootstrap_servers.join(", ");
        let stopped = view.stopped.as_ref().map(|stop| Problem {
            reason: match stop.reason {
                "OffsetOutOfRange" => Reason::OffsetOutOfRange,
                _ => Reason::MessageUndeliverable,
            },
            message: stop.message.clone(),
        });
        let refused = view.refused.map(|message| Problem {
            reason: Reason::ConfigurationRefused,
            message,
        });
        let of_kafka = self.kafka_credentials.problems(&self.shared.kafka, &servers);
        let mut certificates = self.credentials.known().certificates();
        certificates.extend(self.kafka_credentials.certificates());
        // Said once: reading has no more to say of it than that there was no answer.
        let is_said = !of_kafka.is_empty();
        let reading = view.reading.into_values();
        let reading = reading.filter(|problem| !(is_said && problem.reason == Reason::KafkaUnreachable));
        let problems = stopped
            .into_iter()
            .chain(refused)
            .chain(self.topics.problems())
            .chain(of_kafka)
            .chain(reading)
            .chain(view.broker)
            .chain(view.shortfalls)
            .chain(of_broker.2)
            .chain(of_entry.2)
            .chain(expiring(&certificates))
            .collect();
        let route = &self.settings.route;
        RouteSnapshot {
            status: RouteStatus {
                namespace: route.namespace.clone(),
                name: route.name.clone(),
                uid: route.uid.clone(),
                pod_uid: self.pod_uid.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                generation: 0,
                live: view.hash.clone(),
                certificates,
                credentials_taken_over: of_broker.0 + of_entry.0,
                credentials_refused: of_broker.1 + of_entry.1,
                late: Vec::new(),
                phase,
                ready: view.has_been_up && view.has_joined,
                problems,
                lanes: Vec::new(),
                delivery: Some(DeliveryStatus {
                    group: self.plan.consumer.group.clone(),
                    partitions,
                    connection: connection.clone(),
                    partitions_in_all: view.partitions_in_all,
                }),
                survey: self.surveys.seen(),
                ledger: view.ledger,
                received_per_second,
                written_per_second,
                load: lock(&self.load).at(now),
                latency: view.latency.to_contract(),
                buffered_bytes: self.shared.budget.used() as u64,
            },
            latency: view.latency,
            bytes_received: view.bytes_received,
            bytes_written: view.bytes_written,
            reconnects: connection.connections.saturating_sub(1),
            taken_over: view.taken_over,
            window_limited: Duration::ZERO,
            sink_saturated: Duration::ZERO,
            errors: view.errors,
            producer_restarts: 0,
            live_reloads: view.reloads,
            live_refusals: view.refusals,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.abort();
    }
}

/// Dead letters, and the producer that takes them.
fn letters(client: &ClientSettings, topics: &Arc<Topics>) -> Result<(Letters, Arc<Producer>), OptionsError> {
    let mailboxes: Arc<[Mailbox]> = Arc::new([Mailbox::default()]);
    let producer = Producer::new(
        client.clone(),
        Arc::clone(&mailboxes),
        Arc::new(KafkaState::default()),
        Arc::clone(topics),
    )?;
    let sink = LaneSink::new(Arc::clone(&producer));
    Ok((Letters::new(sink, mailboxes), producer))
}

/// A client that asks Kafka of the group without being one of its members.
struct Beginner {
    consumer: BaseConsumer<Reporting>,
    /// The revision of the credentials that it was made with.
    entry: u64,
    /// When it was made, or Kafka answered it last.
    heard: Instant,
}

impl Beginner {
    fn new(config: &ClientConfig, group: &Group) -> Result<Self, KafkaError> {
        let (entry, mut config) = group.newest(config);
        config.set("statistics.interval.ms", "0");
        let context = Reporting(Arc::clone(&group.shared.kafka));
        let consumer = config.create_with_context(context)?;
        Ok(Self {
            consumer,
            entry,
            heard: Instant::now(),
        })
    }
}

/// Sees to it that the group has offsets for all topics, before it is joined; tries until that is so. False when the
/// route ends before.
fn begin(
    mut beginner: Beginner,
    config: &ClientConfig,
    group: &Group,
    shared: &Shared,
    orders: &watch::Receiver<Orders>,
) -> bool {
    shared.budget.reads_here();
    let mut backoff = Backoff::default();
    let mut forbidden = None;
    while orders.borrow().command == Command::Run {
        if beginner.entry != group.credentials.known().revision() {
            match Beginner::new(config, group) {
                Ok(new) => (beginner, forbidden) = (new, None),
                Err(error) => tracing::error!(%error, "no client can be made with the changed credentials"),
            }
        }
        let consumer = &beginner.consumer;
        // Why there is none is said in status.
        group.credentials.bearer().arm_now(consumer.client()).ok();
        match group::begin(consumer, &group.name, &group.topics, group.start) {
            Ok(()) => {
                shared.view().reading.clear();
                shared.kafka.answered();
                return true;
            }
            Err(wrong) => {
                // Who may not be a member is told so once; all that it asks of the group is answered by silence.
                while let Some(heard) = consumer.poll(Duration::ZERO) {
                    let code = heard.err().and_then(|error| error.rdkafka_error_code());
                    let told = code.and_then(|code| group::forbidden(code, &group.name, &group.topics));
                    forbidden = told.or(forbidden);
                }
                let (reason, message) = match (wrong, &forbidden) {
                    (Wrong::Silent(_), Some(forbidden)) => forbidden.clone(),
                    (Wrong::Silent(told) | Wrong::Known(told), _) => told,
                };
                if reason != Reason::KafkaUnreachable {
                    shared.kafka.answered();
                    beginner.heard = Instant::now();
                } else if beginner.heard.elapsed() >= SILENCE
                    && let Ok(new) = Beginner::new(config, group)
                {
                    // It may have lost sight of the cluster.
                    beginner = new;
                }
                shared.view().cannot_read("start", reason, message);
                std::thread::park_timeout(backoff.next());
            }
        }
    }
    false
}

/// Tries changed credentials of the broker, and earlier urls than the one in use, until the route has ended. Not waited
/// for: it holds nothing of a message.
fn watch_broker(
    credentials: &Arc<Credentials>,
    plan: &Plan,
    failback: Option<Failback>,
    shared: &Arc<Shared>,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (credentials, shared) = (Arc::clone(credentials), Arc::clone(shared));
    let (session, protocol) = (plan.session.clone(), plan.protocol);
    let watch = async move {
        let changes = async {
            let mut trial = Trial::default();
            while credentials.are_to_be_watched() && !shared.has_parted() {
                tokio::time::sleep(Trial::PACE).await;
                let before = credentials.known().revision();
                trial.look(&credentials, &session, protocol).await;
                if credentials.known().revision() > before {
                    shared.yielding.notify_one();
                }
            }
        };
        let earlier = async {
            let Some(mut failback) = failback else {
                return;
            };
            let mut has_returned = false;
            while !shared.has_parted() {
                failback.pause().await;
                if !shared.is_connected() {
                    continue;
                }
                let place = shared.view().place;
                if place == 0 || std::mem::take(&mut has_returned) {
                    failback.returned(place == 0);
                }
                if place > 0 && failback.look(place, &credentials).await.is_some() {
                    shared.connect_again();
                    has_returned = true;
                }
            }
        };
        tokio::join!(changes, earlier);
    };
    spawn("broker", move || runtime.block_on(watch))?;
    Ok(())
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The thread that reads Kafka: polls, maps, hands over, and commits what has arrived.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_mapping::{Decision, Publication, SourceRecord};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{mpsc, watch};

use millrace_contract::status::Reason;

use super::group::{Group, forbidden};
use super::outgoing::{About, Arena, Body, Failed, Outgoing, Source, Step, charge};
use super::plan::LivePlan;
use super::progress::{Commit, Slot};
use super::shared::{Command, Orders, Shared};
use crate::clock::epoch_ms;
use crate::kafka::OwnedRecord;

/// How long one look for records lasts when there are none.
const POLL: Duration = Duration::from_micros(50_100);
/// Records, and bytes of them, that are handed over together.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 128 * 1024;
/// How often what has arrived is committed.
const COMMIT: Duration = Duration::from_millis(500);
/// How long the reader only waits for room before it tells Kafka to send nothing: from then on it goes on looking after
/// its membership of the group.
const PATIENCE: Duration = Duration::from_millis(500);
/// Records that partitions may remember until those before them have arrived: 16 bytes each.
const MAX_REMEMBERED: usize = 256 * 1024;
/// How often it looks whether there is room.
const GLANCE: Duration = Duration::from_millis(20);

/// Reads the route's topics as a member of its group.
pub(super) struct Reader {
    /// Without credentials of later.
    config: ClientConfig,
    /// The revision of the credentials that the consumer was made with.
    entry: u64,
    consumer: BaseConsumer<Group>,
    shared: Arc<Shared>,
    orders: watch::Receiver<Orders>,
    steps: mpsc::UnboundedSender<Vec<Step>>,
    /// The route's topics.
    topics: Vec<String>,
    batch: Batch,
    /// Partitions remember as many records as they may.
    is_crowded: bool,
}

/// Records that have been read and not handed over.
#[derive(Default)]
struct Batch {
    arena: Arena,
    records: Vec<Read>,
    /// Bytes of their values.
    bytes: u64,
    message: Publication,
    /// The partition of the record before, under the assignment of then.
    last: Option<(usize, i32, Slot)>,
    assignment: u64,
}

struct Read {
    slot: Slot,
    offset: i64,
    becomes: Becomes,
}

enum Becomes {
    Message(Body, About),
    Nothing,
    Failed {
        reason: &'static str,
        message: String,
        source: Source,
        revision: u64,
        record: Option<Box<OwnedRecord>>,
    },
}

impl Reader {
    /// A member of the group, which joins it when it runs.
    pub(super) fn new(
        config: ClientConfig,
        group: Group,
        shared: Arc<Shared>,
        orders: watch::Receiver<Orders>,
        steps: mpsc::UnboundedSender<Vec<Step>>,
    ) -> KafkaResult<Self> {
        let topics = group.topics.clone();
        let (entry, newest) = group.newest(&config);
        Ok(Self {
            entry,
            consumer: newest.create_with_context(group)?,
            config,
            shared,
            orders,
            steps,
            topics,
            batch: Batch::default(),
            is_crowded: false,
        })
    }

    /// Runs until it is told to end and the other thread has nothing more to say.
    pub(super) fn run(mut self) {
        self.shared.budget.reads_here();
        self.join();
        let mut full_since = None;
        let mut commit_at = Instant::now() + COMMIT;
        let mut live = Arc::clone(&self.orders.borrow_and_update().live);
        while !self.shared.has_parted() {
            self.tend();
            if self.orders.has_changed().unwrap_or(true) {
                let orders = self.orders.borrow_and_update().clone();
                if orders.command != Command::Run {
                    break;
                }
                live = orders.live;
            }
            // What stopped the route was mapped by a configuration of before, perhaps after the newest had come.
            if self.shared.is_stopped_before(live.revision) {
                self.begin_again();
            }
            if self.entry != self.group().credentials.known().revision() {
                self.renew();
            }
            let now = Instant::now();
            self.consumer
                .client()
                .context()
                .begin_pending(&self.consumer, now);
            if now >= commit_at {
                self.commit(CommitMode::Async);
                commit_at = now + COMMIT;
            }
            if self.has_room() && !self.shared.is_stopped() {
                if full_since.take().is_some() {
                    self.pause(false);
                }
                self.read(&live);
            } else {
                self.hand_over();
                let since = *full_since.get_or_insert(now);
                if now - since < PATIENCE {
                    std::thread::park_timeout(GLANCE);
                } else {
                    self.pause(true);
                    self.look_after(&live);
                }
            }
        }
        self.end(&live);
    }

    /// Whether there is memory for more: a partition remembers every record behind one that has not arrived.
    fn has_room(&self) -> bool {
        self.shared.budget.has_room() && !self.is_crowded
    }

    /// The record that stopped the route is to be mapped anew, and what follows it: all that has not arrived is read again,
    /// by leaving the group and coming back.
    fn begin_again(&mut self) {
        if self.leave() {
            self.shared.resume();
            self.join();
        }
    }

    /// Becomes another member of the group, made with the credentials that work now: librdkafka reads them once.
    fn renew(&mut self) {
        let group = self.group().again();
        let (entry, config) = group.newest(&self.config);
        self.entry = entry;
        match config.create_with_context(group) {
            Ok(consumer) if self.leave() => {
                self.consumer = consumer;
                self.join();
            }
            Ok(_) => {}
            // The connections there are go on.
            Err(error) => {
                tracing::error!(%error, "no member of the group can be made with the changed credentials")
            }
        }
    }

    /// Leaves the group. False: the route ends before nothing is held any more.
    fn leave(&mut self) -> bool {
        self.batch = Batch::default();
        self.consumer.unsubscribe();
        // As long as it takes: what is held is not read again. Whatever ends it otherwise ends the route.
        while self.shared.progress().holds_any() {
            if self.shared.has_parted() || self.orders.borrow().command != Command::Run {
                return false;
            }
            self.tend();
            self.consumer.poll(POLL);
        }
        true
    }

    fn join(&self) {
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        if let Err(error) = self.consumer.subscribe(&topics) {
            tracing::error!(%error, "cannot subscribe to the topics");
        }
    }

    /// Gives the member a newer token, and brokers if it has lost them.
    fn tend(&self) {
        let group = self.group();
        group
            .credentials
            .bearer()
            .arm(self.consumer.client(), &group.armed);
        let servers = self.config.get("bootstrap.servers").unwrap_or_default();
        group.sight.restore(self.consumer.client(), servers);
    }

    fn group(&self) -> &Group {
        self.consumer.client().context()
    }

    /// Takes a record, or hands over those taken when there is none.
    fn read(&mut self, live: &LivePlan) {
        let patience = match self.batch.records.is_empty() {
            true => POLL,
            false => Duration::ZERO,
        };
        match self.consumer.poll(patience) {
            Some(Ok(message)) => {
                self.batch.take(&message, live, &self.topics, &self.shared);
                if self.batch.is_full() {
                    self.hand_over();
                }
            }
            Some(Err(error)) => self.failed(&error),
            None => self.hand_over(),
        }
    }

    /// Stays a member of the group. What had been fetched before it was told to stop may still come.
    fn look_after(&mut self, live: &LivePlan) {
        self.tend();
        match self.consumer.poll(POLL) {
            Some(Ok(message)) => self.batch.take(&message, live, &self.topics, &self.shared),
            Some(Err(error)) => self.failed(&error),
            None => {}
        }
    }

    /// Has Kafka send nothing, or go on.
    fn pause(&self, pause: bool) {
        if self.consumer.client().context().set_paused(pause) == pause {
            return;
        }
        let all = self.consumer.assignment();
        let done = all.and_then(|all| match pause {
            true => self.consumer.pause(&all),
            false => self.consumer.resume(&all),
        });
        if let Err(error) = done {
            tracing::warn!(%error, pause, "cannot have Kafka pause or go on");
        }
    }

    /// Gives the other thread what has been read.
    fn hand_over(&mut self) {
        let steps = self.batch.finish(&self.shared);
        if !steps.is_empty() {
            // It ends later than this one.
            self.steps.send(steps).ok();
        }
        self.is_crowded = self.shared.progress().remembered() >= MAX_REMEMBERED;
    }

    /// Commits what has arrived.
    fn commit(&self, mode: CommitMode) {
        let commits = self.shared.progress().take_commits();
        commit(&self.consumer, &self.shared, &commits, mode);
    }

    fn failed(&self, error: &KafkaError) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        self.shared.kafka.failed(error, &error.to_string());
        let group = &self.consumer.client().context().name;
        let topics = self.topics.join(", ");
        let (reason, message) = match code {
            Code::AutoOffsetReset | Code::OffsetOutOfRange => {
                return self.consumer.client().context().out_of_range();
            }
            Code::UnknownTopicOrPartition | Code::UnknownTopic => (
                Reason::TopicMissing,
                format!(
                    "Kafka has not all of the topics {topics}: create what is missing, or correct spec.from.kafka.topics"
                ),
            ),
            _ => match forbidden(code, group, &self.topics) {
                Some(forbidden) => forbidden,
                None => return,
            },
        };
        self.shared.view().cannot_read("consumer", reason, message);
    }

    /// Stays a member until the other thread has ended, then commits what has arrived and leaves.
    fn end(mut self, live: &LivePlan) {
        self.pause(true);
        while !self.shared.has_parted() {
            self.look_after(live);
        }
        // What was read and not handed over is read again by whoever gets the partition.
        self.batch = Batch::default();
        self.commit(CommitMode::Sync);
    }
}

/// Commits offsets of this process's partitions.
pub(super) fn commit(consumer: &BaseConsumer<Group>, shared: &Shared, commits: &[Commit], mode: CommitMode) {
    if commits.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(commits.len());
    for Commit {
        topic,
        partition,
        offset,
    } in commits
    {
        // An offset that is not negative is always taken.
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .ok();
    }
    if let Err(error) = consumer.commit(&list, mode) {
        tracing::debug!(%error, "offsets could not be committed; they are again");
        shared.progress().ask_again();
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS
            || self.arena.len() >= BATCH_BYTES
            || self.bytes >= BATCH_BYTES as u64
    }

    /// Maps a record and keeps what becomes of it.
    fn take(&mut self, message: &BorrowedMessage<'_>, live: &LivePlan, topics: &[String], shared: &Shared) {
        let (topic, partition) = (message.topic(), message.partition());
        let assignment = shared.assignment();
        if self.assignment != assignment {
            (self.assignment, self.last) = (assignment, None);
        }
        let Some(place) = topics.iter().position(|one| one == topic) else {
            return;
        };
        let slot = match self.last {
            Some((last, number, slot)) if (last, number) == (place, partition) => slot,
            _ => {
                let Some(slot) = shared.progress().slot(topic, partition) else {
                    return;
                };
                self.last = Some((place, partition, slot));
                slot
            }
        };
        // Kafka takes names that are no UTF-8.
        let names: Vec<(Cow<'_, str>, Option<&[u8]>)> = millrace_librdkafka::headers(message)
            .map(|(name, value)| (name.to_string_lossy(), value))
            .collect();
        let headers: Vec<(&str, Option<&[u8]>)> = names
            .iter()
            .map(|(name, value)| (name.as_ref(), *value))
            .collect();
        let record = SourceRecord {
            topic,
            partition,
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
            key: message.key(),
            value: message.payload(),
            headers: &headers,
        };
        self.bytes += record.value.unwrap_or_default().len() as u64;
        let source = Source {
            topic: place,
            partition,
            offset: record.offset,
        };
        let kept = || live.keeps_records().then(|| Box::new(owned(&record)));
        let size = record.value.unwrap_or_default().len();
        let becomes = match live.mapper.map(&record, &mut self.message) {
            _ if size > live.max_message_bytes => Becomes::Failed {
                reason: "MessageTooLarge",
                message: format!(
                    "its value has {size} bytes, more than spec.maxMessageBytes, {}",
                    live.max_message_bytes
                ),
                source,
                revision: live.revision,
                record: kept(),
            },
            Ok(Decision::Filtered) => Becomes::Nothing,
            Ok(Decision::Write) => {
                // A record may be without a time: then it counts from when it is read.
                let began_at_ms = || message.timestamp().to_millis().unwrap_or_else(epoch_ms);
                let expires_at_ms = live
                    .expiry
                    .map(|expiry| began_at_ms().saturating_add(expiry.as_millis() as i64));
                let body = self.arena.push(&self.message, record.value.unwrap_or_default());
                let about = About {
                    qos: live.qos,
                    retain: live.retain,
                    expires_at_ms,
                    read_us: shared.us(Instant::now()),
                    source,
                    revision: live.revision,
                    record: kept(),
                };
                Becomes::Message(body, about)
            }
            Err(error) => Becomes::Failed {
                reason: error.reason(),
                message: error.to_string(),
                source,
                revision: live.revision,
                record: kept(),
            },
        };
        self.records.push(Read {
            slot,
            offset: record.offset,
            becomes,
        });
    }

    /// What the other thread is to do. Records whose partition has gone meanwhile are left out: they are read by who has
    /// it now.
    fn finish(&mut self, shared: &Shared) -> Vec<Step> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let bytes = self.arena.take();
        let (mut steps, mut received, mut filtered, mut charged) =
            (Vec::with_capacity(self.records.len()), 0, 0, 0);
        let mut progress = shared.progress();
        for Read {
            slot,
            offset,
            becomes,
        } in self.records.drain(..)
        {
            let Some(ticket) = progress.read(slot, offset) else {
                continue;
            };
            received += 1;
            let step = match becomes {
                Becomes::Nothing => {
                    filtered += 1;
                    progress.arrived(ticket);
                    continue;
                }
                Becomes::Message(body, about) => {
                    let outgoing: Outgoing = body.outgoing(&bytes, ticket, about);
                    Step::Publish(outgoing)
                }
                Becomes::Failed {
                    reason,
                    message,
                    source,
                    revision,
                    record,
                } => Step::Undeliverable(Failed {
                    ticket,
                    reason,
                    message,
                    source,
                    revision,
                    charge: charge(0, record.as_deref()),
                    record,
                }),
            };
            charged += step.charge();
            steps.push(step);
        }
        drop(progress);
        shared.budget.take(charged);
        let mut view = shared.view();
        view.bytes_received += std::mem::take(&mut self.bytes);
        view.ledger.received += received;
        view.ledger.filtered += filtered;
        view.ledger.in_flight += received - filtered;
        steps
    }
}

fn owned(record: &SourceRecord<'_>) -> OwnedRecord {
    let headers = record.headers.iter();
    OwnedRecord {
        topic: record.topic.to_owned(),
        key: record.key.map(<[u8]>::to_vec),
        value: record.value.map(<[u8]>::to_vec),
        headers: headers
            .map(|(name, value)| ((*name).to_owned(), value.unwrap_or_default().to_vec()))
            .collect(),
        timestamp_ms: record.timestamp_ms,
    }
}

//! Membership of the consumer group: partitions come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::Start;
use millrace_contract::status::Reason;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use serde::Deserialize;
use tokio::sync::watch;

use super::progress::Slot;
use super::reader::commit;
use super::shared::{Orders, Shared, Stop};
use crate::kafka::{Armed, KafkaCredentials, Sight, Statistics, log};
use crate::survey::Surveys;

/// How long Kafka may take to answer a question.
const ANSWER: Duration = Duration::from_secs(5);
/// How soon Kafka is asked again where a partition begins.
const AGAIN: Duration = Duration::from_secs(1);
/// Partitions that go are waited for so long at most: Kafka expels a member that is silent for five minutes.
const LONGEST_WAIT: Duration = Duration::from_secs(240);

/// What librdkafka calls back.
pub(super) struct Group {
    pub(super) name: String,
    pub(super) topics: Vec<String>,
    pub(super) start: Start,
    pub(super) credentials: Arc<KafkaCredentials>,
    /// Of the member, which has been given a token.
    pub(super) armed: Armed,
    pub(super) sight: Sight,
    pub(super) shared: Arc<Shared>,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) surveys: Arc<Surveys>,
    /// Kafka is to send nothing.
    pub(super) paused: AtomicBool,
    pub(super) pending: Mutex<Pending>,
}

impl Group {
    /// For another member in the place of this one.
    pub(super) fn again(&self) -> Self {
        Self {
            name: self.name.clone(),
            topics: self.topics.clone(),
            start: self.start,
            credentials: Arc::clone(&self.credentials),
            armed: Armed::default(),
            sight: Sight::default(),
            shared: Arc::clone(&self.shared),
            orders: self.orders.clone(),
            surveys: Arc::clone(&self.surveys),
            paused: AtomicBool::new(false),
            pending: Mutex::default(),
        }
    }

    /// What to make a client with, as the credentials are now, and their revision: of those that come in between it is the
    /// one before, so that they are noticed.
    pub(super) fn newest(&self, config: &ClientConfig) -> (u64, ClientConfig) {
        let entry = self.credentials.known().revision();
        let mut config = config.clone();
        self.credentials.apply(&mut config);
        (entry, config)
    }

    /// Says whether Kafka is to send nothing; returns what was said before.
    pub(super) fn set_paused(&self, paused: bool) -> bool {
        self.paused.swap(paused, Ordering::AcqRel)
    }

    /// The next record of a partition is not in Kafka any more: where to go on is for a person to decide.
    pub(super) fn out_of_range(&self) {
        let positions: Vec<String> = {
            let progress = self.shared.progress();
            let positions = progress.positions();
            positions
                .map(|(topic, partition, arrived)| match arrived {
                    Some(offset) => format!("{topic}[{partition}] up to {offset}"),
                    None => format!("{topic}[{partition}]"),
                })
                .collect()
        };
        self.shared.stop(Stop {
            reason: "OffsetOutOfRange",
            revision: self.orders.borrow().live.revision,
            message: format!(
                "records that group {} was to read next are not in Kafka any more: they are older than the topic keeps, or the \
                 topic was made anew (read here: {}); what is gone cannot be delivered: set the group's offsets to where it is \
                 to go on (kafka-consumer-groups.sh --reset-offsets), or name another spec.from.kafka.group, and restart the \
                 workers",
                self.name,
                positions.join(", ")
            ),
        });
    }

    fn assigned(&self, consumer: &BaseConsumer<Self>, new: &TopicPartitionList) {
        {
            let mut pending = self.pending();
            pending.partitions.extend(
                new.elements()
                    .iter()
                    .map(|one| (one.topic().to_owned(), one.partition())),
            );
            pending.again_at = None;
        }
        // librdkafka goes on with the group when it is told so, be that nothing.
        if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::error!(%error, "cannot take partitions");
        }
        tracing::info!(partitions = names(new), "partitions have come");
        self.begin_pending(consumer, Instant::now());
        // It is given them anew when there are more.
        let in_all = in_all(consumer, &self.topics);
        let mut view = self.shared.view();
        view.partitions_in_all = in_all.unwrap_or(view.partitions_in_all);
        view.has_joined = true;
        view.reading.clear();
    }

    /// Begins to read the partitions of which it was not known before where that is. Kafka is not let decide: what it
    /// cannot tell now it would take for an offset out of range.
    pub(super) fn begin_pending(&self, consumer: &BaseConsumer<Self>, now: Instant) {
        let mut pending = self.pending();
        if pending.partitions.is_empty() || pending.again_at.is_some_and(|at| now < at) {
            return;
        }
        let (known, unknown) = starts(consumer, &pending.partitions, self.start);
        pending.partitions = unknown;
        drop(pending);
        if known.count() > 0 {
            self.take(consumer, &known);
        }
        // From now: Kafka may have taken its time.
        self.pending().again_at = Some(Instant::now() + AGAIN);
    }

    /// Reads partitions from where a list says.
    fn take(&self, consumer: &BaseConsumer<Self>, list: &TopicPartitionList) {
        {
            let mut progress = self.shared.progress();
            for element in list.elements() {
                let start = match element.offset() {
                    Offset::Offset(offset) => Some(offset),
                    _ => None,
                };
                progress.assign(element.topic().into(), element.partition(), start);
            }
        }
        self.reassigned();
        if let Err(error) = consumer.incremental_assign(list) {
            tracing::error!(%error, "cannot take partitions; tried again");
            let slots = self.slots(list);
            self.shared.progress().gone(&slots);
            self.reassigned();
            return self.pending().partitions.extend(named(list));
        }
        let done = match self.paused.load(Ordering::Acquire) {
            true => consumer.pause(list),
            false => consumer.resume(list),
        };
        if let Err(error) = done {
            tracing::warn!(%error, "cannot have Kafka pause or go on");
        }
    }

    fn revoked(&self, consumer: &BaseConsumer<Self>, old: &TopicPartitionList) {
        let begun = {
            let mut pending = self.pending();
            let mut begun = TopicPartitionList::new();
            for element in old.elements() {
                let (topic, partition) = (element.topic(), element.partition());
                let before = pending.partitions.len();
                pending
                    .partitions
                    .retain(|(one, number)| (one.as_str(), *number) != (topic, partition));
                if pending.partitions.len() == before {
                    begun.add_partition(topic, partition);
                }
            }
            begun
        };
        let slots = self.slots(&begun);
        let is_lost = consumer.assignment_lost();
        self.shared.progress().yields(&slots);
        self.shared.yielding.notify_one();
        if !is_lost {
            let drain = self.orders.borrow().live.drain.min(LONGEST_WAIT);
            self.shared.wait_for_arrival(&slots, drain);
            // All of this process: that others are committed as well does no harm.
            let commits = self.shared.progress().take_commits();
            commit(consumer, &self.shared, &commits, CommitMode::Sync);
        }
        let returned = {
            // An answer that comes now finds both as they were, or both as they will be.
            let mut progress = self.shared.progress();
            let returned = progress.gone(&slots) as u64;
            let mut view = self.shared.view();
            view.ledger.in_flight -= returned;
            view.ledger.returned += returned;
            returned
        };
        self.reassigned();
        // librdkafka remembers that they are paused, and would not read them if they came back.
        if let Err(error) = consumer.resume(&begun) {
            tracing::warn!(%error, "cannot have Kafka go on");
        }
        // Also of none: librdkafka waits to be told.
        if let Err(error) = consumer.incremental_unassign(&begun) {
            tracing::error!(%error, "cannot give partitions back");
        }
        tracing::info!(
            partitions = names(old),
            lost = is_lost,
            returned,
            "partitions have gone"
        );
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The partitions are others now. The member that has the first one of the first topic looks at Kafka for all.
    fn reassigned(&self) {
        self.shared.reassigned();
        let first = self.topics.first().map_or("", String::as_str);
        let has_it = self.shared.progress().slot(first, 0).is_some();
        self.surveys.set_on_duty(has_it);
    }

    fn slots(&self, list: &TopicPartitionList) -> Vec<Slot> {
        let progress = self.shared.progress();
        let elements = list.elements();
        let slots = elements
            .iter()
            .filter_map(|element| progress.slot(element.topic(), element.partition()));
        slots.collect()
    }
}

/// Topics and numbers of partitions.
fn named(list: &TopicPartitionList) -> Vec<(String, i32)> {
    let elements = list.elements();
    elements
        .iter()
        .map(|element| (element.topic().to_owned(), element.partition()))
        .collect()
}

/// Partitions that have come, and of which it is not known where to begin.
#[derive(Debug, Default)]
pub(super) struct Pending {
    partitions: Vec<(String, i32)>,
    /// When Kafka is asked again.
    again_at: Option<Instant>,
}

/// Where to begin in partitions: what the group has committed; else, in a topic that the group has begun to read, at the
/// first record, because the partition was added later; else as the route says. The others are those that Kafka tells
/// nothing of now.
fn starts<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    partitions: &[(String, i32)],
    start: Start,
) -> (TopicPartitionList, Vec<(String, i32)>) {
    let (mut known, mut unknown) = (TopicPartitionList::new(), Vec::new());
    let topics: BTreeSet<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
    for topic in topics {
        let mine = partitions.iter().filter(|(one, _)| one == topic);
        match offsets(consumer, topic, start) {
            Ok(offsets) => {
                let mut is_silent = false;
                for (topic, partition) in mine {
                    let offset = match offsets.get(partition) {
                        Some(offset) => Ok(*offset),
                        // One question without an answer is enough: each takes its time.
                        None if is_silent => {
                            Err(KafkaError::MetadataFetch(RDKafkaErrorCode::OperationTimedOut))
                        }
                        None => first(consumer, topic, *partition),
                    };
                    let added = offset.and_then(|offset| {
                        known.add_partition_offset(topic, *partition, Offset::Offset(offset))
                    });
                    if let Err(error) = added {
                        tracing::warn!(topic, partition, %error, "it is not known where to begin; asked again");
                        unknown.push((topic.clone(), *partition));
                        is_silent = true;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(topic, %error, "it is not known where to begin; asked again");
                unknown.extend(mine.cloned());
            }
        }
    }
    (known, unknown)
}

/// What the group has committed of a topic. Of one that it has never read, it commits for all partitions where to begin:
/// whoever gets another of them is to begin at the same time.
fn offsets<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    start: Start,
) -> KafkaResult<BTreeMap<i32, i64>> {
    let committed = committed(consumer, topic)?;
    if !committed.is_empty() {
        return Ok(committed);
    }
    let begin = beginning(consumer, topic, start)?;
    // Another member may have been faster: what it reads already is not to be moved.
    let committed = self::committed(consumer, topic)?;
    if !committed.is_empty() {
        return Ok(committed);
    }
    let mut list = TopicPartitionList::new();
    for (partition, offset) in &begin {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    consumer.commit(&list, CommitMode::Sync)?;
    Ok(begin)
}

/// What the group has committed of a topic, by partition.
fn committed<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> KafkaResult<BTreeMap<i32, i64>> {
    let mut all = TopicPartitionList::new();
    for partition in partitions(consumer, topic)? {
        all.add_partition(topic, partition);
    }
    let committed = consumer.committed_offsets(all, ANSWER)?;
    let mut offsets = BTreeMap::new();
    for element in committed.elements() {
        // What Kafka does not tell is not taken for nothing.
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

/// Where a topic begins that the group has never read, by partition.
fn beginning<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    start: Start,
) -> KafkaResult<BTreeMap<i32, i64>> {
    let partitions = partitions(consumer, topic)?.into_iter();
    let offsets = partitions.map(|partition| {
        let (first, next) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
        let offset = match start {
            Start::Earliest => first,
            Start::Latest => next,
        };
        Ok((partition, offset))
    });
    offsets.collect()
}

/// The first record of a partition.
fn first<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str, partition: i32) -> KafkaResult<i64> {
    Ok(consumer.fetch_watermarks(topic, partition, ANSWER)?.0)
}

fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let Some(topic) = metadata.topics().iter().find(|one| one.name() == topic) else {
        return Ok(Vec::new());
    };
    // A topic that may not be seen has no partitions either.
    if let Some(RDKafkaErrorCode::TopicAuthorizationFailed) = topic.error().map(RDKafkaErrorCode::from) {
        return Err(KafkaError::MetadataFetch(
            RDKafkaErrorCode::TopicAuthorizationFailed,
        ));
    }
    let partitions = topic.partitions().iter().map(|partition| partition.id());
    Ok(partitions.collect())
}

/// Partitions of several topics, if that can be known now.
fn in_all<C: ConsumerContext>(consumer: &BaseConsumer<C>, topics: &[String]) -> Option<u32> {
    let mut count = 0;
    for topic in topics {
        count += partitions(consumer, topic).ok()?.len();
    }
    u32::try_from(count).ok()
}

fn names(list: &TopicPartitionList) -> String {
    let elements = list.elements();
    let names = elements
        .iter()
        .map(|element| format!("{}[{}]", element.topic(), element.partition()));
    names.collect::<Vec<_>>().join(", ")
}

impl ConsumerContext for Group {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, list),
            _ => self.revoked(consumer, list),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result
            && error.rdkafka_error_code() != Some(RDKafkaErrorCode::NoOffset)
        {
            tracing::debug!(%error, "offsets could not be committed; they are again");
            self.shared.progress().ask_again();
        }
    }
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        self.shared.kafka.failed(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let of_brokers = Statistics::read(statistics);
        self.sight.look(of_brokers.as_ref());
        if let Some(of_brokers) = of_brokers {
            self.shared.kafka.apply(of_brokers);
        }
        if let Ok(statistics) = serde_json::from_slice::<Lags>(statistics) {
            let topics = statistics.topics.into_iter();
            let lags = topics.flat_map(|(topic, of)| {
                let partitions = of.partitions.into_iter();
                partitions
                    .filter(|(number, one)| *number >= 0 && one.consumer_lag >= 0)
                    .map(move |(number, one)| ((topic.clone(), number), one.consumer_lag))
            });
            self.shared.view().lags = lags.collect();
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

/// The part of librdkafka's statistics that says how far behind the end this client is.
#[derive(Debug, Deserialize)]
struct Lags {
    #[serde(default)]
    topics: BTreeMap<String, TopicStatistics>,
}

#[derive(Debug, Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: BTreeMap<i32, PartitionStatistics>,
}

#[derive(Debug, Deserialize)]
struct PartitionStatistics {
    /// -1 while it is not known.
    #[serde(default)]
    consumer_lag: i64,
}

/// What is to be said when Kafka does not let a client do something: the right that its user lacks.
pub(super) fn forbidden(code: RDKafkaErrorCode, group: &str, topics: &[String]) -> Option<(Reason, String)> {
    let message = match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => format!(
            "Kafka does not let this client read {}: grant its user Read on the topics",
            topics.join(", ")
        ),
        RDKafkaErrorCode::GroupAuthorizationFailed => format!(
            "Kafka does not let this client be a member of the group {group}: grant its user Read on the group, or set \
             spec.from.kafka.group to one that it may use"
        ),
        _ => return None,
    };
    Some((Reason::KafkaRefused, message))
}

/// What is in the way of a group, and what is to be said of it.
pub(super) enum Wrong {
    /// Kafka answers, but not what is asked of the group.
    Silent((Reason, String)),
    /// Anything else.
    Known((Reason, String)),
}

/// Commits where each topic begins that the group has never read, before it is read: `start` applies once.
///
/// # Errors
/// What is in the way.
pub(super) fn begin<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    group: &str,
    topics: &[String],
    start: Start,
) -> Result<(), Wrong> {
    let told = |error: KafkaError| {
        let code = error.rdkafka_error_code();
        let forbidden = code.and_then(|code| forbidden(code, group, topics));
        forbidden.unwrap_or_else(|| {
            (
                Reason::KafkaUnreachable,
                format!("Kafka does not say where to begin: {error}; it is asked again"),
            )
        })
    };
    let wrong = |error| Wrong::Known(told(error));
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let partitions = partitions(consumer, topic).map_err(wrong)?;
        if partitions.is_empty() {
            let message =
                format!("Kafka has no topic {topic:?}: create it, or correct spec.from.kafka.topics");
            return Err(Wrong::Known((Reason::TopicMissing, message)));
        }
        let committed = committed(consumer, topic).map_err(|error| Wrong::Silent(told(error)))?;
        if !committed.is_empty() {
            continue;
        }
        for (partition, offset) in beginning(consumer, topic, start).map_err(wrong)? {
            list.add_partition_offset(topic, partition, Offset::Offset(offset))
                .map_err(wrong)?;
        }
    }
    if list.count() == 0 {
        return Ok(());
    }
    match consumer.commit(&list, CommitMode::Sync) {
        // The group has members: whoever gets a partition of the topic sees to it.
        Err(KafkaError::ConsumerCommit(
            RDKafkaErrorCode::UnknownMemberId
            | RDKafkaErrorCode::IllegalGeneration
            | RDKafkaErrorCode::RebalanceInProgress,
        )) => Ok(()),
        other => other.map_err(wrong),
    }
}

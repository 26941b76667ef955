//! The letters of a route, in the order of partition and offset, and how far each reason has been redriven.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use millrace_contract::AnyDocument;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::letter::Letter;
use super::progress::Progress;

/// How long Kafka may take to answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Reads a topic of dead letters from its beginning to where it ended when this was made.
pub(super) struct Letters {
    config: ClientConfig,
    consumer: BaseConsumer,
    topic: String,
    /// `namespace/name`.
    route: String,
    /// Before the reason, in the names of groups.
    group: String,
    /// Only these; all, if there are none.
    reasons: Vec<String>,
    /// Where each partition that has something ends.
    ends: BTreeMap<i32, i64>,
    partitions: Vec<i32>,
    /// How far each reason is, by partition.
    redriven: RefCell<HashMap<String, BTreeMap<i32, Progress>>>,
}

impl Letters {
    pub(super) fn open(document: &AnyDocument, topic: &str, reasons: &[String]) -> anyhow::Result<Self> {
        let settings = document.settings();
        let mut config = bridge_worker::reaching(&settings.sink)?;
        config
            .set("client.id", "millrace-redrive")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed");
        let group = format!(
            "millrace.redrive.{}.{}",
            settings.route.namespace, settings.route.name
        );
        let consumer: BaseConsumer = config.clone().set("group.id", &group).create()?;
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).map_err(|error| {
            anyhow!(
                "Kafka at {} does not answer: {error}; check the KafkaSink's spec.bootstrapServers and the network",
                settings.sink.bootstrap_servers.join(", ")
            )
        })?;
        let found = metadata.topics().iter().find(|one| one.name() == topic);
        let partitions: Vec<i32> = found.map_or_else(Vec::new, |topic| {
            topic
                .partitions()
                .iter()
                .map(|partition| partition.id())
                .collect()
        });
        if partitions.is_empty() {
            bail!("Kafka has no topic {topic:?}: no dead letter was ever written");
        }
        let mut ends = BTreeMap::new();
        let mut list = TopicPartitionList::new();
        for partition in &partitions {
            let (first, end) = consumer.fetch_watermarks(topic, *partition, ANSWER)?;
            if first < end {
                ends.insert(*partition, end);
                list.add_partition_offset(topic, *partition, Offset::Offset(first))?;
            }
        }
        consumer.assign(&list)?;
        Ok(Self {
            config,
            consumer,
            topic: topic.to_owned(),
            route: format!("{}/{}", settings.route.namespace, settings.route.name),
            group,
            reasons: reasons.to_vec(),
            ends,
            partitions,
            redriven: RefCell::default(),
        })
    }

    /// The next letter that is to be redriven.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Letter>> {
        let mut heard = Instant::now();
        while !self.ends.is_empty() {
            let Some(record) = self.consumer.poll(Duration::from_millis(100)) else {
                self.forget_read()?;
                if heard.elapsed() > ANSWER {
                    bail!("Kafka gives no more of {} for {} s", self.topic, ANSWER.as_secs());
                }
                continue;
            };
            let letter = Letter::of(&record?);
            heard = Instant::now();
            match self.ends.get(&letter.partition) {
                Some(end) if letter.offset < *end => {
                    if letter.offset + 1 >= *end {
                        self.ends.remove(&letter.partition);
                    }
                }
                _ => continue,
            }
            if self.is_wanted(&letter)? {
                return Ok(Some(letter));
            }
        }
        Ok(None)
    }

    /// Partitions whose last records are none that a reader gets, such as the marks of transactions, are read as well.
    fn forget_read(&mut self) -> anyhow::Result<()> {
        let positions = self.consumer.position()?;
        let at = |partition: i32| {
            let element = positions.find_partition(&self.topic, partition)?;
            match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            }
        };
        self.ends
            .retain(|partition, end| at(*partition).is_none_or(|position| position < *end));
        Ok(())
    }

    fn is_wanted(&self, letter: &Letter) -> anyhow::Result<bool> {
        let reason = letter.reason();
        let is_named = self.reasons.is_empty() || self.reasons.iter().any(|one| one == reason);
        if !is_named || !letter.is_of(&self.route) {
            return Ok(false);
        }
        if !self.redriven.borrow().contains_key(reason) {
            let offsets = self.committed(reason)?;
            self.redriven.borrow_mut().insert(reason.to_owned(), offsets);
        }
        let redriven = self.redriven.borrow();
        let progress = redriven
            .get(reason)
            .and_then(|progress| progress.get(&letter.partition));
        Ok(progress.is_none_or(|progress| progress.is_due(letter.offset)))
    }

    fn committed(&self, reason: &str) -> anyhow::Result<BTreeMap<i32, Progress>> {
        let mut list = TopicPartitionList::new();
        for partition in &self.partitions {
            list.add_partition(&self.topic, *partition);
        }
        let committed = self.keeper(reason)?.committed_offsets(list, ANSWER)?;
        let mut known = BTreeMap::new();
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let progress = Progress::of(offset, element.metadata()).with_context(|| {
                    format!("group {}.{reason} is not as this program left it", self.group)
                })?;
                known.insert(element.partition(), progress);
            }
        }
        Ok(known)
    }

    /// These have been delivered, or passed over, and all of the same reasons before them.
    pub(super) fn keep<'l>(&self, letters: impl Iterator<Item = (&'l Letter, bool)>) -> anyhow::Result<()> {
        let mut redriven = self.redriven.borrow_mut();
        let mut changed: BTreeSet<(&str, i32)> = BTreeSet::new();
        for (letter, passed_over) in letters {
            let of_reason = redriven.entry(letter.reason().to_owned()).or_default();
            let progress = of_reason.entry(letter.partition).or_default();
            progress.add(letter.offset, passed_over);
            changed.insert((letter.reason(), letter.partition));
        }
        for (reason, partition) in changed {
            let Some(progress) = redriven.get(reason).and_then(|all| all.get(&partition)) else {
                continue;
            };
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&self.topic, partition, Offset::Offset(progress.next))?;
            if let Some(mut element) = list.find_partition(&self.topic, partition) {
                element.set_metadata(progress.kept()?);
            }
            self.keeper(reason)?.commit(&list, CommitMode::Sync).context(
                "Kafka does not keep how far the letters were redriven: a next time begins before them",
            )?;
        }
        Ok(())
    }

    /// A client of the group of a reason, which never becomes a member.
    fn keeper(&self, reason: &str) -> anyhow::Result<BaseConsumer> {
        let group = format!("{}.{reason}", self.group);
        Ok(self.config.clone().set("group.id", group).create()?)
    }
}

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_contract::status::{Problem, Reason};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::maker::{Made, TopicMaker};
use super::options::MAX_BATCH_BYTES;
use super::producer::Producer;
use super::state::KafkaState;

/// How often topics are looked at again.
const REVIEW: Duration = Duration::from_secs(30);
/// How often Kafka is asked while it has not answered, or a wanted topic is missing.
const RETRY: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(5);
/// A topic that is not there, or that nobody may see, is forgotten when nothing was to be written to it for so long, with
/// what was wrong with it. It is not made either.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Batch framing and record framing that count towards `max.message.bytes`, rounded up.
const FRAMING_BYTES: u64 = 512;

/// The Kafka topics this worker writes to, and what is known of them.
#[derive(Debug)]
pub(crate) struct Topics {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// The smallest `max.message.bytes` of all topics.
    smallest_limit: AtomicU64,
    /// Some topic is missing: spares the usual case a look into the table.
    any_missing: AtomicBool,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    topics: BTreeMap<String, Topic>,
}

#[derive(Clone, Debug, Default)]
struct Topic {
    /// The configuration names it: it is wanted whether something is written to it or not.
    is_named: bool,
    /// When something was to be written to it last, as far as it was not there.
    asked: Option<Instant>,
    /// When Kafka said first that it is not there, or not any more.
    missed: Option<Instant>,
    /// `None`: Kafka has not been asked yet.
    exists: Option<bool>,
    has_existed: bool,
    max_message_bytes: Option<u64>,
    problem: Option<Problem>,
}

impl Topic {
    fn named() -> Self {
        Self {
            is_named: true,
            ..Self::default()
        }
    }

    fn is_missing(&self) -> bool {
        self.exists == Some(false) && !self.has_existed
    }

    fn is_wanted(&self, now: Instant) -> bool {
        self.is_named || is_recent(self.asked, now)
    }
}

impl Topics {
    /// `wanted` are the topics known beforehand: looked at, and created if allowed, before the first record.
    pub(crate) fn new(wanted: impl IntoIterator<Item = String>) -> Self {
        let topics = wanted.into_iter().map(|name| (name, Topic::named())).collect();
        Self {
            inner: Mutex::new(Inner { topics }),
            changed: Condvar::new(),
            smallest_limit: AtomicU64::new(u64::MAX),
            any_missing: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        }
    }

    /// A record for this topic is about to be sent.
    pub(crate) fn want(&self, topic: &str) {
        let mut inner = self.lock();
        if !inner.topics.contains_key(topic) {
            let new = Topic {
                asked: Some(Instant::now()),
                ..Topic::default()
            };
            inner.topics.insert(topic.to_owned(), new);
            self.changed.notify_one();
        }
    }

    /// The route writes to other topics from now on: those that are missing and are not needed for it are forgotten, with
    /// what was wrong with them.
    pub(crate) fn renew(&self, wanted: Vec<String>) {
        let mut inner = self.lock();
        inner
            .topics
            .retain(|name, topic| !topic.is_missing() || wanted.contains(name));
        for topic in inner.topics.values_mut() {
            topic.is_named = false;
        }
        for name in wanted {
            inner.topics.entry(name).or_default().is_named = true;
        }
        self.note_missing(&inner);
        self.changed.notify_one();
    }

    /// Whether Kafka has said that the topic does not exist, and it cannot be created.
    pub(crate) fn is_missing(&self, topic: &str) -> bool {
        if !self.any_missing.load(Ordering::Relaxed) {
            return false;
        }
        let mut inner = self.lock();
        let missing = inner.topics.get_mut(topic).filter(|topic| topic.is_missing());
        if let Some(topic) = missing {
            topic.asked = Some(Instant::now());
            return true;
        }
        false
    }

    /// Forgets topics that are not known to exist and that nobody wants any more: a device has named one once, a lane was
    /// about to act by another configuration, or the topic was deleted. Whether there were any.
    fn forget(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let before = inner.topics.len();
        inner.topics.retain(|_, topic| {
            topic.exists == Some(true) || topic.is_wanted(now) || is_recent(topic.missed, now)
        });
        self.note_missing(&inner);
        inner.topics.len() < before
    }

    /// Whether Kafka has said before that the topic exists, of which it says now that it does not, and has not gone on saying so:
    /// brokers that start forget topics for a moment.
    pub(crate) fn has_known(&self, topic: &str) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.topics.get_mut(topic).is_some_and(|topic| {
            topic.asked = Some(now);
            topic.has_existed && topic.missed.is_none_or(|_| is_recent(topic.missed, now))
        })
    }

    /// Whether something is to be written to the topic.
    fn is_wanted(&self, topic: &str) -> bool {
        let now = Instant::now();
        self.lock()
            .topics
            .get(topic)
            .is_some_and(|topic| topic.is_wanted(now))
    }

    /// The topic's `max.message.bytes`, if a record of this size is larger.
    pub(crate) fn exceeds(&self, topic: &str, bytes: u64) -> Option<u64> {
        if bytes + FRAMING_BYTES <= self.smallest_limit.load(Ordering::Relaxed) {
            return None;
        }
        let inner = self.lock();
        inner
            .topics
            .get(topic)?
            .max_message_bytes
            .filter(|limit| bytes + FRAMING_BYTES > *limit)
    }

    /// The largest batch that every topic takes, in bytes.
    pub(crate) fn batch_bytes(&self) -> u64 {
        self.smallest_limit
            .load(Ordering::Relaxed)
            .saturating_sub(FRAMING_BYTES)
            .clamp(1024, MAX_BATCH_BYTES)
    }

    /// All that are known of.
    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().topics.keys().cloned().collect()
    }

    /// What is wrong with topics.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        self.lock()
            .topics
            .values()
            .filter_map(|topic| topic.problem.clone())
            .collect()
    }

    /// Ends the keeper.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.changed.notify_all();
    }

    /// To be called after any change of the table.
    fn note_missing(&self, inner: &Inner) {
        let any = inner.topics.values().any(Topic::is_missing);
        self.any_missing.store(any, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_recent(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| now.saturating_duration_since(moment) < FORGOTTEN)
}

/// The thread that looks after topics: asks Kafka about them, creates what may be created, learns their limits.
pub(crate) struct TopicKeeper {
    topics: Arc<Topics>,
    producer: Arc<Producer>,
    state: Arc<KafkaState>,
    maker: Arc<TopicMaker>,
}

impl TopicKeeper {
    pub(crate) fn new(
        topics: Arc<Topics>,
        producer: Arc<Producer>,
        state: Arc<KafkaState>,
        maker: Arc<TopicMaker>,
    ) -> Self {
        Self {
            topics,
            producer,
            state,
            maker,
        }
    }

    /// Starts the thread; it ends after [`Topics::stop`].
    pub(crate) fn spawn(self) -> std::io::Result<JoinHandle<()>> {
        std::thread::Builder::new()
            .name("kafka-topics".into())
            .spawn(move || self.run())
    }

    fn run(self) {
        while !self.topics.stop.load(Ordering::Acquire) {
            if self.topics.forget(Instant::now()) {
                // Whoever writes to one of them again tells of it again.
                self.producer.forget_topics();
            }
            // Counted before: a topic that is added during the review is looked at in the next, at once.
            let asked = self.topics.lock().topics.len();
            let settled = self.review();
            let wait = if settled { REVIEW } else { RETRY };
            let inner = self.topics.lock();
            let stop = &self.topics.stop;
            // Ends early when a topic is added.
            let waited = self.topics.changed.wait_timeout_while(inner, wait, |inner| {
                inner.topics.len() == asked && !stop.load(Ordering::Acquire)
            });
            drop(waited);
        }
    }

    /// Looks at every topic once; true when all is known and well.
    fn review(&self) -> bool {
        let native = self.producer.native();
        let names: Vec<String> = self.topics.lock().topics.keys().cloned().collect();
        let brokers = match native
            .client()
            .fetch_metadata(names.first().map(String::as_str), TIMEOUT)
        {
            Ok(metadata) => metadata.brokers().len(),
            Err(error) => {
                self.state.silent(&error.to_string());
                return false;
            }
        };
        self.state.answered();
        // What exists first: limits come from a request that some clusters answer late, or not at all.
        let mut existing = Vec::new();
        let mut settled = true;
        for name in names {
            let (topic, replicas) = self.look(&name);
            settled &= topic.exists == Some(true);
            self.note(&name, topic);
            existing.extend(replicas.map(|replicas| (name, replicas)));
        }
        for (name, replicas) in existing {
            if let Some(topic) = self.describe(&name, brokers, replicas) {
                self.note(&name, topic);
            }
        }
        settled
    }

    /// Adds what has been learnt of a topic to what is known of it.
    fn note(&self, name: &str, topic: Topic) {
        let mut inner = self.topics.lock();
        // It may have been forgotten meanwhile.
        let Some(known) = inner.topics.get_mut(name) else {
            return;
        };
        known.has_existed |= topic.exists == Some(true);
        if let (None, Some(problem)) = (&known.problem, &topic.problem) {
            tracing::warn!(reason = ?problem.reason, "{}", problem.message);
        }
        match topic.exists {
            Some(true) => known.missed = None,
            Some(false) if known.exists != Some(false) => known.missed = Some(Instant::now()),
            _ => {}
        }
        known.exists = topic.exists.or(known.exists);
        known.max_message_bytes = topic.max_message_bytes.or(known.max_message_bytes);
        known.problem = topic.problem;
        self.topics.note_missing(&inner);
        let smallest = inner
            .topics
            .values()
            .filter_map(|topic| topic.max_message_bytes)
            .min();
        self.topics
            .smallest_limit
            .store(smallest.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Asks Kafka for a topic, and creates it if it is missing and may be. The second value is its fewest
    /// replicas, if it exists.
    fn look(&self, name: &str) -> (Topic, Option<usize>) {
        let native = self.producer.native();
        let metadata = match native.client().fetch_metadata(Some(name), TIMEOUT) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.state.silent(&error.to_string());
                return (Topic::default(), None);
            }
        };
        let Some(found) = metadata.topics().iter().find(|topic| topic.name() == name) else {
            return (Topic::default(), None);
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {
                let replicas = found
                    .partitions()
                    .iter()
                    .map(|partition| partition.replicas().len())
                    .min();
                let problem = self
                    .topics
                    .lock()
                    .topics
                    .get(name)
                    .and_then(|topic| topic.problem.clone());
                let problem = problem.filter(|problem| problem.reason == Reason::TopicUnsafe);
                (
                    Topic {
                        exists: Some(true),
                        problem,
                        ..Topic::default()
                    },
                    Some(replicas.unwrap_or(0)),
                )
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic)
                if self.topics.is_wanted(name) =>
            {
                (self.create(name), None)
            }
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                let gone = Topic {
                    exists: Some(false),
                    ..Topic::default()
                };
                (gone, None)
            }
            // LeaderNotAvailable while it is being created, and the like.
            Some(_) => (Topic::default(), None),
        }
    }

    fn create(&self, name: &str) -> Topic {
        match self.maker.make(name) {
            // Asked again, and described, on the next look.
            Made::Created | Made::Exists => Topic::default(),
            Made::No(message) => Topic {
                exists: Some(false),
                problem: Some(Problem {
                    reason: Reason::TopicMissing,
                    message,
                }),
                ..Topic::default()
            },
            Made::Trouble(error) => {
                self.state.silent(&error);
                Topic::default()
            }
        }
    }

    fn describe(&self, name: &str, brokers: usize, replicas: usize) -> Option<Topic> {
        // Without an answer, Kafka's own answer to a record decides.
        let config = self.maker.describe(name).ok()?;
        let value = |name: &str| config.get(name).cloned().flatten();
        let min_insync = value("min.insync.replicas").and_then(|text| text.parse().ok());
        Some(Topic {
            exists: Some(true),
            max_message_bytes: value("max.message.bytes").and_then(|text| text.parse().ok()),
            problem: of_one_broker(name, brokers, replicas, min_insync),
            ..Topic::default()
        })
    }
}

/// What is to be said of a topic that confirms what only one broker has, where there could be more.
fn of_one_broker(name: &str, brokers: usize, replicas: usize, min_insync: Option<usize>) -> Option<Problem> {
    let is_unsafe = brokers >= 3 && (replicas < 2 || min_insync.is_some_and(|min| min < 2));
    is_unsafe.then(|| Problem {
        reason: Reason::TopicUnsafe,
        message: format!(
            "topic {name:?} confirms records that only one broker has (replicas {replicas}, min.insync.replicas {}): \
             a broker lost is records lost; use 3 replicas and min.insync.replicas=2",
            min_insync.unwrap_or(1)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_topic_is_forgotten_when_nothing_is_written_to_it_any_more() {
        let topics = Topics::new(["named".to_owned()]);
        for name in ["forbidden", "stray", "there"] {
            topics.want(name);
        }
        let exists = |name: &str, exists| {
            topics.lock().topics.get_mut(name).unwrap().exists = Some(exists);
        };
        exists("named", false);
        exists("stray", false);
        exists("there", true);
        let begin = Instant::now();
        let known = |after| {
            let is_less = topics.forget(begin + after);
            (is_less, topics.names())
        };
        let all = ["forbidden", "named", "stray", "there"]
            .map(str::to_owned)
            .to_vec();
        assert_eq!(known(FORGOTTEN / 2), (false, all.clone()));
        // Something is to be written to it: it is remembered for longer.
        assert!(topics.is_missing("stray"));
        let all = ["named", "stray", "there"].map(str::to_owned).to_vec();
        assert_eq!(known(FORGOTTEN), (true, all));
        assert_eq!(
            known(2 * FORGOTTEN),
            (true, ["named", "there"].map(str::to_owned).to_vec())
        );
        assert!(topics.is_missing("named") && !topics.is_missing("stray"));
        topics.renew(vec!["other".into()]);
        assert_eq!(topics.names(), ["other", "there"]);
    }

    #[test]
    fn a_topic_that_was_deleted_is_made_again_only_for_who_writes_to_it() {
        let topics = Topics::new([]);
        topics.want("deleted");
        let begin = Instant::now();
        let set = |asked, missed| {
            let mut inner = topics.lock();
            let topic = inner.topics.get_mut("deleted").unwrap();
            (topic.exists, topic.has_existed) = (Some(false), true);
            (topic.asked, topic.missed) = (asked, missed);
        };
        set(None, Some(begin));
        assert!(!topics.is_wanted("deleted"));
        assert!(
            !topics.forget(begin + FORGOTTEN / 2),
            "it may be a broker that does not know yet"
        );
        // A record for it was refused.
        assert!(topics.has_known("deleted") && topics.is_wanted("deleted"));
        // Nobody waits for one of which that has been said for long.
        set(None, begin.checked_sub(FORGOTTEN));
        assert!(!topics.has_known("deleted") && topics.is_wanted("deleted"));
        set(None, Some(begin));
        assert!(topics.forget(begin + FORGOTTEN));
        assert!(!topics.has_known("deleted") && !topics.is_wanted("deleted"));
    }

    #[test]
    fn a_topic_is_unsafe_that_confirms_what_one_broker_has_where_there_are_three() {
        let is_unsafe = |brokers, replicas, min| of_one_broker("out", brokers, replicas, min).is_some();
        assert!(is_unsafe(3, 1, Some(2)));
        assert!(is_unsafe(3, 3, Some(1)));
        assert!(!is_unsafe(3, 3, Some(2)));
        assert!(!is_unsafe(3, 2, Some(2)));
        // What is not known is not said, and where there is one broker it cannot be otherwise.
        assert!(!is_unsafe(3, 3, None));
        assert!(!is_unsafe(1, 1, Some(1)));
        let problem = of_one_broker("out", 3, 3, Some(1)).unwrap();
        assert_eq!(problem.reason, Reason::TopicUnsafe);
        assert!(
            problem.message.contains("(replicas 3, min.insync.replicas 1)")
                && problem.message.contains("use 3 replicas"),
            "{problem:?}"
        );
    }
}

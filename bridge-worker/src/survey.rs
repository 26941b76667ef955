//! Looks at Kafka for all workers of a route: its topics, and consumer groups of others. Adds partitions where the
//! configuration says so; writes nothing else.

mod groups;
mod history;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::survey::{Survey, Surveyed, TopicSurvey};

use crate::kafka::{Looker, TopicMaker};
use groups::Groups;
use history::History;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(10);
/// How often topics are compared with what the sink says.
const COMPARED: Duration = Duration::from_secs(60);

/// What the thread is told, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct Surveys {
    inner: Mutex<Inner>,
    changed: Condvar,
    /// This process is the one that looks.
    on_duty: AtomicBool,
}

#[derive(Debug, Default)]
struct Inner {
    wanted: Survey,
    seen: Option<Surveyed>,
    stop: bool,
    /// Something was changed that is to be looked at now.
    is_new: bool,
}

impl Surveys {
    pub(crate) fn new(wanted: Survey) -> Self {
        let surveys = Self::default();
        surveys.want(wanted);
        surveys
    }

    /// Another configuration is in use.
    pub(crate) fn want(&self, wanted: Survey) {
        let mut inner = self.lock();
        inner.is_new |= inner.wanted != wanted;
        inner.wanted = wanted;
        self.changed.notify_all();
    }

    /// Says whether this process is the one that looks.
    pub(crate) fn set_on_duty(&self, on_duty: bool) {
        if self.on_duty.swap(on_duty, Ordering::AcqRel) == on_duty {
            return;
        }
        let mut inner = self.lock();
        inner.seen = None;
        inner.is_new = true;
        self.changed.notify_all();
    }

    /// What was seen last. `None`: this process does not look, or has not yet.
    pub(crate) fn seen(&self) -> Option<Surveyed> {
        self.lock().seen.clone()
    }

    /// Ends the thread.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that looks.
pub(crate) struct Surveyor<T> {
    surveys: Arc<Surveys>,
    kafka: Looker,
    maker: Arc<TopicMaker>,
    /// The route's topics.
    topics: T,
    written: BTreeMap<String, History>,
    /// When topics were last compared with what the sink says, and what differs.
    drifts: BTreeMap<String, (Instant, Vec<String>)>,
    groups: Groups,
}

impl<T: Fn() -> Vec<String> + Send + 'static> Surveyor<T> {
    pub(crate) fn new(surveys: Arc<Surveys>, kafka: Looker, maker: Arc<TopicMaker>, topics: T) -> Self {
        Self {
            surveys,
            kafka,
            maker,
            topics,
            written: BTreeMap::new(),
            drifts: BTreeMap::new(),
            groups: Groups::default(),
        }
    }

    /// Starts the thread; it ends after [`Surveys::stop`]. It need not be waited for: it may be in a request that takes
    /// seconds, and holds nothing of a message.
    pub(crate) fn spawn(mut self) -> std::io::Result<()> {
        std::thread::Builder::new()
            .name("kafka-survey".into())
            .spawn(move || self.run())?;
        Ok(())
    }

    fn run(&mut self) {
        loop {
            let wanted = {
                let mut inner = self.surveys.lock();
                if inner.stop {
                    return;
                }
                inner.is_new = false;
                inner.wanted.clone()
            };
            if self.surveys.on_duty.load(Ordering::Acquire) {
                let seen = self.look(&wanted);
                let mut inner = self.surveys.lock();
                inner.seen = self.surveys.on_duty.load(Ordering::Acquire).then_some(seen);
            } else {
                // Of another time, if this process is the one again.
                self.written.clear();
                self.groups = Groups::default();
                self.kafka.rest();
            }
            let inner = self.surveys.lock();
            let waited = self
                .surveys
                .changed
                .wait_timeout_while(inner, EVERY, |inner| !inner.stop && !inner.is_new);
            drop(waited);
        }
    }

    fn look(&mut self, wanted: &Survey) -> Surveyed {
        let mut names = (self.topics)();
        names.extend(wanted.partitions.keys().cloned());
        names.sort_unstable();
        names.dedup();
        self.written.retain(|name, _| names.contains(name));
        self.drifts.retain(|name, _| names.contains(name));
        let topics = names.into_iter().filter_map(|name| self.topic(name, wanted));
        let topics = topics.collect();
        Surveyed {
            topics,
            groups: self.groups.look(&wanted.groups, &self.kafka),
        }
    }

    /// `None`: Kafka says nothing now.
    fn topic(&mut self, name: String, wanted: &Survey) -> Option<TopicSurvey> {
        let (mut partitions, replicas) = self.kafka.shape(&name).ok()?;
        let mut problem = None;
        if let Some(wanted) = wanted.partitions.get(&name)
            && partitions > 0
            && partitions < *wanted
        {
            match self.maker.grow(&name, *wanted) {
                Ok(()) => {
                    tracing::info!(topic = name, from = partitions, to = wanted, "added partitions");
                    partitions = *wanted;
                }
                Err(error) => problem = Some(error),
            }
        }
        let numbers: Vec<(&str, i32)> = (0..partitions)
            .filter_map(|number| Some((name.as_str(), i32::try_from(number).ok()?)))
            .collect();
        // An end that is not told would be missed now, and look like a burst later.
        if let Ok(ends) = self.kafka.ends(&numbers)
            && ends.iter().all(|end| end.offset.is_some())
        {
            let sum = ends.iter().filter_map(|end| end.offset).sum::<i64>();
            let history = self.written.entry(name.clone()).or_default();
            history.add(Instant::now(), sum.unsigned_abs());
        }
        let drift = self.drift(&name, replicas);
        let records_per_second = self.written.get(&name).and_then(History::per_second);
        Some(TopicSurvey {
            name,
            partitions,
            records_per_second,
            drift,
            problem,
        })
    }

    /// What of a topic is not as the sink says. Kafka is not asked for it each time.
    fn drift(&mut self, topic: &str, replicas: u32) -> Vec<String> {
        if replicas == 0 {
            return Vec::new();
        }
        if let Some((at, drift)) = self.drifts.get(topic)
            && at.elapsed() < COMPARED
        {
            return drift.clone();
        }
        let drift = self.maker.drift(topic, replicas);
        self.drifts
            .insert(topic.to_owned(), (Instant::now(), drift.clone()));
        drift
    }
}

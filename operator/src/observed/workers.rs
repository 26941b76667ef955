use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::status::{DeliveryStatus, PartitionStatus, RouteStatus};
use millrace_contract::survey::Surveyed;

/// What a worker said last.
#[derive(Clone, Debug, Default)]
pub struct WorkerSeen {
    /// Its answer, unless it has never given one.
    pub status: Option<RouteStatus>,
    /// It did not answer the last time it was asked.
    pub silent: Option<Silence>,
    /// When it last did.
    pub answered: Option<Instant>,
    /// When it was last asked.
    pub asked: Option<Instant>,
    /// When its answer was last news.
    pub told: Option<Instant>,
    /// It has moved messages since.
    pub moved: bool,
    /// Since when its pod is known to have been told to go.
    pub going: Option<Instant>,
}

/// Questions in a row without an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Why the last of them had none.
    pub why: String,
    /// When the first of them had none.
    pub since: Instant,
    /// How many there were.
    pub questions: u32,
}

impl WorkerSeen {
    /// Whether what it said last still counts: one question without an answer is no sign.
    pub fn answers(&self) -> bool {
        self.status.is_some() && !self.is_silent()
    }

    /// Whether it has been asked in vain.
    pub fn is_silent(&self) -> bool {
        self.silent
            .as_ref()
            .is_some_and(|silence| silence.questions >= FAILURES)
    }

    /// Whether it has by now been asked in vain for so long. Of a worker that another operator has heard, this one knows
    /// nothing.
    pub fn is_silent_for(&self, span: Duration, now: Instant) -> bool {
        let silence = self.silent.as_ref().filter(|_| self.is_silent());
        silence.is_some_and(|silence| now.duration_since(silence.since) >= span)
    }
}

/// Questions without an answer, in a row, after which a worker counts as silent.
const FAILURES: u32 = 2;

/// What is new in a worker's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// How many messages it has moved. Not more often than once in [`COUNTS`].
    Counts,
    /// Anything else.
    State,
}

/// How often counts alone are news.
pub const COUNTS: Duration = Duration::from_secs(60);

/// What the workers said last, by the uid of their pods.
#[derive(Debug, Default)]
pub struct Workers {
    seen: Mutex<HashMap<String, WorkerSeen>>,
    /// Pods that are looked at closely, because something about them is to change.
    watched: Mutex<HashSet<String>>,
}

impl Workers {
    /// What a worker said last.
    pub fn of(&self, pod_uid: &str) -> WorkerSeen {
        lock(&self.seen).get(pod_uid).cloned().unwrap_or_default()
    }

    /// A worker's pod has been told to go: for how long that has been known.
    pub fn going(&self, pod_uid: &str, now: Instant) -> Duration {
        let mut seen = lock(&self.seen);
        let worker = seen.entry(pod_uid.to_owned()).or_default();
        now.saturating_duration_since(*worker.going.get_or_insert(now))
    }

    /// A worker's load, and the messages per second that it receives; none while it is silent.
    pub fn flow(&self, pod_uid: &str) -> Option<(f64, f64)> {
        let seen = lock(&self.seen);
        let worker = seen.get(pod_uid).filter(|worker| worker.answers())?;
        let status = worker.status.as_ref()?;
        Some((status.load, status.received_per_second))
    }

    /// What a worker sees of Kafka for all of its route, if it is the one that looks and still answers.
    pub fn survey(&self, pod_uid: &str) -> Option<Surveyed> {
        let seen = lock(&self.seen);
        let worker = seen.get(pod_uid).filter(|worker| worker.answers())?;
        worker.status.as_ref()?.survey.clone()
    }

    /// Something about a worker is to change, or is no longer.
    pub fn watch(&self, pod_uid: &str, closely: bool) {
        let mut watched = lock(&self.watched);
        if closely {
            watched.insert(pod_uid.to_owned());
        } else {
            watched.remove(pod_uid);
        }
    }

    /// Whether a worker is to be asked now.
    pub fn is_due(&self, pod_uid: &str, now: Instant, interval: Duration, close: Duration) -> bool {
        let interval = if lock(&self.watched).contains(pod_uid) {
            close
        } else {
            interval
        };
        let seen = lock(&self.seen);
        let Some(asked) = seen.get(pod_uid).and_then(|worker| worker.asked) else {
            return true;
        };
        now.duration_since(asked) >= interval
    }

    /// A worker has answered, or not. Returns what is new.
    pub fn answered(&self, pod_uid: &str, answer: Result<RouteStatus, String>, now: Instant) -> Option<News> {
        let mut seen = lock(&self.seen);
        let worker = seen.entry(pod_uid.to_owned()).or_default();
        worker.asked = Some(now);
        match answer {
            Ok(status) => {
                let state =
                    worker.silent.is_some() || worker.status.as_ref().is_none_or(|old| is_news(old, &status));
                worker.moved |= worker
                    .status
                    .as_ref()
                    .is_some_and(|old| old.ledger != status.ledger);
                let is_due = worker.told.is_none_or(|told| now.duration_since(told) >= COUNTS);
                (worker.status, worker.silent) = (Some(status), None);
                worker.answered = Some(now);
                let news = match state {
                    true => News::State,
                    false if worker.moved && is_due => News::Counts,
                    false => return None,
                };
                (worker.told, worker.moved) = (Some(now), false);
                Some(news)
            }
            Err(why) => {
                let (since, before) = match &worker.silent {
                    Some(silence) => (silence.since, silence.questions),
                    None => (now, 0),
                };
                let questions = before.saturating_add(1);
                worker.silent = Some(Silence {
                    why,
                    since,
                    questions,
                });
                (questions <= FAILURES).then_some(News::State)
            }
        }
    }

    /// Forgets all other workers.
    pub fn retain(&self, pod_uids: &HashSet<String>) {
        lock(&self.seen).retain(|uid, _| pod_uids.contains(uid));
        lock(&self.watched).retain(|uid| pod_uids.contains(uid));
    }
}

/// Whether anything but counts has changed.
fn is_news(old: &RouteStatus, new: &RouteStatus) -> bool {
    let lanes = |status: &RouteStatus| {
        status
            .lanes
            .iter()
            .map(|lane| (lane.lane, lane.state))
            .collect::<Vec<_>>()
    };
    old.phase != new.phase
        || old.ready != new.ready
        || old.generation != new.generation
        || old.live != new.live
        || old.problems != new.problems
        || old.late != new.late
        || old.credentials_refused != new.credentials_refused
        || old.credentials_taken_over != new.credentials_taken_over
        || lanes(old) != lanes(new)
        || reads_others(old.delivery.as_ref(), new.delivery.as_ref())
        || old.survey.as_ref().map(without_counts) != new.survey.as_ref().map(without_counts)
}

/// Whether it reads other partitions, or there are more or fewer in all.
fn reads_others(old: Option<&DeliveryStatus>, new: Option<&DeliveryStatus>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return old.is_some() != new.is_some();
    };
    let same = |(old, new): (&PartitionStatus, &PartitionStatus)| {
        old.partition == new.partition && old.topic == new.topic
    };
    old.partitions_in_all != new.partitions_in_all
        || old.partitions.len() != new.partitions.len()
        || !old.partitions.iter().zip(&new.partitions).all(same)
}

/// What was seen of Kafka, but for rates and lags: those are news only where something follows from them.
fn without_counts(survey: &Surveyed) -> Surveyed {
    let mut survey = survey.clone();
    for topic in &mut survey.topics {
        topic.records_per_second = None;
    }
    for topic in survey.groups.iter_mut().flat_map(|group| &mut group.topics) {
        topic.lag = topic.lag.map(|_| 0);
        topic.grows = false;
    }
    survey
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use millrace_contract::status::{ConnectionStatus, Ledger};

    use super::*;

    #[test]
    fn messages_that_moved_are_news_once_a_minute_and_none_is_forgotten() {
        let workers = Workers::default();
        let start = Instant::now();
        let answer = |received: u64, seconds: u64| {
            let status = RouteStatus {
                ledger: Ledger {
                    received,
                    ..Ledger::default()
                },
                ..RouteStatus::default()
            };
            workers.answered("pod", Ok(status), start + Duration::from_secs(seconds))
        };
        assert_eq!(answer(1, 0), Some(News::State));
        assert_eq!(answer(2, 15), None);
        assert_eq!(answer(2, 30), None);
        // Nothing moves now, but something has.
        assert_eq!(answer(2, 61), Some(News::Counts));
        assert_eq!(answer(2, 122), None);
        assert_eq!(answer(3, 137), Some(News::Counts));
        assert_eq!(answer(4, 152), None);
    }

    #[test]
    fn partitions_that_were_added_or_went_to_another_worker_are_news() {
        let workers = Workers::default();
        let now = Instant::now();
        let reads = |partitions: &[i32], partitions_in_all, arrived| {
            let held = partitions.iter().map(|partition| PartitionStatus {
                topic: "commands".to_owned(),
                partition: *partition,
                arrived: Some(arrived),
                lag: Some(100 - arrived),
            });
            let delivery = DeliveryStatus {
                connection: ConnectionStatus::new("millrace-6a3d0c1e-out-0"),
                group: "millrace-6a3d0c1e".to_owned(),
                partitions: held.collect(),
                partitions_in_all,
            };
            let status = RouteStatus {
                delivery: Some(delivery),
                ..RouteStatus::default()
            };
            workers.answered("pod", Ok(status), now)
        };
        assert_eq!(reads(&[0, 1], 2, 5), Some(News::State));
        assert_eq!(reads(&[0, 1], 2, 6), None);
        assert_eq!(reads(&[0, 1], 4, 6), Some(News::State));
        assert_eq!(reads(&[0], 4, 6), Some(News::State));
        assert_eq!(reads(&[1], 4, 6), Some(News::State));
        assert_eq!(reads(&[1], 4, 7), None);
    }

    #[test]
    fn what_a_worker_said_last_counts_until_two_questions_in_a_row_have_no_answer() {
        let workers = Workers::default();
        let now = Instant::now();
        let says = || workers.answered("pod", Ok(RouteStatus::default()), now);
        let misses = || workers.answered("pod", Err("away".into()), now);
        says();
        for _ in 0..2 {
            assert_eq!(misses(), Some(News::State));
            assert!(workers.of("pod").answers() && workers.flow("pod").is_some());
            assert_eq!(says(), Some(News::State));
        }
        assert_eq!(
            [misses(), misses(), misses()].map(|news| news.is_some()),
            [true, true, false]
        );
        assert!(!workers.of("pod").answers() && workers.flow("pod").is_none());
        says();
        assert!(workers.of("pod").answers());
    }

    #[test]
    fn a_worker_that_was_never_heard_is_silent_since_it_was_first_asked() {
        let workers = Workers::default();
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        let asked = |seconds| {
            workers.answered("pod", Err("away".into()), begin + seconds * second);
            let is_silent = |span| {
                workers
                    .of("pod")
                    .is_silent_for(span * second, begin + seconds * second)
            };
            [0, 59, 60].map(is_silent)
        };
        assert_eq!(asked(0), [false; 3]);
        assert_eq!(asked(59), [true, true, false]);
        assert_eq!(asked(60), [true; 3]);
    }
}

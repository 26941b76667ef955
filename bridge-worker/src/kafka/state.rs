use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_contract::status::{Problem, Reason};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Deserialize;

use super::trouble::Trouble;

/// Statistics intervals (of 2 s) a partition may stand still before it is called stalled.
const STALLED_AFTER: u32 = 5;
/// A broker that is away is tried again sooner: `reconnect.backoff.max.ms` is 2 s.
const AT_REST: Duration = Duration::from_secs(5);
/// How long the first answer may take before its absence is a problem.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// What is known of the way to Kafka. Fed by librdkafka's callbacks, read for status.
#[derive(Debug)]
pub(crate) struct KafkaState {
    started: Instant,
    inner: Mutex<Inner>,
}

impl Default for KafkaState {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            inner: Mutex::default(),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    answered: bool,
    unreachable: bool,
    /// Why Kafka gives the producer no identifier, without which it cannot write.
    refused: Option<String>,
    trouble: Option<Trouble>,
    partitions: HashMap<(String, i32), Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    acknowledged: u64,
    standing: u32,
    leader: i32,
}

impl Inner {
    fn trouble(&mut self, new: Trouble) {
        self.trouble = Some(Trouble::or_newer(self.trouble.take(), new));
    }
}

impl KafkaState {
    /// Kafka has answered.
    pub(crate) fn answered(&self) {
        let mut inner = self.lock();
        inner.answered = true;
        inner.trouble = None;
        if std::mem::take(&mut inner.unreachable) {
            tracing::info!("Kafka answers again");
        }
    }

    /// Whether Kafka has answered once.
    pub(crate) fn has_answered(&self) -> bool {
        self.lock().answered
    }

    /// Whether it has answered, and can be reached.
    pub(crate) fn is_usable(&self) -> bool {
        let inner = self.lock();
        inner.answered && !inner.unreachable
    }

    /// librdkafka reports an error: that no broker is left, or what is no verdict yet.
    pub(crate) fn failed(&self, error: &KafkaError, text: &str) {
        let trouble = Trouble::of(error, text);
        let mut inner = self.lock();
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            inner.trouble(trouble);
            return;
        }
        let trouble = inner.trouble.get_or_insert(trouble).clone();
        if !std::mem::replace(&mut inner.unreachable, true) {
            tracing::warn!(
                reason = trouble.text(),
                "Kafka cannot be reached; messages wait where they come from"
            );
        }
    }

    /// Kafka refuses the producer as such, whatever it wants to write. Ends when the statistics say that one has
    /// been given an identifier.
    pub(crate) fn refused(&self, reason: &str) {
        self.lock().refused.get_or_insert_with(|| reason.to_owned());
    }

    /// Whether a look at TLS could tell more of what is wrong.
    pub(crate) fn could_be_tls(&self) -> bool {
        let inner = self.lock();
        let trouble = inner.trouble.as_ref();
        (inner.unreachable || !inner.answered) && trouble.is_some_and(Trouble::could_be_tls)
    }

    /// A look at TLS has told more.
    pub(crate) fn diagnosed(&self, text: String) {
        self.lock().trouble(Trouble::diagnosed(text));
    }

    /// A question was not answered.
    pub(crate) fn silent(&self, text: &str) {
        self.lock().trouble(Trouble::silence(text));
    }

    /// Takes librdkafka's statistics.
    pub(crate) fn apply(&self, statistics: Statistics) {
        if statistics.name_one_that_is_up() {
            self.answered();
        }
        let mut inner = self.lock();
        if statistics.name_an_id() {
            inner.refused = None;
        }
        let mut partitions = HashMap::new();
        for (topic, statistics) in statistics.topics {
            for (number, partition) in statistics.partitions {
                if number < 0 || partition.waiting() == 0 {
                    continue;
                }
                let key = (topic.clone(), number);
                let before = inner.partitions.remove(&key);
                let standing = before
                    .filter(|before| before.acknowledged == partition.acked_msgid)
                    .map_or(0, |before| before.standing + 1);
                partitions.insert(
                    key,
                    Progress {
                        acknowledged: partition.acked_msgid,
                        standing,
                        leader: partition.leader,
                    },
                );
            }
        }
        inner.partitions = partitions;
    }

    /// What is wrong on the way to Kafka.
    pub(crate) fn problems(&self, servers: &str) -> Vec<Problem> {
        let inner = self.lock();
        if let Some(trouble) = inner.trouble.as_ref().filter(|_| inner.unreachable) {
            let what = match trouble.reason() {
                Reason::KafkaUnreachable => format!("no Kafka broker of {servers} can be reached"),
                _ => format!("Kafka at {servers} cannot be used"),
            };
            return vec![Problem {
                reason: trouble.reason(),
                message: format!(
                    "{what}: {}",
                    trouble.told("; nothing is lost, messages wait where they come from")
                ),
            }];
        }
        if let Some(reason) = &inner.refused {
            return vec![Problem {
                reason: Reason::KafkaRefused,
                message: format!(
                    "Kafka at {servers} lets this client produce nothing: {reason}; nothing is lost, messages wait \
                     where they come from: grant its user Write on the topics, and on Kafka before 2.8 also \
                     IdempotentWrite on the cluster"
                ),
            }];
        }
        if !inner.answered {
            let silence = Trouble::silence("");
            let trouble = inner.trouble.as_ref().unwrap_or(&silence);
            if *trouble == silence && self.started.elapsed() < FIRST_ANSWER {
                return Vec::new();
            }
            return vec![Problem {
                reason: trouble.reason(),
                message: format!(
                    "Kafka at {servers} has not answered yet{}{}",
                    if trouble.text().is_empty() { "" } else { ": " },
                    trouble.told("")
                ),
            }];
        }
        let stalled: BTreeMap<_, _> = inner
            .partitions
            .iter()
            .filter(|(_, progress)| progress.standing >= STALLED_AFTER)
            .collect();
        let Some(((topic, partition), progress)) = stalled.first_key_value() else {
            return Vec::new();
        };
        let others = match stalled.len() - 1 {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        let why = if progress.leader < 0 {
            "it has no leader"
        } else {
            "its leader does not confirm"
        };
        vec![Problem {
            reason: Reason::PartitionStalled,
            message: format!(
                "partition {topic}[{partition}]{others} accepts nothing: {why}; the lanes that write to it wait: \
                 check the partition's leader and in-sync replicas"
            ),
        }]
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of librdkafka's statistics that is used.
#[derive(Debug, Deserialize)]
pub(crate) struct Statistics {
    #[serde(default)]
    brokers: HashMap<String, BrokerStatistics>,
    #[serde(default)]
    topics: HashMap<String, TopicStatistics>,
    #[serde(default)]
    eos: EosStatistics,
}

impl Statistics {
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json)
            .inspect_err(|error| tracing::warn!(%error, "cannot read librdkafka's statistics"))
            .ok()
    }

    /// Whether a broker answers.
    pub(super) fn name_one_that_is_up(&self) -> bool {
        self.brokers.values().any(|broker| broker.state == "UP")
    }

    /// Whether there is a broker that is connected to, or tried: the coordinator of a group has another name for one of them,
    /// and a broker that was forgotten may stay where it is until nothing refers to it.
    pub(super) fn name_a_broker(&self) -> bool {
        self.brokers.values().any(|broker| {
            let is_at_rest = matches!(broker.state.as_str(), "DOWN" | "INIT")
                && broker.stateage >= AT_REST.as_micros() as i64;
            broker.source != "logical" && !is_at_rest
        })
    }

    /// Whether they say that the producer has its identifier.
    pub(super) fn name_an_id(&self) -> bool {
        self.eos.idemp_state == "Assigned"
    }
}

/// The idempotent producer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EosStatistics {
    idemp_state: String,
}

#[derive(Debug, Deserialize)]
struct BrokerStatistics {
    state: String,
    /// Microseconds.
    #[serde(default)]
    stateage: i64,
    #[serde(default)]
    source: String,
}

#[derive(Debug, Deserialize)]
struct TopicStatistics {
    #[serde(default)]
    partitions: HashMap<i32, PartitionStatistics>,
}

#[derive(Debug, Deserialize)]
struct PartitionStatistics {
    leader: i32,
    #[serde(default)]
    msgq_cnt: i64,
    #[serde(default)]
    xmit_msgq_cnt: i64,
    #[serde(default)]
    msgs_inflight: i64,
    #[serde(default)]
    acked_msgid: u64,
}

impl PartitionStatistics {
    fn waiting(&self) -> i64 {
        self.msgq_cnt + self.xmit_msgq_cnt + self.msgs_inflight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Statistics {
        Statistics::read(json.as_bytes()).unwrap()
    }

    fn statistics(waiting: i64, acked: u64) -> String {
        format!(
            r#"{{"brokers":{{"b":{{"state":"UP"}}}},"topics":{{"t":{{"partitions":{{
                "0":{{"leader":-1,"msgq_cnt":{waiting},"acked_msgid":{acked}}},
                "-1":{{"leader":-1,"msgq_cnt":9}}}}}}}}}}"#
        )
    }

    #[test]
    fn a_partition_that_stands_still_with_records_waiting_is_named() {
        let state = KafkaState::default();
        for _ in 0..=STALLED_AFTER {
            assert!(
                state
                    .problems("k:9092")
                    .iter()
                    .all(|problem| problem.reason != Reason::PartitionStalled)
            );
            state.apply(read(&statistics(5, 17)));
        }
        let problems = state.problems("k:9092");
        assert_eq!(problems[0].reason, Reason::PartitionStalled);
        assert!(
            problems[0]
                .message
                .contains("t[0] accepts nothing: it has no leader"),
            "{problems:?}"
        );
        state.apply(read(&statistics(5, 18)));
        assert_eq!(state.problems("k:9092"), []);
    }

    #[test]
    fn unreachable_ends_when_a_broker_is_up_again() {
        let state = KafkaState::default();
        state.failed(
            &KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure),
            "connect refused",
        );
        state.failed(&KafkaError::Global(RDKafkaErrorCode::AllBrokersDown), "all down");
        assert!(state.problems("k:9092")[0].message.contains("connect refused"));
        state.apply(read(&statistics(0, 0)));
        assert_eq!(state.problems("k:9092"), []);
    }

    #[test]
    fn a_refused_producer_is_said_until_one_has_its_identifier() {
        let state = KafkaState::default();
        state.answered();
        state.refused("cluster authorization failed");
        state.apply(read(r#"{"eos":{"idemp_state":"FatalError"}}"#));
        let problems = state.problems("k:9092");
        assert_eq!(problems[0].reason, Reason::KafkaRefused);
        assert!(problems[0].message.contains("IdempotentWrite"), "{problems:?}");
        state.apply(read(r#"{"eos":{"idemp_state":"Assigned"}}"#));
        assert_eq!(state.problems("k:9092"), []);
    }
}

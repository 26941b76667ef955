//! What is said of a sink.

use jiff::Timestamp;
use millrace_contract::probe::{Outcome, TopicFound};
use millrace_crds::KafkaSink;
use millrace_crds::api::{KafkaSinkStatus, TopicStatus};

use super::{Asked, Conditions, Reason};
use crate::plan::Rejection;

/// As many topics as a status holds.
const MAX_TOPICS: usize = 64;

/// What a sink's status is made from.
pub struct SinkFacts<'a> {
    /// The sink.
    pub sink: &'a KafkaSink,
    /// What is known from asking it, or why it cannot be asked.
    pub asked: Result<Asked<'a>, Rejection>,
    /// The time.
    pub now: Timestamp,
}

/// The status of a sink.
pub fn sink(facts: &SinkFacts<'_>) -> KafkaSinkStatus {
    let old = facts.sink.status.clone().unwrap_or_default();
    let generation = facts.sink.metadata.generation;
    let mut conditions = Conditions::new(&old.conditions, generation, facts.now);
    let mut status = KafkaSinkStatus {
        observed_generation: generation,
        conditions: Vec::new(),
        ..old.clone()
    };
    match &facts.asked {
        Ok(asked) => {
            conditions.set(
                "Accepted",
                Some(true),
                Reason::AsAsked,
                "Kafka can be asked as it is written",
            );
            asked.conditions(&mut conditions, "Kafka");
            if let Some(Outcome::Found(found)) = asked.report().and_then(|report| report.sink.as_ref()) {
                status.cluster_id.clone_from(&found.cluster_id);
                status.brokers = i32::try_from(found.brokers).ok();
                status.topics = found.topics.iter().take(MAX_TOPICS).map(topic).collect();
            }
        }
        Err(rejection) => super::endpoint_rejected(&mut conditions, rejection),
    }
    status.conditions = conditions.into_vec();
    status
}

fn topic(found: &TopicFound) -> TopicStatus {
    TopicStatus {
        name: found.name.clone(),
        partitions: i32::try_from(found.partitions).unwrap_or(i32::MAX),
        problem: found
            .problem
            .as_ref()
            .map(|problem| problem.message.chars().take(1000).collect()),
    }
}

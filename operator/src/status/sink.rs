//! What is said of a sink.

use jiff::Timestamp;
use millrace_contract::probe::{Outcome, TopicFound};
use millrace_crds::KafkaSink;
use millrace_crds::api::{KafkaSinkStatus, TopicStatus};

use super::partitions::{self, MAX_TOPICS, Watched};
use super::{Asked, Conditions, Reason};
use crate::plan::Rejection;

/// What a sink's status is made from.
pub struct SinkFacts<'a> {
    /// The sink.
    pub sink: &'a KafkaSink,
    /// What is known from asking it, or why it cannot be asked.
    pub asked: Result<Asked<'a>, Rejection>,
    /// Its routes, and what their workers see.
    pub watched: Watched<'a>,
    /// The route whose workers watch consumer groups.
    pub watched_by: Option<String>,
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
                let topics = found.topics.iter().take(MAX_TOPICS);
                status.topics = topics.map(|found| topic(found, &old)).collect();
            }
        }
        Err(rejection) => super::endpoint_rejected(&mut conditions, rejection),
    }
    partitions::say(
        facts.sink,
        &facts.watched,
        facts.now,
        &old,
        &mut conditions,
        &mut status,
    );
    status.watched_by.clone_from(&facts.watched_by);
    status.conditions = conditions.into_vec();
    status
}

fn topic(found: &TopicFound, old: &KafkaSinkStatus) -> TopicStatus {
    let known = old.topics.iter().find(|one| one.name == found.name);
    TopicStatus {
        name: found.name.clone(),
        partitions: i32::try_from(found.partitions).unwrap_or(i32::MAX),
        problem: found
            .problem
            .as_ref()
            .map(|problem| partitions::shortened(&problem.message)),
        ..known.cloned().unwrap_or_default()
    }
}

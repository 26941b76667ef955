//! What workers see of Kafka, and what is said and done about it.

use jiff::{SignedDuration, Timestamp};
use millrace_contract::survey::{GroupLag, GroupSurvey, Surveyed, TopicSurvey};
use millrace_crds::api::{KafkaSinkStatus, TopicStatus};
use millrace_crds::{KafkaSink, TopicRoute};
use millrace_operator::cluster::TopicOwners;
use millrace_operator::plan::probe::Standing;
use millrace_operator::status::{self, Asked, SinkFacts, Watched, Workers};
use serde_json::{Value, json};

use crate::manifests::{object, typed};
use crate::said::Said;

/// The topic of the route.
const TOPIC: &str = "sensors";

/// A sink, a route that writes to it, and what its worker sees.
#[derive(Clone)]
pub(crate) struct Kafka {
    sink: Value,
    route: Value,
    seen: Option<Surveyed>,
    owners: TopicOwners,
    now: Timestamp,
}

impl Kafka {
    /// All is well: six partitions, and a thousand records a second.
    pub(crate) fn new() -> Self {
        let seen = Surveyed {
            topics: vec![TopicSurvey {
                name: TOPIC.into(),
                partitions: 6,
                records_per_second: Some(1_000.0),
                drift: Vec::new(),
                problem: None,
            }],
            groups: Vec::new(),
        };
        Self {
            sink: object("KafkaSink"),
            route: object("TopicRoute"),
            seen: Some(seen),
            owners: TopicOwners::default(),
            now: "2026-03-01T03:00:10Z".parse().unwrap(),
        }
    }

    /// What the sink says of its topics.
    pub(crate) fn growth(mut self, growth: Value) -> Self {
        self.sink["spec"]["topics"] = json!([{"pattern": TOPIC, "partitions": 6, "growth": growth}]);
        self
    }

    pub(crate) fn without_keys(mut self) -> Self {
        self.route["spec"]["to"]["kafka"]["key"] = "".into();
        self
    }

    pub(crate) fn topic(mut self, edit: impl FnOnce(&mut TopicSurvey)) -> Self {
        edit(&mut self.seen.as_mut().unwrap().topics[0]);
        self
    }

    pub(crate) fn rate(self, rate: f64) -> Self {
        self.topic(|topic| topic.records_per_second = Some(rate))
    }

    pub(crate) fn partitions(self, partitions: u32) -> Self {
        self.topic(|topic| topic.partitions = partitions)
    }

    /// A group is watched, and seen so.
    pub(crate) fn group(mut self, edit: impl FnOnce(&mut GroupSurvey)) -> Self {
        self.sink["spec"]["watchedGroups"] = json!([{"group": "analytics", "maxLag": 10_000}]);
        let mut group = GroupSurvey {
            group: "analytics".into(),
            protocol: Some("Consumer".into()),
            state: "Stable".into(),
            members: 6,
            idle: 0,
            topics: vec![GroupLag {
                topic: TOPIC.into(),
                partitions: 6,
                members: 6,
                lag: Some(120),
                grows: false,
                saturated: false,
            }],
            problem: None,
        };
        edit(&mut group);
        if let Some(seen) = &mut self.seen {
            seen.groups = vec![group];
        }
        self
    }

    pub(crate) fn owned(mut self, owners: TopicOwners) -> Self {
        self.owners = owners;
        self
    }

    /// No worker looks, or none has yet.
    pub(crate) fn unseen(mut self) -> Self {
        self.seen = None;
        self
    }

    pub(crate) fn paused(mut self) -> Self {
        self.route["spec"]["paused"] = true.into();
        self
    }

    pub(crate) fn after(mut self, seconds: i64) -> Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    fn status(&self) -> KafkaSinkStatus {
        let sink: KafkaSink = typed(&self.sink);
        let route: TopicRoute = typed(&self.route);
        let standing = Standing::Running { last: None };
        let asked = Asked {
            standing: &standing,
            workers: Workers::Connected,
        };
        status::sink(&SinkFacts {
            sink: &sink,
            asked: Ok(asked),
            watched: Watched {
                routes: vec![(&route, self.seen.clone())],
                owners: self.owners.clone(),
            },
            watched_by: None,
            now: self.now,
        })
    }

    /// The status is written.
    pub(crate) fn pass(mut self) -> Self {
        self.sink["status"] = serde_json::to_value(self.status()).unwrap();
        self
    }

    /// What the status says of the topic after a pass.
    pub(crate) fn known(&self) -> TopicStatus {
        self.status().topics.remove(0)
    }

    pub(crate) fn said(&self, scenario: &'static str) -> Said {
        let said = self.status();
        Said {
            scenario,
            generation: 1,
            observed: said.observed_generation,
            conditions: said.conditions,
            in_force: true,
        }
    }
}

/// All that happens to topics and to groups that are watched.
pub(crate) fn all() -> Vec<Said> {
    let grow = |more: Value| {
        let mut growth = json!({"policy": "Grow", "keyRemap": "Allow", "ratePerPartition": 1_000, "max": 16});
        growth
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Kafka::new().growth(growth)
    };
    let growing = || grow(json!({})).rate(20_000.0);
    let lists_nothing = TopicOwners {
        unsure: Some(
            "the operator may not list kafkatopics.kafka.strimzi.io in all namespaces: grant it that".into(),
        ),
        ..TopicOwners::default()
    };
    let strimzi = TopicOwners {
        known: [(TOPIC.to_owned(), "KafkaTopic kafka/sensors".to_owned())].into(),
        unsure: None,
    };
    let saturated = |group: &mut GroupSurvey| {
        group.topics[0].lag = Some(700_000);
        group.topics[0].grows = true;
        group.topics[0].saturated = true;
    };
    vec![
        Kafka::new().said("Topics have the partitions that they need"),
        Kafka::new().rate(61_000.0).said("A topic is written faster than its partitions are to take"),
        Kafka::new()
            .growth(json!({"policy": "Fixed"}))
            .partitions(4)
            .said("A topic has other than the written number of partitions"),
        Kafka::new()
            .topic(|topic| {
                topic.drift = vec![
                    "replication factor 1 instead of 3".into(),
                    "retention.ms 604800000 instead of 3600000".into(),
                ];
            })
            .said("A topic has other replicas and another configuration than is written"),
        growing().said("A topic is to have more partitions, and they may be added"),
        growing()
            .pass()
            .partitions(12)
            .after(60)
            .said("Partitions were added a minute ago, and more are wanted"),
        growing()
            .pass()
            .partitions(12)
            .after(1_800)
            .said("Partitions were added half an hour ago, and more are wanted"),
        growing().partitions(16).said("A topic has as many partitions as it may"),
        grow(json!({"keyRemap": "Forbid"}))
            .rate(20_000.0)
            .said("A topic is to have more partitions, and its keys would move"),
        grow(json!({"keyRemap": "Forbid"}))
            .without_keys()
            .rate(20_000.0)
            .said("A topic is to have more partitions, and has no keys that would move"),
        growing()
            .owned(strimzi)
            .said("A topic is to have more partitions, and Strimzi owns it"),
        growing()
            .owned(lists_nothing)
            .said("A topic is to have more partitions, and who owns it cannot be told"),
        growing()
            .pass()
            .topic(|topic| {
                topic.problem = Some(
                    "Kafka does not let this client add partitions to \"sensors\": grant its user Alter on the topic, or set \
                     growth.policy to Recommend"
                        .into(),
                );
            })
            .said("Kafka does not let partitions be added"),
        Kafka::new().rate(61_000.0).pass().unseen().said("The worker that looked has started again"),
        Kafka::new().group(|_| ()).said("A watched group keeps up"),
        Kafka::new().unseen().group(|_| ()).said("A group is to be watched, and no worker has looked yet"),
        Kafka::new()
            .group(|group| group.topics[0].lag = Some(20_000))
            .said("A watched group is further behind than it may be"),
        Kafka::new().group(saturated).said("A watched group falls behind, and more members would not help"),
        Kafka::new()
            .group(|group| {
                (group.state, group.members) = ("Dead".into(), 0);
                group.topics.clear();
            })
            .said("There is no such group as is watched"),
        Kafka::new()
            .group(|group| {
                (group.state, group.members) = ("Unknown".into(), 0);
                group.topics.clear();
                group.problem = Some(
                    "Kafka tells nothing of group \"analytics\": Broker: Group authorization failed; grant this client's user \
                     Describe on the group if that is what it lacks"
                        .into(),
                );
            })
            .said("Kafka does not tell of the group that is watched"),
    ]
}

#[test]
fn a_target_is_raised_once_a_cooldown_and_never_beyond_the_maximum() {
    let growth = json!({
        "policy": "Grow", "keyRemap": "Allow", "ratePerPartition": 1_000, "max": 16, "cooldown": "10m",
    });
    let mut kafka = Kafka::new().growth(growth).rate(40_000.0);
    let mut targets = Vec::new();
    for _ in 0..60 {
        kafka = kafka.after(60).pass();
        let target = kafka.known().target_partitions;
        targets.push(target.unwrap());
        // Workers add them at once.
        kafka = kafka.partitions(u32::try_from(target.unwrap()).unwrap());
    }
    let raised: Vec<(usize, i32)> = targets
        .iter()
        .copied()
        .enumerate()
        .scan(0, |before, (minute, target)| {
            let is_new = target != *before;
            *before = target;
            Some(is_new.then_some((minute, target)))
        })
        .flatten()
        .collect();
    assert_eq!(raised, [(0, 12), (10, 16)]);
}

#[test]
fn what_was_learnt_outlives_a_worker_and_not_the_topic() {
    let growth = json!({"policy": "Grow", "keyRemap": "Allow", "ratePerPartition": 1_000});
    let grown = Kafka::new()
        .growth(growth)
        .rate(12_345.6)
        .pass()
        .partitions(12)
        .after(60)
        .pass();
    let known = grown.known();
    assert_eq!(known.peak_records_per_second, Some(12_400), "rounded up");
    assert_eq!(known.target_partitions, Some(12));
    let unseen = grown.clone().unseen().pass();
    assert_eq!(unseen.known(), known, "nobody looks just now");
    let calm = grown.clone().rate(10.0);
    assert_eq!(calm.known().peak_records_per_second, Some(12_400));
    let anew = grown.clone().partitions(3).rate(10.0);
    assert_eq!(
        (
            anew.known().target_partitions,
            anew.known().peak_records_per_second
        ),
        (None, Some(10)),
        "the topic was made anew"
    );
    let decided = grown.growth(json!({"policy": "Recommend", "ratePerPartition": 1_000}));
    assert_eq!(decided.known().target_partitions, None, "people decide now");
}

#[test]
fn nothing_is_said_of_topics_while_no_route_runs() {
    let said = Kafka::new()
        .rate(61_000.0)
        .pass()
        .paused()
        .unseen()
        .said("paused");
    assert!(said.condition("PartitionsSufficient").is_none());
}

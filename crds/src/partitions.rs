//! How many partitions a topic is to have, and why. Pure: shared by the operator and `millrace plan`.

use std::fmt;
use std::time::Duration;

use millrace_mapping::TopicPattern;

use crate::api::{Growth, GrowthPolicy, KafkaSink, KeyRemap, TopicPolicy};

/// What may be done about a topic: the sink's entry with the longest pattern that matches it.
pub fn policy<'s>(sink: &'s KafkaSink, topic: &str) -> Option<&'s TopicPolicy> {
    let policies = sink.spec.topics.iter().filter_map(|policy| {
        let pattern = TopicPattern::parse(&policy.pattern).ok()?;
        pattern.matches(topic).then(|| (pattern.specificity(), policy))
    });
    policies
        .max_by_key(|(specificity, _)| *specificity)
        .map(|(_, policy)| policy)
}

/// What is asked of a topic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Demand {
    /// The most records per second that all producers together write.
    pub peak: Option<f64>,
    /// The saturated consumer group with the most members, and how many it has.
    pub group: Option<(String, u32)>,
    /// The route that reads the topic with the most workers, and how many it asks for.
    pub workers: Option<(String, u32)>,
}

/// How many partitions a topic is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// So many.
    pub partitions: u32,
    /// What asks for the most of them.
    pub because: Because,
}

/// What asks for partitions.
#[derive(Clone, Debug, PartialEq)]
pub enum Because {
    /// Nothing: those that there are will do.
    Enough,
    /// The rate.
    Rate {
        /// Records per second.
        peak: f64,
        /// How many of them one partition is to take.
        per_partition: u32,
    },
    /// A consumer group that falls behind though every partition has a member.
    Group {
        /// Its id.
        group: String,
        /// Its members.
        members: u32,
    },
    /// A route from Kafka whose workers would idle.
    Workers {
        /// `namespace/name`.
        route: String,
        /// What it asks for.
        workers: u32,
    },
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enough => write!(f, "nothing asks for more"),
            Self::Rate { peak, per_partition } => write!(
                f,
                "{peak:.0} records per second are written at the most, and a partition is to take {per_partition}"
            ),
            Self::Group { group, members } => write!(
                f,
                "group {group} falls behind with {}, and each partition has one already",
                counted(*members, "member")
            ),
            Self::Workers { route, workers } => {
                write!(
                    f,
                    "route {route} has {}, and each needs a partition to read",
                    counted(*workers, "worker")
                )
            }
        }
    }
}

/// A number of things: `1 partition`, `2 partitions`.
pub fn counted(count: u32, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

impl Demand {
    /// How many partitions a topic is to have that has `now`; never fewer than it has.
    ///
    /// A saturated group asks for half as many again, and at least for one for each of its members: with as many members
    /// as partitions there is no telling how many more it would use.
    pub fn wanted(&self, now: u32, rate_per_partition: u32) -> Wanted {
        let rate = self.peak.map(|peak| {
            let partitions = (peak / f64::from(rate_per_partition.max(1))).ceil() as u32;
            let because = Because::Rate {
                peak,
                per_partition: rate_per_partition,
            };
            (partitions, because)
        });
        let group = self.group.clone().map(|(group, members)| {
            let partitions = members.max(now + now.div_ceil(2));
            (partitions, Because::Group { group, members })
        });
        let workers = self
            .workers
            .clone()
            .map(|(route, workers)| (workers, Because::Workers { route, workers }));
        let most = [rate, group, workers]
            .into_iter()
            .flatten()
            .max_by_key(|(count, _)| *count);
        match most {
            Some((partitions, because)) if partitions > now => Wanted { partitions, because },
            _ => Wanted {
                partitions: now,
                because: Because::Enough,
            },
        }
    }
}

/// What is to be done about a topic's partitions.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It has what it is to have.
    Nothing,
    /// More are wanted, and people decide.
    Recommend,
    /// Partitions are added until it has so many.
    Grow(u32),
    /// More are wanted, and are not added, for this reason.
    Held(Held),
}

/// Why partitions are not added where they are to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// Its records have keys, and those would move.
    Keys,
    /// It has as many as it may.
    Maximum,
    /// An object of another operator owns the topic.
    Owned(String),
    /// It cannot be told whether an object of another operator owns the topic, for this reason.
    OwnerUnknown(String),
    /// Some were added a short time ago; more after this time.
    Cooling(Duration),
}

/// Who else a topic belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// Nobody.
    #[default]
    Nobody,
    /// An object of another operator, as `KafkaTopic kafka/telemetry`.
    Object(String),
    /// That cannot be told, for this reason.
    Unknown(String),
}

/// What is known of a topic that may grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Situation {
    /// The partitions that it has.
    pub partitions: u32,
    /// Whether its records have keys.
    pub is_keyed: bool,
    /// Who else it belongs to.
    pub owner: Owner,
    /// How long ago partitions were added.
    pub since_last: Option<Duration>,
    /// How long to wait after that.
    pub cooldown: Duration,
}

/// The next step towards what is wanted: at most twice as many partitions as there are.
pub fn step(wanted: &Wanted, growth: &Growth, now: &Situation) -> Step {
    if wanted.partitions <= now.partitions {
        return Step::Nothing;
    }
    match growth.policy {
        GrowthPolicy::Fixed | GrowthPolicy::Recommend => return Step::Recommend,
        GrowthPolicy::Grow => {}
    }
    match now.owner.clone() {
        Owner::Nobody => {}
        Owner::Object(object) => return Step::Held(Held::Owned(object)),
        Owner::Unknown(why) => return Step::Held(Held::OwnerUnknown(why)),
    }
    let max = u32::try_from(growth.max).unwrap_or(0);
    if now.partitions >= max {
        return Step::Held(Held::Maximum);
    }
    if now.is_keyed && growth.key_remap == KeyRemap::Forbid {
        return Step::Held(Held::Keys);
    }
    match now.since_last {
        Some(since) if since < now.cooldown => Step::Held(Held::Cooling(now.cooldown - since)),
        _ => Step::Grow(wanted.partitions.min(now.partitions.max(1) * 2).min(max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_the_most_decides_and_nothing_asks_for_less() {
        let demand = Demand {
            peak: Some(25_001.0),
            ..Demand::default()
        };
        assert_eq!(demand.wanted(2, 10_000).partitions, 3);
        assert_eq!(
            demand.wanted(6, 10_000),
            Wanted {
                partitions: 6,
                because: Because::Enough
            }
        );
        let demand = Demand {
            group: Some(("analytics".into(), 4)),
            workers: Some(("default/commands".into(), 5)),
            ..demand
        };
        let wanted = demand.wanted(4, 10_000);
        assert_eq!(wanted.partitions, 6);
        assert_eq!(
            wanted.because.to_string(),
            "group analytics falls behind with 4 members, and each partition has one already"
        );
        assert_eq!(
            demand.wanted(2, 10_000).because.to_string(),
            "route default/commands has 5 workers, and each needs a partition to read"
        );
    }

    #[test]
    fn a_step_is_bounded_and_waits_for_the_one_before() {
        let wanted = |partitions| Wanted {
            partitions,
            because: Because::Enough,
        };
        let growth = Growth {
            policy: GrowthPolicy::Grow,
            max: 10,
            key_remap: KeyRemap::Allow,
            ..Growth::default()
        };
        let now = Situation {
            partitions: 3,
            is_keyed: true,
            cooldown: Duration::from_secs(60),
            ..Situation::default()
        };
        assert_eq!(step(&wanted(3), &growth, &now), Step::Nothing);
        assert_eq!(step(&wanted(4), &growth, &now), Step::Grow(4));
        assert_eq!(step(&wanted(40), &growth, &now), Step::Grow(6));
        let at = |partitions, since_last| Situation {
            partitions,
            since_last,
            ..now.clone()
        };
        let soon = at(6, Some(Duration::from_secs(20)));
        assert_eq!(
            step(&wanted(40), &growth, &soon),
            Step::Held(Held::Cooling(Duration::from_secs(40)))
        );
        assert_eq!(
            step(&wanted(40), &growth, &at(6, Some(Duration::from_secs(60)))),
            Step::Grow(10)
        );
        assert_eq!(
            step(&wanted(40), &growth, &at(10, None)),
            Step::Held(Held::Maximum)
        );
    }

    #[test]
    fn what_is_not_ours_to_decide_is_left_alone() {
        let wanted = Wanted {
            partitions: 9,
            because: Because::Enough,
        };
        let growth = |policy, key_remap| Growth {
            policy,
            key_remap,
            ..Growth::default()
        };
        let now = Situation {
            partitions: 3,
            is_keyed: true,
            ..Situation::default()
        };
        for policy in [GrowthPolicy::Fixed, GrowthPolicy::Recommend] {
            assert_eq!(
                step(&wanted, &growth(policy, KeyRemap::Allow), &now),
                Step::Recommend
            );
        }
        let grow = growth(GrowthPolicy::Grow, KeyRemap::Forbid);
        assert_eq!(step(&wanted, &grow, &now), Step::Held(Held::Keys));
        let without_keys = Situation {
            is_keyed: false,
            ..now.clone()
        };
        assert_eq!(step(&wanted, &grow, &without_keys), Step::Grow(6));
        let owned = |owner| Situation {
            owner,
            ..without_keys.clone()
        };
        let object = "KafkaTopic kafka/telemetry".to_owned();
        assert_eq!(
            step(&wanted, &grow, &owned(Owner::Object(object.clone()))),
            Step::Held(Held::Owned(object))
        );
        let why = "KafkaTopic objects may not be listed".to_owned();
        assert_eq!(
            step(&wanted, &grow, &owned(Owner::Unknown(why.clone()))),
            Step::Held(Held::OwnerUnknown(why))
        );
    }
}

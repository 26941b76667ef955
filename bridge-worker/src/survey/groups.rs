//! How consumer groups of others do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use millrace_contract::survey::{GroupLag, GroupSurvey, WatchedGroup};
use millrace_librdkafka::groups::{Group, Kind, Position, State};
use millrace_mapping::TopicPattern;

use super::history::History;
use crate::kafka::Looker;

/// What is known of groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// How far behind, by group and topic.
    lags: BTreeMap<(String, String), History>,
}

impl Groups {
    pub(super) fn look(&mut self, watched: &[WatchedGroup], kafka: &Looker) -> Vec<GroupSurvey> {
        self.lags
            .retain(|(group, _), _| watched.iter().any(|one| one.group == *group));
        watched.iter().map(|one| self.group(one, kafka)).collect()
    }

    fn group(&mut self, watched: &WatchedGroup, kafka: &Looker) -> GroupSurvey {
        match asked(watched, kafka) {
            Ok((group, committed, ends)) => self.judge(watched, &group, &committed, &ends, Instant::now()),
            Err(error) => GroupSurvey {
                group: watched.group.clone(),
                protocol: None,
                state: "Unknown".into(),
                members: 0,
                idle: 0,
                topics: Vec::new(),
                problem: Some(error),
            },
        }
    }

    fn judge(
        &mut self,
        watched: &WatchedGroup,
        group: &Group,
        committed: &[Position],
        ends: &[Position],
        now: Instant,
    ) -> GroupSurvey {
        let names: BTreeSet<&str> = ends.iter().map(|end| end.topic.as_str()).collect();
        let topics = names.into_iter().map(|topic| {
            let partitions = ends.iter().filter(|end| end.topic == topic).count() as u32;
            let reads = |member: &&millrace_librdkafka::groups::Member| {
                member.partitions.iter().any(|(one, _)| one == topic)
            };
            let members = group.members.iter().filter(reads).count() as u32;
            let lag = lag(topic, committed, ends);
            let key = (watched.group.clone(), topic.to_owned());
            let grows = match lag {
                Some(lag) => {
                    let history = self.lags.entry(key).or_default();
                    history.add(now, lag);
                    history.grows()
                }
                None => {
                    self.lags.remove(&key);
                    false
                }
            };
            GroupLag {
                topic: topic.to_owned(),
                partitions,
                members,
                lag,
                grows,
                saturated: grows && members >= partitions,
            }
        });
        GroupSurvey {
            group: watched.group.clone(),
            protocol: match group.kind {
                Kind::Classic => Some("Classic".into()),
                Kind::Consumer => Some("Consumer".into()),
                Kind::Unknown => None,
            },
            state: match group.state {
                State::Rebalancing => "Rebalancing",
                State::Stable => "Stable",
                State::Empty => "Empty",
                State::Dead => "Dead",
                State::Unknown => "Unknown",
            }
            .into(),
            members: group.members.len() as u32,
            idle: group
                .members
                .iter()
                .filter(|member| member.partitions.is_empty())
                .count() as u32,
            topics: topics.collect(),
            problem: None,
        }
    }
}

/// A group, what it has committed of the topics that count, and the ends of all partitions of those.
fn asked(watched: &WatchedGroup, kafka: &Looker) -> Result<(Group, Vec<Position>, Vec<Position>), String> {
    let patterns: Vec<TopicPattern> = watched
        .topics
        .iter()
        .filter_map(|pattern| TopicPattern::parse(pattern).ok())
        .collect();
    let group = kafka.describe(&watched.group)?;
    let mut committed = kafka.committed(&watched.group)?;
    committed
        .retain(|position| patterns.is_empty() || patterns.iter().any(|one| one.matches(&position.topic)));
    let read = group.members.iter().flat_map(|member| &member.partitions);
    let read = read.map(|(topic, _)| topic.as_str());
    let mut topics: BTreeSet<&str> = committed.iter().map(|position| position.topic.as_str()).collect();
    topics.extend(read.filter(|topic| patterns.is_empty() || patterns.iter().any(|one| one.matches(topic))));
    let mut numbers = Vec::new();
    for topic in topics {
        let (count, _) = kafka.shape(topic)?;
        numbers.extend((0..count).filter_map(|number| Some((topic, i32::try_from(number).ok()?))));
    }
    let ends = kafka.ends(&numbers)?;
    Ok((group, committed, ends))
}

/// Records between what a group has committed and the ends. `None`: it has committed nothing of the topic.
fn lag(topic: &str, committed: &[Position], ends: &[Position]) -> Option<u64> {
    let mut sum = None;
    for position in committed.iter().filter(|position| position.topic == topic) {
        let Some(offset) = position.offset else { continue };
        let end = ends
            .iter()
            .find(|end| end.topic == topic && end.partition == position.partition)
            .and_then(|end| end.offset);
        // A part of the lag says nothing.
        sum = Some(sum.unwrap_or(0) + u64::try_from(end? - offset).unwrap_or(0));
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_librdkafka::groups::Member;

    use super::*;

    fn position(partition: i32, offset: i64) -> Position {
        Position {
            topic: "t".into(),
            partition,
            offset: (offset >= 0).then_some(offset),
        }
    }

    fn group(members: &[&[i32]]) -> Group {
        Group {
            name: "g".into(),
            kind: Kind::Classic,
            state: State::Stable,
            members: members
                .iter()
                .map(|partitions| Member {
                    client_id: "c".into(),
                    partitions: partitions
                        .iter()
                        .map(|number| ("t".to_owned(), *number))
                        .collect(),
                })
                .collect(),
        }
    }

    #[test]
    fn a_partition_without_a_committed_offset_has_no_lag_and_is_not_taken_for_0() {
        let ends = [position(0, 100), position(1, 100)];
        assert_eq!(lag("t", &[], &ends), None);
        assert_eq!(lag("t", &[position(1, 40)], &ends), Some(60));
        assert_eq!(lag("t", &[position(0, 90), position(1, 40)], &ends), Some(70));
        assert_eq!(
            lag("t", &[position(0, 120)], &ends),
            Some(0),
            "the topic was made anew"
        );
    }

    #[test]
    fn a_group_is_saturated_when_its_lag_grows_and_every_partition_has_a_member() {
        let watched = WatchedGroup {
            group: "g".into(),
            topics: Vec::new(),
        };
        let start = Instant::now();
        let look = |members: &[&[i32]], growth: i64| {
            let mut groups = Groups::default();
            let seen = (0..=6).map(|step| {
                let ends = [position(0, 1_000 + growth * step), position(1, 1_000)];
                let committed = [position(0, 500), position(1, 1_000)];
                let at = start + Duration::from_secs(10 * step.unsigned_abs());
                groups.judge(&watched, &group(members), &committed, &ends, at)
            });
            let last = seen.last().expect("a look");
            (last.topics[0].grows, last.topics[0].saturated, last.idle)
        };
        assert_eq!(look(&[&[0], &[1]], 10), (true, true, 0));
        assert_eq!(look(&[&[0], &[1], &[]], 10), (true, true, 1));
        assert_eq!(
            look(&[&[0, 1]], 10),
            (true, false, 0),
            "another member would help"
        );
        assert_eq!(look(&[&[0], &[1]], 0), (false, false, 0));
    }
}

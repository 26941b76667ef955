//! Operators: what one has seen, and what it does about it.

use std::collections::BTreeMap;
use std::time::Instant;

use millrace_contract::{Assignment, LaneRecord, Ownership};
use millrace_operator::plan::lanes::{self, Crew, PodView, Said, Silences};

use super::{Bug, FAILOVER, Outcome, World};

/// Answers that have to be missing in a row.
const FAILURES: u32 = 2;

#[derive(Debug, Default)]
pub(crate) struct Operator {
    record: Option<(LaneRecord, u64)>,
    pods: BTreeMap<u16, PodSeen>,
    answers: BTreeMap<u64, Answers>,
    silences: Silences,
}

#[derive(Clone, Debug)]
struct PodSeen {
    uid: u64,
    going: bool,
    part: Option<Assignment>,
}

#[derive(Clone, Debug, Default)]
struct Answers {
    last: Option<(Said, Instant)>,
    missing: u32,
}

impl World {
    /// Another operator leads; the one before may go on for a moment.
    pub(crate) fn change_leader(&mut self) {
        self.tell("another operator leads".into());
        self.counts.leader_changes += 1;
        self.operators.insert(0, Operator::default());
        self.operators.truncate(2);
        self.look(0, true);
    }

    pub(crate) fn end_old_leader(&mut self) {
        self.operators.truncate(1);
    }

    fn any_operator(&mut self) -> usize {
        self.random.below(self.operators.len())
    }

    pub(crate) fn operator_looks(&mut self) {
        let operator = self.any_operator();
        self.look(operator, false);
    }

    pub(crate) fn operator_acts(&mut self) -> Outcome {
        let operator = self.any_operator();
        self.act(operator)
    }

    /// An operator sees something, or everything.
    pub(crate) fn look(&mut self, operator: usize, all: bool) {
        let what = self.random.below(4);
        if all || what == 0 {
            self.operators[operator].record.clone_from(&self.record);
        }
        if all || what == 1 {
            let pods = self.pods.iter().map(|(ordinal, pod)| {
                let seen = PodSeen {
                    uid: pod.uid,
                    going: pod.going,
                    part: pod.part.clone(),
                };
                (*ordinal, seen)
            });
            self.operators[operator].pods = pods.collect();
        }
        if all || what >= 2 {
            for (ordinal, pod) in self.operators[operator].pods.clone() {
                if all || self.random.one_in(2) {
                    self.ask(operator, ordinal, pod.uid);
                }
            }
        }
    }

    fn ask(&mut self, operator: usize, ordinal: u16, uid: u64) {
        let pod = self.pods.get(&ordinal).filter(|pod| pod.uid == uid);
        // It has the address that another has given up.
        let other = self.pods.values().next().filter(|_| self.has(Bug::AnotherPod));
        let answer = other.or(pod).and_then(|pod| self.answer(pod));
        let answers = self.operators[operator].answers.entry(uid).or_default();
        match answer {
            Some(said) => {
                *answers = Answers {
                    last: Some((said, self.now)),
                    missing: 0,
                }
            }
            None => answers.missing += 1,
        }
    }

    fn crew(&mut self, operator: usize) -> Crew {
        let (goal, now) = (self.goal, self.now);
        let stale = self.has(Bug::StaleAnswer);
        let (no_release, no_failover) = (self.has(Bug::NoRelease), self.has(Bug::NoFailover));
        let (forget_unread, told_before) = (self.has(Bug::ForgetUnread), self.has(Bug::ToldBefore));
        let first_again = self.has(Bug::FirstAgain);
        let operator = &mut self.operators[operator];
        let record = operator.record.as_ref().map(|(record, _)| record);
        let view = |(ordinal, pod): (&u16, &PodSeen)| {
            let answers = operator.answers.get(&pod.uid).cloned().unwrap_or_default();
            let answers_now = answers.missing < FAILURES;
            let as_told = |said: Said| match record {
                Some(record) if told_before => {
                    let part = pod.part.clone().unwrap_or_default();
                    let generation = record.generation;
                    let same = record.part_of(*ordinal, part.pod_uid.as_deref())
                        == Assignment { generation, ..part };
                    let generation = if same { generation } else { said.generation };
                    Said { generation, ..said }
                }
                _ => said.as_told(pod.part.as_ref(), record, *ordinal),
            };
            let told = pod.part.as_ref().map(|part| part.generation);
            let acts_by = answers.last.as_ref().map(|(said, _)| said.generation);
            let view = PodView {
                heard: if first_again {
                    0
                } else {
                    acts_by.max(told).unwrap_or_default()
                },
                answered: answers.last.as_ref().map(|(_, at)| *at),
                said: answers
                    .last
                    .filter(|_| answers_now)
                    .map(|(said, _)| as_told(said)),
                going: pod.going,
            };
            (*ordinal, view)
        };
        let pods = operator.pods.iter().map(view).collect();
        let mut crew = operator.silences.crew(&pods, record, goal, now, FAILOVER);
        for member in crew.values_mut() {
            member.lost &= !no_failover;
            if let Some(said) = &mut member.said {
                if no_release {
                    said.held.clear();
                }
                if no_release || stale {
                    said.generation = u64::MAX;
                }
                if forget_unread {
                    let lanes = record.into_iter().flat_map(|record| &record.lanes);
                    let unread = lanes.filter(|owner| !said.held.contains(&owner.lane));
                    said.left.extend(unread.map(|owner| owner.lane));
                }
            }
        }
        crew
    }

    /// One pass of an operator.
    pub(crate) fn act(&mut self, operator: usize) -> Outcome {
        let crew = self.crew(operator);
        let seen = self.operators[operator].record.clone();
        let next = lanes::next(seen.as_ref().map(|(record, _)| record), self.goal, &crew);
        if let Some(mut record) = next {
            if self.has(Bug::ForgetSurplus) {
                record.lanes.retain(|owner| owner.lane < self.goal.lanes);
            }
            let version = seen.map_or(0, |(_, version)| version);
            if !self.write(operator, record, version, &crew)? {
                return Ok(());
            }
        }
        let Some((record, version)) = self.operators[operator].record.clone() else {
            return Ok(());
        };
        self.inform(operator, &record);
        self.size(operator, &record, version)?;
        for (ordinal, member) in crew {
            if member.going && member.lost {
                let uid = self.operators[operator].pods[&ordinal].uid;
                self.give_up(ordinal, uid);
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        operator: usize,
        record: LaneRecord,
        version: u64,
        crew: &Crew,
    ) -> Result<bool, String> {
        let now = self.record.as_ref().map_or(0, |(_, version)| *version);
        if now != version && !self.has(Bug::NoPrecondition) {
            self.counts.conflicts += 1;
            return Ok(false);
        }
        self.tell(format!("the record is written: {record:?}"));
        if let Some((old, _)) = &self.record {
            if record.generation <= old.generation {
                return Err(format!(
                    "generation {} is followed by {}",
                    old.generation, record.generation
                ));
            }
            for old in &old.lanes {
                let Some(new) = record.lanes.iter().find(|new| new.lane == old.lane) else {
                    self.counts.ended_lanes += 1;
                    continue;
                };
                if old.ordinal == new.ordinal {
                    continue;
                }
                if new.state == Ownership::Leaving {
                    self.counts.adopted_lanes += 1;
                }
                let member = crew.get(&old.ordinal);
                if member.is_none_or(|member| member.lost || member.absent) {
                    self.counts.overruled += 1;
                    continue;
                }
                self.counts.moves += 1;
                let reads = self.broker.reader(old.lane);
                if reads.is_some() && reads == self.pods.get(&old.ordinal).map(|pod| pod.uid) {
                    return Err(format!("{old:?} is read, and given to {new:?}"));
                }
            }
        }
        self.before = self.record.take().map(|(record, _)| record);
        let written = Some((record, self.id()));
        self.record.clone_from(&written);
        self.operators[operator].record = written;
        Ok(true)
    }

    /// Tells pods their parts; not one that has another uid than the one that was seen.
    fn inform(&mut self, operator: usize, record: &LaneRecord) {
        for (ordinal, seen) in self.operators[operator].pods.clone() {
            let answers = self.operators[operator].answers.get(&seen.uid);
            let acts_by = answers.and_then(|answers| Some(answers.last.as_ref()?.0.generation));
            let news = lanes::news(
                record,
                ordinal,
                &seen.uid.to_string(),
                seen.part.as_ref(),
                acts_by,
            );
            let (false, Some(part)) = (seen.going, news) else {
                continue;
            };
            if let Some(pod) = self.pods.get_mut(&ordinal).filter(|pod| pod.uid == seen.uid) {
                pod.part = Some(part.clone());
                self.operators[operator].pods.insert(
                    ordinal,
                    PodSeen {
                        part: Some(part),
                        ..seen
                    },
                );
            }
        }
    }

    fn size(&mut self, operator: usize, record: &LaneRecord, version: u64) -> Outcome {
        let replicas = match self.has(Bug::EarlyShrink) {
            true => self.goal.workers,
            false => lanes::pods(Some(record), self.goal.workers),
        };
        // A leader of the past may not know who owns what now; the next one makes up for it.
        let knows = operator == 0 && self.record.as_ref().is_some_and(|(_, now)| *now == version);
        let ends = |lane: &millrace_contract::LaneOwner| {
            lane.state == Ownership::Owned && lane.ordinal >= replicas && self.goal.workers > 0
        };
        if knows && record.lanes.iter().any(ends) {
            return Err(format!("{replicas} pods are left of {record:?}"));
        }
        if self.replicas != replicas {
            self.tell(format!("the StatefulSet has {replicas} replicas"));
        }
        self.replicas = replicas;
        Ok(())
    }
}

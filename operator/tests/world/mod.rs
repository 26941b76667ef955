//! A route's pods, its broker and its operators, one event at a time.

mod broker;
mod operator;
mod pods;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use broker::Broker;
use millrace_contract::{LaneRecord, Ownership};
use millrace_operator::plan::lanes::Goal;
use operator::Operator;
use pods::{Pod, Process};

use crate::random::Random;

pub(crate) const FAILOVER: Duration = Duration::from_secs(15);
/// Events before everything goes well again.
const EVENTS: usize = 150;
/// Rounds in which it then has to come to an end.
const ROUNDS: usize = 400;

/// What is wrong with the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lane is given to another before its owner has released it.
    NoRelease,
    /// What a worker says is believed whatever generation it acts by.
    StaleAnswer,
    /// What a worker says is believed whichever pod it was.
    AnotherPod,
    /// Who was told what the record says now is believed to act by it, whatever was asked of it between.
    ToldBefore,
    /// A worker acts by whatever it hears last.
    OlderGeneration,
    /// The record is written without a look at what it is now.
    NoPrecondition,
    /// The StatefulSet is made smaller before its workers own nothing.
    EarlyShrink,
    /// Who does not answer is never passed over.
    NoFailover,
    /// A worker whose session was taken over takes it back at once.
    NoPatience,
    /// Surplus lanes are forgotten.
    ForgetSurplus,
    /// A record in the place of one that was lost begins with the first generation.
    FirstAgain,
    /// Surplus lanes are forgotten once nobody reads them, whether their sessions have ended or not.
    ForgetUnread,
}

impl Bug {
    pub(crate) const ALL: [Self; 12] = [
        Self::NoRelease,
        Self::StaleAnswer,
        Self::AnotherPod,
        Self::ToldBefore,
        Self::OlderGeneration,
        Self::NoPrecondition,
        Self::EarlyShrink,
        Self::NoFailover,
        Self::NoPatience,
        Self::ForgetSurplus,
        Self::ForgetUnread,
        Self::FirstAgain,
    ];
}

/// What has happened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) moves: u64,
    pub(crate) overruled: u64,
    pub(crate) takeovers: u64,
    pub(crate) crashes: u64,
    pub(crate) lost_nodes: u64,
    pub(crate) conflicts: u64,
    pub(crate) leader_changes: u64,
    pub(crate) ended_lanes: u64,
    pub(crate) adopted_lanes: u64,
    pub(crate) lost_records: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, other: Self) {
        self.moves += other.moves;
        self.overruled += other.overruled;
        self.takeovers += other.takeovers;
        self.crashes += other.crashes;
        self.lost_nodes += other.lost_nodes;
        self.conflicts += other.conflicts;
        self.leader_changes += other.leader_changes;
        self.ended_lanes += other.ended_lanes;
        self.adopted_lanes += other.adopted_lanes;
        self.lost_records += other.lost_records;
    }

    pub(crate) fn is_complete(&self) -> bool {
        let all = [
            self.moves,
            self.overruled,
            self.takeovers,
            self.crashes,
            self.lost_nodes,
            self.conflicts,
            self.leader_changes,
            self.ended_lanes,
            self.adopted_lanes,
            self.lost_records,
        ];
        all.iter().all(|count| *count > 100)
    }
}

pub(crate) struct World {
    random: Random,
    bug: Option<Bug>,
    now: Instant,
    start: Instant,
    goal: Goal,
    /// What the API server has: the record and its resourceVersion.
    record: Option<(LaneRecord, u64)>,
    /// The one before, which a node may still have.
    before: Option<LaneRecord>,
    /// Now and then the record is deleted, in a few worlds: it is known less of them.
    loses_records: bool,
    has_lost_a_record: bool,
    replicas: u16,
    pods: BTreeMap<u16, Pod>,
    /// Of pods that are there, and of pods that are gone from the API server while their nodes are lost.
    processes: BTreeMap<u64, Process>,
    broker: Broker,
    operators: Vec<Operator>,
    next_id: u64,
    counts: Counts,
    story: Vec<String>,
}

type Outcome = Result<(), String>;

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random(seed);
        let lanes = u16::try_from(1 + random.below(8)).unwrap_or(1);
        let workers = u16::try_from(1 + random.below(4)).unwrap_or(1);
        let now = Instant::now();
        Self {
            bug,
            now,
            start: now,
            goal: Goal {
                lanes,
                workers: workers.min(lanes),
            },
            record: None,
            before: None,
            loses_records: random.one_in(5),
            has_lost_a_record: false,
            replicas: 0,
            pods: BTreeMap::new(),
            processes: BTreeMap::new(),
            broker: Broker::new(random.one_in(2)),
            operators: vec![Operator::default()],
            next_id: 1,
            counts: Counts::default(),
            story: Vec::new(),
            random,
        }
    }

    pub(crate) fn story(&self) -> String {
        self.story.join("\n")
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn tell(&mut self, what: String) {
        let at = (self.now - self.start).as_secs_f32();
        self.story.push(format!("{at:>6.1}  {what}"));
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Anything may happen, then nothing bad any more; all has to be well in the end.
    pub(crate) fn run(&mut self) -> Outcome {
        for _ in 0..EVENTS {
            self.now += Duration::from_millis(self.random.below(1500) as u64);
            self.event()?;
            self.check_owners()?;
        }
        self.tell("from here on all goes well".into());
        self.mend();
        let mut why = String::new();
        let mut calm = 0;
        for _ in 0..ROUNDS {
            self.now += Duration::from_secs(1);
            self.work()?;
            self.check_owners()?;
            match self.is_well() {
                // It stays so.
                Ok(()) if calm == 60 => return Ok(()),
                Ok(()) => calm += 1,
                Err(error) => (calm, why) = (0, error),
            }
        }
        Err(format!("it does not come to rest: {why}"))
    }

    /// One thing happens.
    fn event(&mut self) -> Outcome {
        match self.random.below(100) {
            0..=2 => self.rescale(),
            3 => self.change_lanes(),
            4..=5 => self.crash(),
            6 => self.lose_node(),
            7 => self.find_node(),
            8..=9 => self.delete_pod(),
            10 => self.change_leader(),
            11 => self.end_old_leader(),
            12 => self.lose_record(),
            13..=19 => self.set_controller(),
            20..=39 => self.kubelet(),
            40..=69 => self.process(),
            70..=84 => self.operator_looks(),
            _ => self.operator_acts()?,
        }
        Ok(())
    }

    /// Everything that is to happen by itself happens.
    fn work(&mut self) -> Outcome {
        for _ in 0..4 {
            self.set_controller();
        }
        self.kubelets();
        for uid in self.process_ids() {
            self.hear(uid, true);
            self.step(uid);
        }
        self.end_pods();
        self.look(0, true);
        self.act(0)
    }

    fn mend(&mut self) {
        self.operators.truncate(1);
        self.reach_all();
    }

    fn rescale(&mut self) {
        // Now and then to none.
        let workers = self.random.below(usize::from(self.goal.lanes) + 1);
        self.goal.workers = u16::try_from(workers).unwrap_or(1);
        self.tell(format!("{workers} workers are asked for"));
    }

    fn change_lanes(&mut self) {
        self.goal.lanes = u16::try_from(1 + self.random.below(8)).unwrap_or(1);
        self.goal.workers = self.goal.workers.min(self.goal.lanes);
        self.tell(format!("{} lanes have something to read", self.goal.lanes));
    }

    /// Somebody deletes the ConfigMap.
    fn lose_record(&mut self) {
        if self.loses_records && self.record.take().is_some() {
            self.before = None;
            self.has_lost_a_record = true;
            self.counts.lost_records += 1;
            self.tell("the record is lost".into());
        }
    }

    fn check_owners(&self) -> Outcome {
        let Some((record, _)) = &self.record else {
            return Ok(());
        };
        let lanes: BTreeSet<u16> = record.lanes.iter().map(|owner| owner.lane).collect();
        if lanes.len() != record.lanes.len() {
            return Err(format!("a lane has two owners: {record:?}"));
        }
        self.broker.check()
    }

    /// Whether every lane is read by the worker that owns it, nobody has more than others, and no pod is left over.
    fn is_well(&self) -> Outcome {
        let Some((record, _)) = &self.record else {
            return Err("there is no record".into());
        };
        let workers = self.goal.workers;
        let running: Vec<u16> = self
            .pods
            .keys()
            .copied()
            .filter(|ordinal| self.can_start(*ordinal))
            .collect();
        let wanted: Vec<u16> = running
            .iter()
            .copied()
            .filter(|ordinal| *ordinal < workers)
            .collect();
        let has_wanted = workers == 0 || !wanted.is_empty();
        if has_wanted && (self.replicas != workers || self.pods.len() != usize::from(workers)) {
            return Err(format!("{} pods of {}", self.pods.len(), self.replicas));
        }
        let owned: BTreeSet<u16> = record.lanes.iter().map(|owner| owner.lane).collect();
        let stranded = self.broker.sessions().difference(&owned).next().copied();
        // What only the record knew, and a worker that is gone, nobody can know.
        if let Some(lane) = stranded.filter(|_| !self.has_lost_a_record) {
            return Err(format!("the session of lane {lane} is stranded: {record:?}"));
        }
        // Where none that is wanted can start, others stand in.
        if running.is_empty() {
            return Ok(());
        }
        let mut counts: BTreeMap<u16, u16> = wanted.iter().map(|ordinal| (*ordinal, 0)).collect();
        for owner in &record.lanes {
            let pod = self.pods.get(&owner.ordinal).map(|pod| pod.uid);
            let reads = self.broker.reader(owner.lane);
            if owner.state != Ownership::Owned || pod.is_none() || reads != pod {
                return Err(format!("{owner:?} of pod {pod:?} is read by {reads:?}"));
            }
            *counts.entry(owner.ordinal).or_default() += 1;
        }
        if owned != (0..self.goal.lanes).collect() {
            return Err(format!(
                "not the {} lanes there are to be: {record:?}",
                self.goal.lanes
            ));
        }
        let (least, most) = (counts.values().min(), counts.values().max());
        match least.zip(most) {
            Some((least, most)) if !wanted.is_empty() && most - least > 1 => {
                Err(format!("not balanced: {counts:?}"))
            }
            _ => Ok(()),
        }
    }
}

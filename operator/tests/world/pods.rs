//! Pods, what runs in them, and what moves them: the StatefulSet's controller, nodes and users.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millrace_contract::{Assignment, Heard, LaneRecord};
use millrace_operator::plan::lanes::Said;

use super::{Bug, FAILOVER, World};

/// A connection closed so soon counts towards a takeover where the broker does not say so.
const SHORT: Duration = Duration::from_secs(5);

/// A pod, as the API server has it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) uid: u64,
    pub(crate) going: bool,
    pub(crate) part: Option<Assignment>,
    /// Its node answers.
    reachable: bool,
    /// No node takes it.
    blocked: bool,
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Process {
    ordinal: u16,
    heard: Heard,
    acts_by: Assignment,
    /// The record as it is mounted.
    mount: Option<LaneRecord>,
    read_mount: Option<LaneRecord>,
    read_part: Option<Assignment>,
    lanes: BTreeMap<u16, Lane>,
    ending: bool,
}

#[derive(Clone, Debug)]
struct Lane {
    state: State,
    connected: Option<Instant>,
    short: u32,
    takeovers: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Down,
    Connecting,
    Up,
    Draining,
    TakenOver {
        until: Instant,
    },
    /// Without a session.
    Left,
}

impl World {
    pub(crate) fn process_ids(&self) -> Vec<u64> {
        self.processes.keys().copied().collect()
    }

    fn any_pod(&mut self) -> Option<u16> {
        let ordinals: Vec<u16> = self.pods.keys().copied().collect();
        let index = self.random.below(ordinals.len());
        ordinals.get(index).copied()
    }

    fn any_process(&mut self) -> Option<u64> {
        let uids = self.process_ids();
        let index = self.random.below(uids.len());
        uids.get(index).copied()
    }

    fn pod_of(&self, uid: u64) -> Option<&Pod> {
        self.pods.values().find(|pod| pod.uid == uid)
    }

    /// What a worker answers, if it can be reached.
    pub(crate) fn answer(&self, pod: &Pod) -> Option<Said> {
        let process = self.processes.get(&pod.uid).filter(|_| pod.reachable)?;
        let lanes = |is: fn(State) -> bool| {
            let lanes = process.lanes.iter().filter(move |(_, lane)| is(lane.state));
            lanes.map(|(lane, _)| *lane).collect()
        };
        Some(Said {
            generation: process.acts_by.generation,
            held: lanes(|state| !matches!(state, State::Down | State::Left)),
            known: lanes(|state| state != State::Left),
            left: lanes(|state| state == State::Left),
        })
    }

    pub(crate) fn can_start(&self, ordinal: u16) -> bool {
        self.pods.get(&ordinal).is_some_and(|pod| !pod.blocked)
    }

    /// One thing that the StatefulSet's controller does.
    pub(crate) fn set_controller(&mut self) {
        if let Some(missing) = (0..self.replicas).find(|ordinal| !self.pods.contains_key(ordinal)) {
            let uid = self.id();
            let pod = Pod {
                uid,
                going: false,
                part: None,
                reachable: true,
                blocked: self.random.one_in(12),
            };
            self.tell(format!("pod {missing} is made: {uid}, blocked: {}", pod.blocked));
            self.pods.insert(missing, pod);
            return;
        }
        let surplus = self.pods.iter_mut().rev();
        let mut surplus = surplus.filter(|(ordinal, pod)| **ordinal >= self.replicas && !pod.going);
        if let Some((ordinal, pod)) = surplus.next() {
            pod.going = true;
            let what = format!("pod {ordinal} is surplus");
            self.tell(what);
        }
    }

    /// One thing that a kubelet does.
    pub(crate) fn kubelet(&mut self) {
        self.end_pods();
        let Some(ordinal) = self.any_pod() else { return };
        let pod = self.pods[&ordinal].clone();
        if !pod.reachable {
            // Its node has been away for too long.
            if self.random.one_in(4) {
                self.pods.get_mut(&ordinal).expect("a pod").going = true;
            }
            return;
        }
        self.start_worker(ordinal, &pod);
        if self.random.one_in(6) {
            self.mount(pod.uid);
        }
        if let Some(process) = self.processes.get_mut(&pod.uid) {
            process.ending |= pod.going;
        }
    }

    fn start_worker(&mut self, ordinal: u16, pod: &Pod) {
        if pod.going || pod.blocked || self.processes.contains_key(&pod.uid) {
            return;
        }
        let newest = self.record.clone().map(|(record, _)| record);
        let mount = if self.random.one_in(4) {
            self.before.clone()
        } else {
            newest
        };
        let process = Process {
            ordinal,
            mount,
            heard: Heard::nothing(ordinal, &pod.uid.to_string()),
            acts_by: Assignment::default(),
            read_mount: None,
            read_part: None,
            lanes: BTreeMap::new(),
            ending: false,
        };
        self.processes.insert(pod.uid, process);
        self.tell(format!("worker {} starts in pod {ordinal}", pod.uid));
    }

    fn mount(&mut self, uid: u64) {
        let record = self.record.clone().map(|(record, _)| record);
        if let Some(process) = self.processes.get_mut(&uid) {
            process.mount = record;
        }
    }

    /// All pods that run where they can, and end where they are to.
    pub(crate) fn end_pods(&mut self) {
        let ended = |pod: &Pod, processes: &BTreeMap<u64, Process>| {
            pod.going && pod.reachable && !processes.contains_key(&pod.uid)
        };
        self.pods.retain(|_, pod| !ended(pod, &self.processes));
    }

    pub(crate) fn crash(&mut self) {
        if let Some(uid) = self.any_process() {
            self.tell(format!("worker {uid} crashes"));
            self.counts.crashes += 1;
            self.kill(uid);
        }
    }

    fn kill(&mut self, uid: u64) {
        self.processes.remove(&uid);
        self.broker.gone(uid);
    }

    pub(crate) fn lose_node(&mut self) {
        if let Some(ordinal) = self.any_pod() {
            self.tell(format!("the node of pod {ordinal} is lost"));
            self.counts.lost_nodes += 1;
            self.pods.get_mut(&ordinal).expect("a pod").reachable = false;
        }
    }

    pub(crate) fn find_node(&mut self) {
        if let Some(uid) = self.any_process() {
            self.reach(uid);
        }
    }

    /// A node is back: what has no pod there any more ends.
    pub(crate) fn reach(&mut self, uid: u64) {
        match self.pods.values_mut().find(|pod| pod.uid == uid) {
            Some(pod) => pod.reachable = true,
            None => self.kill(uid),
        }
    }

    pub(crate) fn reach_all(&mut self) {
        for pod in self.pods.values_mut() {
            pod.reachable = true;
        }
        for uid in self.process_ids() {
            self.reach(uid);
        }
    }

    /// The pod of a lost node is given up: what runs there runs on.
    pub(crate) fn give_up(&mut self, ordinal: u16, uid: u64) {
        if self.pods.get(&ordinal).is_some_and(|pod| pod.uid == uid) {
            self.tell(format!("pod {ordinal} ({uid}) is given up"));
            self.pods.remove(&ordinal);
        }
    }

    pub(crate) fn delete_pod(&mut self) {
        if let Some(ordinal) = self.any_pod() {
            self.tell(format!("pod {ordinal} is deleted"));
            self.pods.get_mut(&ordinal).expect("a pod").going = true;
        }
    }

    /// One thing that a worker does.
    pub(crate) fn process(&mut self) {
        let Some(uid) = self.any_process() else { return };
        match self.random.below(3) {
            0 => self.hear(uid, false),
            _ => self.step(uid),
        }
    }

    /// All kubelets do what there is to do.
    pub(crate) fn kubelets(&mut self) {
        for (ordinal, pod) in self.pods.clone() {
            self.start_worker(ordinal, &pod);
            self.mount(pod.uid);
            if let Some(process) = self.processes.get_mut(&pod.uid) {
                process.ending |= pod.going;
            }
        }
    }

    /// A worker reads one of its files, or both.
    pub(crate) fn hear(&mut self, uid: u64, both: bool) {
        let pod = self.pod_of(uid).filter(|pod| pod.reachable);
        let part = pod.and_then(|pod| pod.part.clone());
        let (which, any) = (self.random.one_in(2), self.has(Bug::OlderGeneration));
        let Some(process) = self.processes.get_mut(&uid) else {
            return;
        };
        // It reads both when it starts.
        let both = both || process.read_mount.is_none() && process.read_part.is_none();
        let mut news = None;
        if (both || which) && process.mount != process.read_mount {
            process.read_mount.clone_from(&process.mount);
            if let Some(record) = &process.mount {
                let part = record.part_of(process.ordinal, None);
                news = process.heard.record(record).or(any.then_some(part));
            }
        }
        if (both || !which) && part.is_some() && part != process.read_part {
            process.read_part.clone_from(&part);
            let heard = part.clone().and_then(|part| process.heard.part(part));
            news = heard.or(news).or(if any { part } else { None });
        }
        if let Some(news) = news {
            let what = format!("worker {uid} acts by {}: {:?}", news.generation, news.lanes);
            if news.generation < process.acts_by.generation {
                self.broker
                    .complain(format!("{what}, after {}", process.acts_by.generation));
            }
            let is_named = |lane: &u16| news.lanes.contains(lane) || news.leaving.contains(lane);
            process
                .lanes
                .retain(|number, lane| is_named(number) || !matches!(lane.state, State::Down | State::Left));
            process.acts_by = news;
            self.tell(what);
        }
    }

    /// A worker goes on with each of its lanes.
    pub(crate) fn step(&mut self, uid: u64) {
        // A kubelet ends what is to go within a second.
        let is_going = self.pod_of(uid).is_some_and(|pod| pod.going && pod.reachable);
        let Some(process) = self.processes.get_mut(&uid) else {
            return;
        };
        process.ending |= is_going;
        let named = process.acts_by.lanes.iter().chain(&process.acts_by.leaving);
        for lane in named.copied().collect::<Vec<_>>() {
            process.lanes.entry(lane).or_insert(Lane {
                state: State::Down,
                connected: None,
                short: 0,
                takeovers: 0,
            });
        }
        let lanes: Vec<u16> = process.lanes.keys().copied().collect();
        for lane in lanes {
            self.step_lane(uid, lane);
        }
        let process = &self.processes[&uid];
        if process.ending
            && process
                .lanes
                .values()
                .all(|lane| matches!(lane.state, State::Down | State::Left))
        {
            self.tell(format!("worker {uid} ends"));
            self.kill(uid);
        }
    }

    fn step_lane(&mut self, uid: u64, number: u16) {
        let now = self.now;
        let process = &self.processes[&uid];
        let (mut lane, generation) = (process.lanes[&number].clone(), process.acts_by.generation);
        let is_leaving = process.acts_by.leaving.contains(&number);
        let wanted = !process.ending && (is_leaving || process.acts_by.lanes.contains(&number));
        if self.broker.notice(uid, number) && matches!(lane.state, State::Up | State::Draining) {
            let is_short = lane.connected.is_some_and(|at| now.duration_since(at) < SHORT);
            lane.short = if is_short { lane.short + 1 } else { 0 };
            if self.broker.speaks || lane.short >= 2 {
                self.broker.knows(uid, number, generation, now);
                let wait = FAILOVER * 2_u32.saturating_pow(lane.takeovers.min(6));
                let wait = if self.has(Bug::NoPatience) {
                    Duration::ZERO
                } else {
                    wait
                };
                let jitter = Duration::from_millis(self.random.below(4000) as u64);
                lane.takeovers += 1;
                lane.short = 0;
                lane.state = State::TakenOver {
                    until: now + wait + jitter,
                };
            } else {
                lane.state = State::Connecting;
            }
        }
        lane.state = match lane.state {
            State::Left if is_leaving => State::Left,
            State::Left if !wanted => State::Down,
            // It was told to leave, and is to read again, or the other way round: it begins anew.
            State::Down | State::Connecting | State::Left if wanted => {
                self.connect(uid, number, generation, &mut lane)
            }
            State::TakenOver { until } if wanted && until <= now => {
                self.connect(uid, number, generation, &mut lane)
            }
            State::Up if !wanted => State::Draining,
            // Nothing comes any more.
            State::Up if is_leaving && self.random.one_in(2) && self.broker.end(uid, number) => State::Left,
            State::Draining => {
                self.broker.disconnect(uid, number);
                State::Down
            }
            State::Connecting | State::TakenOver { .. } if !wanted => State::Down,
            state => state,
        };
        if let Some(process) = self.processes.get_mut(&uid) {
            process.lanes.insert(number, lane);
        }
    }

    fn connect(&mut self, uid: u64, number: u16, generation: u64, lane: &mut Lane) -> State {
        lane.connected = Some(self.now);
        // A worker that the cluster has lost, and that reaches the broker, may subscribe again for a lane that was ended
        // meanwhile. Nobody can keep it from that; such a session is left to expire.
        let is_lost = self.pod_of(uid).is_none_or(|pod| !pod.reachable);
        let reads = self.processes[&uid].acts_by.lanes.contains(&number);
        if reads && !is_lost {
            self.broker.subscribe(number);
        }
        if self.broker.connect(uid, number, generation, self.now) {
            self.counts.takeovers += 1;
            self.tell(format!("worker {uid} takes lane {number} over"));
        }
        State::Up
    }
}

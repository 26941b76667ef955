//! Who is to own which lane: pure.
//!
//! A lane that changes its owner is first Releasing: the old owner confirms what it has read and disconnects, and says so.
//! Only then it is Owned by the new one. A worker that says nothing for `timeouts.failover` is passed over; should it
//! run on, the broker keeps it out, because it allows one connection for each client id.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use millrace_contract::status::{LaneState, RouteStatus};
use millrace_contract::{Assignment, LaneOwner, LaneRecord, Ownership};

/// What the record is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// Lanes that have something to read. The sessions of others are ended.
    pub lanes: u16,
    /// Workers that are to own them.
    pub workers: u16,
}

/// The workers of a route, by ordinal.
pub type Crew = BTreeMap<u16, Member>;

/// What is known of the worker with an ordinal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// What it says, if it answers.
    pub said: Option<Said>,
    /// Its pod has been told to go.
    pub going: bool,
    /// It has not answered for `timeouts.failover`.
    pub lost: bool,
    /// It has no pod, so it has no connection.
    pub absent: bool,
    /// The newest generation that it may act by.
    pub heard: u64,
}

/// What a worker says of its lanes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The generation it acts by.
    pub generation: u64,
    /// Lanes that it reads, or may read again by itself.
    pub held: BTreeSet<u16>,
    /// Those, and lanes that it has read until this generation: they may have a session.
    pub known: BTreeSet<u16>,
    /// Lanes that have no session any more.
    pub left: BTreeSet<u16>,
}

impl Said {
    /// From a worker's answer.
    pub fn of(status: &RouteStatus) -> Self {
        let lanes = |is: fn(LaneState) -> bool| {
            let lanes = status.lanes.iter().filter(move |lane| is(lane.state));
            lanes.map(|lane| lane.lane).collect()
        };
        Self {
            generation: status.generation,
            held: lanes(|state| !matches!(state, LaneState::Down | LaneState::Idle | LaneState::Left)),
            known: lanes(|state| !matches!(state, LaneState::Idle | LaneState::Left)),
            left: lanes(|state| state == LaneState::Left),
        }
    }

    /// The same of a worker that has been told its part: who acts by what it was told, and that still holds, acts by the
    /// record as it is now.
    pub fn as_told(mut self, told: Option<&Assignment>, record: Option<&LaneRecord>, ordinal: u16) -> Self {
        if let Some((told, record)) = told.zip(record)
            && told.generation == self.generation
            && holds(told, record, ordinal)
        {
            self.generation = record.generation;
        }
        self
    }
}

/// What a pod is to be told of a record; nothing if what it was told last says the same. So a move costs those that it
/// concerns, and nobody else. `acts_by` is the generation that its worker acts by, if it says so.
pub fn news(
    record: &LaneRecord,
    ordinal: u16,
    pod_uid: &str,
    told: Option<&Assignment>,
    acts_by: Option<u64>,
) -> Option<Assignment> {
    let part = record.part_of(ordinal, Some(pod_uid));
    let knows = told.is_some_and(|told| {
        // It may have read a record between, which said something else.
        let is_last =
            acts_by.is_none_or(|generation| generation <= told.generation || generation == record.generation);
        told.pod_uid == part.pod_uid && is_last && holds(told, record, ordinal)
    });
    (!knows).then_some(part)
}

/// Whether what a pod was told is what a record says, and was not something else between.
fn holds(told: &Assignment, record: &LaneRecord, ordinal: u16) -> bool {
    // When a lane is ended, whoever has read it forgets it.
    let concerns = |owner: &&LaneOwner| owner.ordinal == ordinal || owner.state == Ownership::Leaving;
    let newest = record
        .lanes
        .iter()
        .filter(concerns)
        .map(|owner| owner.since)
        .max();
    let part = record.part_of(ordinal, None);
    told.generation >= newest.unwrap_or_default() && told.lanes == part.lanes && told.leaving == part.leaving
}

/// What is seen of a worker's pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
    /// What the worker says, if it answers.
    pub said: Option<Said>,
    /// When it answered last.
    pub answered: Option<Instant>,
    /// It has been told to go.
    pub going: bool,
    /// The newest generation that it has acted by, or was told.
    pub heard: u64,
}

/// Since when workers have not answered, by ordinal.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    since: BTreeMap<u16, Instant>,
}

impl Silences {
    /// All that may own lanes, or do, as they are now.
    pub fn crew(
        &mut self,
        pods: &BTreeMap<u16, PodView>,
        record: Option<&LaneRecord>,
        goal: Goal,
        now: Instant,
        failover: Duration,
    ) -> Crew {
        let owners = record
            .into_iter()
            .flat_map(|record| &record.lanes)
            .map(|owner| owner.ordinal);
        // One that is not wanted any more and owns nothing may have to stand in.
        let there = pods.keys().copied();
        let ordinals: BTreeSet<u16> = owners.chain(0..goal.workers).chain(there).collect();
        // Without workers nobody is expected to answer.
        self.since
            .retain(|ordinal, _| goal.workers > 0 && ordinals.contains(ordinal));
        let member = |ordinal| {
            let pod = pods.get(&ordinal);
            let said = pod.and_then(|pod| pod.said.clone());
            if said.is_some() {
                self.since.remove(&ordinal);
            } else if goal.workers > 0 {
                let answered = pod.and_then(|pod| pod.answered).unwrap_or(now);
                self.since.entry(ordinal).or_insert(answered);
            }
            let since = self.since.get(&ordinal);
            let member = Member {
                said,
                going: pod.is_some_and(|pod| pod.going),
                lost: since.is_some_and(|since| now.duration_since(*since) >= failover),
                absent: pod.is_none(),
                heard: pod.map_or(0, |pod| pod.heard),
            };
            (ordinal, member)
        };
        ordinals.into_iter().map(member).collect()
    }

    /// When the next one is lost.
    pub fn next(&self, now: Instant, failover: Duration) -> Option<Duration> {
        let ends = self.since.values().map(|since| *since + failover);
        ends.filter(|end| *end > now).min().map(|end| end - now)
    }
}

impl Member {
    /// Whether it can be given a lane.
    fn is_fit(&self) -> bool {
        self.said.is_some() && !self.going
    }

    /// Whether it has given a lane up that it was told to at `since`, or cannot have it any more.
    fn has_released(&self, lane: u16, since: u64) -> bool {
        let said = self.said.as_ref();
        self.absent
            || self.lost
            || said.is_some_and(|said| said.generation >= since && !said.held.contains(&lane))
    }

    /// Whether it has ended the session of a lane, as it was told to at `since`.
    fn has_left(&self, lane: u16, since: u64) -> bool {
        let said = self.said.as_ref();
        said.is_some_and(|said| said.generation >= since && said.left.contains(&lane))
    }
}

/// The record that follows `record`; none if it stays.
///
/// Balanced in the end, counts differ by at most one, and sticky: as few lanes as possible change their owner.
pub fn next(record: Option<&LaneRecord>, goal: Goal, crew: &Crew) -> Option<LaneRecord> {
    let heard = crew.values().map(|member| member.heard).max().unwrap_or_default();
    let Some(record) = record else {
        return Some(first(goal, crew, heard.saturating_add(1)));
    };
    let mut table = Table::of(record, goal, crew);
    table.end();
    table.release();
    table.balance();
    follow(record, heard, table.owners())
}

/// The record that ends all lanes for good, by whoever owns them now. None if it is that already.
///
/// `heard` is the newest generation that a worker may act by.
pub fn leaving(record: Option<&LaneRecord>, heard: u64) -> Option<LaneRecord> {
    let record = record?;
    let lanes = record.lanes.iter().cloned();
    let lanes = lanes.map(|owner| LaneOwner {
        state: Ownership::Leaving,
        ..owner
    });
    follow(record, heard, lanes.collect())
}

/// How many pods there have to be: those asked for, and those that still own lanes.
pub fn pods(record: Option<&LaneRecord>, workers: u16) -> u16 {
    let owners = record.into_iter().flat_map(|record| &record.lanes);
    match workers {
        // Every session is kept, whoever reads it next.
        0 => 0,
        _ => owners.map(|owner| owner.ordinal + 1).fold(workers, u16::max),
    }
}

/// Nobody reads anything yet: everyone connects when it comes up. Or the record was lost: workers go on with what they read.
fn first(goal: Goal, crew: &Crew, generation: u64) -> LaneRecord {
    let workers = goal.workers.max(1);
    let reader = |lane: u16| {
        let holds = |member: &Member| member.said.as_ref().is_some_and(|said| said.held.contains(&lane));
        crew.iter()
            .find(|(_, member)| holds(member))
            .map(|(ordinal, _)| *ordinal)
    };
    let lanes = (0..goal.lanes).map(|lane| LaneOwner {
        lane,
        ordinal: reader(lane).unwrap_or(lane % workers),
        state: Ownership::Owned,
        since: generation,
    });
    LaneRecord {
        generation,
        lanes: lanes.collect(),
    }
}

/// `heard` is the newest generation that a worker may act by: newer than the record only where one was lost.
fn follow(record: &LaneRecord, heard: u64, lanes: Vec<LaneOwner>) -> Option<LaneRecord> {
    let old = &record.lanes;
    let generation = record.generation.max(heard).saturating_add(1);
    let key = |owner: &LaneOwner| (owner.lane, owner.ordinal, owner.state);
    let since = |owner: LaneOwner| {
        let same = old.iter().find(|old| key(old) == key(&owner));
        let since = same.map_or(generation, |old| old.since);
        LaneOwner { since, ..owner }
    };
    let lanes: Vec<LaneOwner> = lanes.into_iter().map(since).collect();
    (lanes != *old || heard > record.generation).then_some(LaneRecord { generation, lanes })
}

/// Lanes of which the record does not know and a worker does: a pod that had heard of an older record than there is may
/// have made their sessions again.
fn orphans(record: &LaneRecord, crew: &Crew) -> impl Iterator<Item = LaneOwner> {
    let is_unknown = |lane: &u16| record.lanes.iter().all(|owner| owner.lane != *lane);
    let said = crew
        .iter()
        .filter_map(|(ordinal, member)| Some((*ordinal, member.said.as_ref()?)));
    let newest = said.filter(|(_, said)| said.generation >= record.generation);
    newest.flat_map(move |(ordinal, said)| {
        let lanes = said.known.iter().copied().filter(is_unknown);
        lanes.map(move |lane| LaneOwner {
            lane,
            ordinal,
            state: Ownership::Leaving,
            since: 0,
        })
    })
}

/// How many lanes somebody has, and is to have.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: usize,
    quota: usize,
}

impl Share {
    fn excess(&self) -> isize {
        self.count.cast_signed() - self.quota.cast_signed()
    }
}

/// The record while it is worked out.
struct Table<'a> {
    goal: Goal,
    crew: &'a Crew,
    lanes: BTreeMap<u16, LaneOwner>,
    /// Lanes that nobody can be reading, and who read them last.
    free: BTreeMap<u16, Option<u16>>,
    /// Lanes that have nothing to read any more, while they may have a session.
    surplus: BTreeMap<u16, LaneOwner>,
}

impl<'a> Table<'a> {
    fn of(record: &LaneRecord, goal: Goal, crew: &'a Crew) -> Self {
        let all = record.lanes.iter().map(|owner| (owner.lane, owner.clone()));
        let mut lanes: BTreeMap<u16, LaneOwner> = all.collect();
        let mut surplus = lanes.split_off(&goal.lanes);
        for owner in orphans(record, crew) {
            let table = if owner.lane < goal.lanes {
                &mut lanes
            } else {
                &mut surplus
            };
            table.entry(owner.lane).or_insert(owner);
        }
        // One that was to be ended, or that only a worker knew of, and has something to read again.
        for owner in lanes.values_mut() {
            if owner.state == Ownership::Leaving {
                owner.state = Ownership::Owned;
            }
        }
        let free = (0..goal.lanes).filter(|lane| !lanes.contains_key(lane));
        Self {
            goal,
            crew,
            free: free.map(|lane| (lane, None)).collect(),
            lanes,
            surplus,
        }
    }

    fn member(&self, ordinal: u16) -> Member {
        self.crew.get(&ordinal).cloned().unwrap_or(Member {
            absent: true,
            ..Member::default()
        })
    }

    /// Those that can take lanes: who is wanted and answers. While none of them does, who is not wanted any more stands in.
    fn takers(&self) -> BTreeSet<u16> {
        if self.goal.workers == 0 {
            return BTreeSet::new();
        }
        let fit = self.crew.iter().filter(|(_, member)| member.is_fit());
        let fit: BTreeSet<u16> = fit.map(|(ordinal, _)| *ordinal).collect();
        let wanted: BTreeSet<u16> = fit.range(..self.goal.workers).copied().collect();
        if wanted.is_empty() { fit } else { wanted }
    }

    /// Has the sessions of surplus lanes ended: by who reads them, or by another where that one is gone.
    fn end(&mut self) {
        let takers = self.takers();
        for (lane, mut owner) in std::mem::take(&mut self.surplus) {
            let member = self.member(owner.ordinal);
            let is_leaving = owner.state == Ownership::Leaving;
            if is_leaving && member.has_left(lane, owner.since) {
                continue;
            }
            let is_free = match owner.state {
                Ownership::Releasing => member.has_released(lane, owner.since),
                Ownership::Owned | Ownership::Leaving => true,
            };
            // The lowest has the fewest others to wait for.
            let heir = takers.first().filter(|_| member.absent || member.lost);
            owner.ordinal = heir.copied().unwrap_or(owner.ordinal);
            if is_free {
                owner.state = Ownership::Leaving;
            }
            self.surplus.insert(lane, owner);
        }
    }

    /// Frees what has been given up, and asks for what its owner is not to keep.
    fn release(&mut self) {
        let takers = self.takers();
        for (lane, owner) in std::mem::take(&mut self.lanes) {
            let member = self.member(owner.ordinal);
            let is_surplus = self.goal.workers > 0 && owner.ordinal >= self.goal.workers;
            let is_free = match owner.state {
                Ownership::Releasing => member.has_released(lane, owner.since),
                // Without anybody to take over, who read last will be the first to read again.
                _ => is_surplus && member.absent || !takers.is_empty() && member.lost,
            };
            if is_free {
                self.free.insert(lane, Some(owner.ordinal));
                continue;
            }
            let state = match owner.state {
                Ownership::Owned if is_surplus && !takers.is_empty() && !takers.contains(&owner.ordinal) => {
                    Ownership::Releasing
                }
                state => state,
            };
            self.lanes.insert(lane, LaneOwner { state, ..owner });
        }
    }

    /// Gives everyone its share: asks those who have more for what others are ready to take, and gives away what is free.
    fn balance(&mut self) {
        let takers = self.takers();
        let mut shares = self.shares(&takers);
        shares.retain(|ordinal, _| takers.contains(ordinal));
        if shares.is_empty() {
            return self.keep();
        }
        let lacking: usize = shares
            .values()
            .map(|share| share.quota.saturating_sub(share.count))
            .sum();
        let releasing = self
            .lanes
            .values()
            .filter(|owner| owner.state == Ownership::Releasing);
        let mut asked = lacking.saturating_sub(self.free.len() + releasing.count());
        for (ordinal, share) in &shares {
            let lanes = share.count.saturating_sub(share.quota).min(asked);
            self.ask(*ordinal, lanes);
            asked -= lanes;
        }
        for lane in std::mem::take(&mut self.free).into_keys() {
            let neediest = shares.iter_mut().min_by_key(|(_, share)| share.excess());
            let Some((ordinal, share)) = neediest else { return };
            share.count += 1;
            self.own(lane, *ordinal);
        }
    }

    /// What each is to have of those that are to own lanes. One that is not there yet keeps its place, unless it is lost.
    fn shares(&self, takers: &BTreeSet<u16>) -> BTreeMap<u16, Share> {
        let places = (0..self.goal.workers).filter(|ordinal| !self.member(*ordinal).lost);
        let places = places.chain(takers.iter().copied());
        let mut shares: BTreeMap<u16, Share> = places.map(|ordinal| (ordinal, Share::default())).collect();
        for owner in self
            .lanes
            .values()
            .filter(|owner| owner.state == Ownership::Owned)
        {
            if let Some(share) = shares.get_mut(&owner.ordinal) {
                share.count += 1;
            }
        }
        let (total, places) = (usize::from(self.goal.lanes), shares.len().max(1));
        // Whoever has more already has one more in the end.
        let mut by_count: Vec<&mut Share> = shares.values_mut().collect();
        by_count.sort_by_key(|share| Reverse(share.count));
        for (place, share) in by_count.into_iter().enumerate() {
            share.quota = total / places + usize::from(place < total % places);
        }
        shares
    }

    /// Tells an owner to release so many of its lanes.
    fn ask(&mut self, ordinal: u16, lanes: usize) {
        let owned = self
            .lanes
            .values_mut()
            .filter(|owner| owner.ordinal == ordinal && owner.state == Ownership::Owned);
        for owner in owned.rev().take(lanes) {
            owner.state = Ownership::Releasing;
        }
    }

    /// Nobody takes a lane: what is free stays with whom it was, or goes to whoever comes up.
    fn keep(&mut self) {
        let workers = self.goal.workers.max(1);
        for (lane, last) in std::mem::take(&mut self.free) {
            let last = last.filter(|ordinal| *ordinal < workers || self.goal.workers == 0);
            self.own(lane, last.unwrap_or(lane % workers));
        }
    }

    fn own(&mut self, lane: u16, ordinal: u16) {
        let owner = LaneOwner {
            lane,
            ordinal,
            state: Ownership::Owned,
            since: 0,
        };
        self.lanes.insert(lane, owner);
    }

    fn owners(self) -> Vec<LaneOwner> {
        self.lanes
            .into_values()
            .chain(self.surplus.into_values())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that act by a record at once.
    fn crew(record: Option<&LaneRecord>, workers: u16) -> Crew {
        let said = |ordinal| Said {
            generation: record.map_or(0, |record| record.generation),
            held: record
                .into_iter()
                .flat_map(|record| record.part_of(ordinal, None).lanes)
                .collect(),
            known: BTreeSet::new(),
            left: record
                .into_iter()
                .flat_map(|record| record.part_of(ordinal, None).leaving)
                .collect(),
        };
        let member = |ordinal| Member {
            said: Some(said(ordinal)),
            ..Member::default()
        };
        (0..workers).map(|ordinal| (ordinal, member(ordinal))).collect()
    }

    fn fresh(goal: Goal) -> LaneRecord {
        first(goal, &Crew::new(), 1)
    }

    /// What a record comes to, and by how many moves.
    fn settled(mut record: LaneRecord, goal: Goal, pods: u16) -> (LaneRecord, usize) {
        let mut moves = 0;
        for _ in 0..100 {
            let Some(next) = next(Some(&record), goal, &crew(Some(&record), pods)) else {
                return (record, moves);
            };
            assert_eq!(next.generation, record.generation + 1);
            let releasing = |record: &LaneRecord| {
                let owners = record.lanes.iter();
                owners.filter(|owner| owner.state == Ownership::Releasing).count()
            };
            moves += releasing(&next);
            record = next;
        }
        panic!("no end: {record:?}");
    }

    fn counts(record: &LaneRecord) -> BTreeMap<u16, usize> {
        let mut counts = BTreeMap::new();
        for owner in &record.lanes {
            *counts.entry(owner.ordinal).or_default() += 1;
        }
        counts
    }

    #[test]
    fn every_change_of_size_is_balanced_and_moves_as_few_lanes_as_possible() {
        for lanes in [1_u16, 2, 7, 8, 13] {
            for before in 1..=lanes {
                for after in 1..=lanes {
                    let old = fresh(Goal {
                        lanes,
                        workers: before,
                    });
                    let goal = Goal {
                        lanes,
                        workers: after,
                    };
                    let (new, moves) = settled(old.clone(), goal, before.max(after));
                    let (old, new) = (counts(&old), counts(&new));
                    let (least, most) = (new.values().min().unwrap(), new.values().max().unwrap());
                    assert!(most - least <= 1, "{lanes} lanes, {before} to {after}: {new:?}");
                    assert_eq!(new.len(), usize::from(after));
                    // Growing: what the new ones get. Shrinking: what the gone ones had.
                    let (of, gone) = if after > before {
                        (&new, before..after)
                    } else {
                        (&old, after..before)
                    };
                    let needed: usize = gone.map(|ordinal| of[&ordinal]).sum();
                    assert_eq!(moves, needed, "{lanes} lanes, {before} to {after}");
                }
            }
        }
    }

    #[test]
    fn a_lane_moves_only_when_somebody_is_ready_to_take_it() {
        let goal = Goal { lanes: 4, workers: 2 };
        let record = fresh(Goal { lanes: 4, workers: 1 });
        // Its pod starts.
        assert_eq!(next(Some(&record), goal, &crew(Some(&record), 1)), None);
        let asked = next(Some(&record), goal, &crew(Some(&record), 2)).unwrap();
        let states: Vec<Ownership> = asked.lanes.iter().map(|owner| owner.state).collect();
        let (owned, releasing) = (Ownership::Owned, Ownership::Releasing);
        assert_eq!(states, [owned, owned, releasing, releasing]);
        // An answer from before the change says nothing.
        assert_eq!(next(Some(&asked), goal, &crew(Some(&record), 2)), None);
        let given = next(Some(&asked), goal, &crew(Some(&asked), 2)).unwrap();
        assert_eq!(counts(&given), [(0, 2), (1, 2)].into());
    }

    #[test]
    fn who_does_not_answer_is_passed_over_when_it_is_lost_and_not_before() {
        let goal = Goal { lanes: 4, workers: 2 };
        let record = fresh(goal);
        let mut crew = crew(Some(&record), 2);
        crew.insert(1, Member::default());
        assert_eq!(next(Some(&record), goal, &crew), None);
        crew.insert(
            1,
            Member {
                lost: true,
                ..Member::default()
            },
        );
        let new = next(Some(&record), goal, &crew).unwrap();
        assert_eq!(counts(&new), [(0, 4)].into());
        // With nobody to take over, nothing is gained.
        crew.insert(
            0,
            Member {
                lost: true,
                ..Member::default()
            },
        );
        assert_eq!(next(Some(&record), goal, &crew), None);
    }

    #[test]
    fn when_the_record_is_lost_workers_go_on_with_what_they_read_by_one_that_they_take_for_newer() {
        let goal = Goal { lanes: 4, workers: 2 };
        let old = LaneRecord {
            generation: 40,
            lanes: (0..4)
                .map(|lane| LaneOwner {
                    lane,
                    ordinal: lane / 2,
                    state: Ownership::Owned,
                    since: 7,
                })
                .collect(),
        };
        let mut crew = crew(Some(&old), 2);
        for member in crew.values_mut() {
            member.heard = 40;
        }
        let new = next(None, goal, &crew).unwrap();
        let owners =
            |record: &LaneRecord| -> Vec<u16> { record.lanes.iter().map(|owner| owner.ordinal).collect() };
        assert_eq!((new.generation, owners(&new)), (41, vec![0, 0, 1, 1]));
        // One that was written without knowing of the workers is followed by one that they act by.
        let unknowing = next(None, goal, &Crew::new()).unwrap();
        assert_eq!((unknowing.generation, owners(&unknowing)), (1, vec![0, 1, 0, 1]));
        assert_eq!(next(Some(&unknowing), goal, &crew).unwrap().generation, 41);
    }

    #[test]
    fn without_workers_the_owners_are_remembered() {
        let record = fresh(Goal { lanes: 4, workers: 2 });
        let goal = Goal { lanes: 4, workers: 0 };
        assert_eq!(next(Some(&record), goal, &Crew::new()), None);
        assert_eq!(pods(Some(&record), 0), 0);
        // Fewer than before come back: nobody waits for those that do not.
        let back = next(Some(&record), Goal { lanes: 4, workers: 1 }, &Crew::new()).unwrap();
        assert_eq!(counts(&back), [(0, 4)].into());
    }

    #[test]
    fn surplus_lanes_are_ended_where_they_are_and_forgotten_when_they_have_left() {
        let record = fresh(Goal { lanes: 6, workers: 2 });
        let goal = Goal { lanes: 4, workers: 2 };
        let both = crew(Some(&record), 2);
        let ending = next(Some(&record), goal, &both).unwrap();
        let ends = |record: &LaneRecord| -> Vec<(u16, u16)> {
            let leaving = record
                .lanes
                .iter()
                .filter(|owner| owner.state == Ownership::Leaving);
            leaving.map(|owner| (owner.lane, owner.ordinal)).collect()
        };
        assert_eq!(ends(&ending), [(4, 0), (5, 1)]);
        // An answer from before the change says nothing.
        assert_eq!(next(Some(&ending), goal, &both), None);
        // The worker that was to end one is gone: another does it.
        let mut one = crew(Some(&ending), 1);
        one.get_mut(&0).unwrap().said.as_mut().unwrap().left.clear();
        let adopted = next(Some(&ending), goal, &one).unwrap();
        assert_eq!(ends(&adopted), [(4, 0), (5, 0)]);
        let (last, _) = settled(ending.clone(), goal, 2);
        assert_eq!((last.lanes.len(), ends(&last)), (4, vec![]));
        // They have something to read again before they have left.
        let (again, _) = settled(ending, Goal { lanes: 6, workers: 2 }, 2);
        assert_eq!((again.lanes.len(), ends(&again)), (6, vec![]));
        // Without workers they wait for those that come.
        let none = next(Some(&record), Goal { lanes: 4, workers: 0 }, &Crew::new()).unwrap();
        assert_eq!(ends(&none), [(4, 0), (5, 1)]);
        assert_eq!(
            next(Some(&none), Goal { lanes: 4, workers: 0 }, &Crew::new()),
            None
        );
    }

    #[test]
    fn only_those_are_told_of_a_move_whom_it_concerns() {
        let goal = Goal { lanes: 4, workers: 3 };
        let mut record = fresh(Goal { lanes: 4, workers: 2 });
        let mut told: BTreeMap<u16, Assignment> = BTreeMap::new();
        let mut tell = |record: &LaneRecord| -> Vec<u16> {
            let pods = 0..3;
            let news = pods.filter_map(|ordinal| {
                let uid = format!("uid-{ordinal}");
                let acts_by = told.get(&ordinal).map(|told| told.generation);
                let part = news(record, ordinal, &uid, told.get(&ordinal), acts_by)?;
                told.insert(ordinal, part);
                Some(ordinal)
            });
            news.collect()
        };
        assert_eq!(tell(&record), [0, 1, 2]);
        let mut tellings = Vec::new();
        while let Some(next) = next(Some(&record), goal, &crew(Some(&record), 3)) {
            record = next;
            tellings.push(tell(&record));
        }
        // One gives up a lane, and the new one gets it. The other hears of nothing.
        assert_eq!(tellings, [vec![1], vec![2]]);
        assert_eq!(counts(&record), [(0, 2), (1, 1), (2, 1)].into());
        assert_eq!(told[&0].generation, 1);

        // It acts by the record all the same, unless it says that it acts by another.
        let as_told = |generation| {
            let said = Said {
                generation,
                ..Said::default()
            };
            said.as_told(told.get(&0), Some(&record), 0).generation
        };
        assert_eq!((as_told(1), as_told(2)), (record.generation, 2));
        let hears = |acts_by| news(&record, 0, "uid-0", told.get(&0), Some(acts_by)).is_some();
        assert_eq!([0, 1, 2, 3].map(hears), [false, false, true, false]);
        // Another pod in its place.
        assert!(news(&record, 0, "uid-9", told.get(&0), None).is_some());
        // What was asked of it and taken back is told, though its lanes are those of before.
        for owner in record.lanes.iter_mut().filter(|owner| owner.ordinal == 0) {
            owner.since = 5;
        }
        assert!(news(&record, 0, "uid-0", told.get(&0), Some(1)).is_some());
    }

    #[test]
    fn pods_stay_until_they_own_nothing() {
        let record = fresh(Goal { lanes: 4, workers: 4 });
        assert_eq!(pods(Some(&record), 1), 4);
        let goal = Goal { lanes: 4, workers: 1 };
        let (record, _) = settled(record, goal, 4);
        assert_eq!(pods(Some(&record), 1), 1);
    }

    #[test]
    fn leaving_keeps_the_owners_and_is_said_once() {
        let record = fresh(Goal { lanes: 4, workers: 2 });
        let leaving_record = leaving(Some(&record), 0).unwrap();
        assert_eq!(counts(&leaving_record), counts(&record));
        let mut states = leaving_record.lanes.iter().map(|owner| owner.state);
        assert!(states.all(|state| state == Ownership::Leaving));
        assert_eq!(leaving(Some(&leaving_record), leaving_record.generation), None);
    }
}

use std::collections::{BTreeMap, BTreeSet};

use millrace_contract::status::{LaneState, RouteStatus};
use millrace_contract::{LaneOwner, LaneRecord, Live, Ownership};

/// How far the lanes of a route are with the configuration that was written last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uptake {
    /// Every lane that has something to read reads it: what is still read of before can go.
    pub complete: bool,
    /// Filters that are read no more and that the broker may still hold messages of; none while that is not known of
    /// all lanes.
    pub late: Option<BTreeSet<String>>,
}

impl Uptake {
    /// From the configuration and its hash, the record, and what workers answer, by ordinal.
    pub fn of(
        live: Option<(&str, &Live)>,
        record: Option<&LaneRecord>,
        answers: &BTreeMap<u16, RouteStatus>,
    ) -> Self {
        let (Some((hash, live)), Some(record)) = (live, record) else {
            return Self::default();
        };
        let acts = |owner: &LaneOwner| {
            owner.state == Ownership::Owned
                && answers.get(&owner.ordinal).is_some_and(|status| {
                    status.live == hash
                        && status.generation >= owner.since
                        && status.lanes.iter().any(|lane| {
                            lane.lane == owner.lane && matches!(lane.state, LaneState::Up | LaneState::Idle)
                        })
                })
        };
        let acting: BTreeSet<u16> = record
            .lanes
            .iter()
            .filter(|owner| acts(owner))
            .map(|owner| owner.lane)
            .collect();
        let complete = (0..live.lanes_read()).all(|lane| acting.contains(&lane));
        let late = || answers.values().flat_map(|status| status.late.clone()).collect();
        Self {
            complete,
            late: (complete && acting.len() == record.lanes.len()).then(late),
        }
    }
}

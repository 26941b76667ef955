use serde::{Deserialize, Serialize};

/// Who owns the lanes of a route: the one truth, kept by the operator and mounted into every worker.
///
/// The MQTT broker excludes two workers from one lane, because it allows one connection for each client id. This
/// record only says who should connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneRecord {
    /// Grows with every change.
    pub generation: u64,
    /// One entry for each lane that has a session, in ascending order.
    pub lanes: Vec<LaneOwner>,
}

/// Who owns a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LaneOwner {
    /// The lane's number, from 0.
    pub lane: u16,
    /// The ordinal of the owner's pod in its StatefulSet.
    pub ordinal: u16,
    /// What the owner does with it.
    pub state: Ownership,
    /// The generation that said so first: what a worker reports of an earlier one says nothing about it.
    #[serde(default)]
    pub since: u64,
}

/// What the owner of a lane does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ownership {
    /// Reads it.
    Owned,
    /// Gives it up: stops reading, confirms what is in flight and disconnects, keeping the session.
    Releasing,
    /// Ends it for good: unsubscribes, reads what the broker still holds, and ends the session.
    Leaving,
}

/// One pod's part of a [`LaneRecord`]: the value of the pod's annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Assignment {
    /// The record's generation.
    pub generation: u64,
    /// Which pod this is about: one that has the ordinal later is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_uid: Option<String>,
    /// Lanes to read.
    pub lanes: Vec<u16>,
    /// Lanes to end for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<u16>,
}

impl LaneRecord {
    /// What this record says to the pod with an ordinal. A lane that is being released is not in it.
    pub fn part_of(&self, ordinal: u16, pod_uid: Option<&str>) -> Assignment {
        let lanes = |state| {
            let mine = move |owner: &&LaneOwner| owner.ordinal == ordinal && owner.state == state;
            self.lanes.iter().filter(mine).map(|owner| owner.lane).collect()
        };
        Assignment {
            generation: self.generation,
            pod_uid: pod_uid.map(str::to_owned),
            lanes: lanes(Ownership::Owned),
            leaving: lanes(Ownership::Leaving),
        }
    }
}

/// What a worker has heard about its lanes: it acts by the highest generation that is about its pod.
///
/// It hears from two places, of which either may be late: the pod's annotation, and the record itself, which a pod
/// needs that was born while the operator is away.
#[derive(Clone, Debug)]
pub struct Heard {
    ordinal: u16,
    pod_uid: String,
    /// None before the first.
    generation: Option<u64>,
}

impl Heard {
    /// Nothing yet; for the pod with an ordinal and a uid.
    pub fn nothing(ordinal: u16, pod_uid: &str) -> Self {
        Self {
            ordinal,
            pod_uid: pod_uid.to_owned(),
            generation: None,
        }
    }

    /// The pod's part of a record, if that is news.
    pub fn record(&mut self, record: &LaneRecord) -> Option<Assignment> {
        self.part(record.part_of(self.ordinal, Some(&self.pod_uid)))
    }

    /// A part, if it is news and about this pod.
    pub fn part(&mut self, part: Assignment) -> Option<Assignment> {
        let is_mine = part.pod_uid.as_ref().is_none_or(|uid| *uid == self.pod_uid);
        let is_news = self.generation.is_none_or(|known| part.generation > known);
        if !is_mine || !is_news {
            return None;
        }
        self.generation = Some(part.generation);
        Some(part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_gets_the_lanes_it_owns_and_those_it_ends() {
        let owner = |lane, ordinal, state| LaneOwner {
            lane,
            ordinal,
            state,
            since: 7,
        };
        let record = LaneRecord {
            generation: 7,
            lanes: vec![
                owner(0, 0, Ownership::Owned),
                owner(1, 1, Ownership::Owned),
                owner(2, 0, Ownership::Releasing),
                owner(3, 0, Ownership::Leaving),
            ],
        };
        let part = record.part_of(0, Some("uid"));
        assert_eq!((part.generation, part.pod_uid.as_deref()), (7, Some("uid")));
        assert_eq!((part.lanes, part.leaving), (vec![0], vec![3]));
        assert_eq!(record.part_of(2, None).lanes, []);
    }

    #[test]
    fn only_what_is_newer_and_about_this_pod_counts() {
        let part = |generation, pod_uid: Option<&str>| Assignment {
            generation,
            pod_uid: pod_uid.map(str::to_owned),
            ..Assignment::default()
        };
        let mut heard = Heard::nothing(1, "mine");
        assert!(heard.part(part(9, Some("another"))).is_none());
        assert!(heard.part(part(0, Some("mine"))).is_some());
        assert!(heard.part(part(0, Some("mine"))).is_none());
        assert!(heard.part(part(4, None)).is_some());
        assert!(heard.part(part(3, Some("mine"))).is_none());
        let record = LaneRecord {
            generation: 5,
            lanes: Vec::new(),
        };
        assert!(heard.record(&record).is_some());
        assert!(heard.record(&record).is_none());
    }
}

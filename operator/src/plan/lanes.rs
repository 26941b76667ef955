//! Which worker is to own which lane: pure.

use std::collections::BTreeMap;

use millrace_contract::{LaneOwner, LaneRecord, Ownership};

/// The record that follows `record` when a route has `lanes` lanes and `workers` workers; none if it is right as it
/// is. Balanced, counts differ by at most one, and sticky: as few lanes as possible change their owner.
pub fn next(record: Option<&LaneRecord>, lanes: u16, workers: u16) -> Option<LaneRecord> {
    let old: BTreeMap<u16, &LaneOwner> = record
        .into_iter()
        .flat_map(|record| &record.lanes)
        .map(|owner| (owner.lane, owner))
        .collect();
    let owners = owners(&old, lanes, workers);
    follow(record, owners)
}

/// The record that ends all lanes for good, by whoever owns them now. None if it is that already.
pub fn leaving(record: Option<&LaneRecord>) -> Option<LaneRecord> {
    let record = record?;
    let lanes = record.lanes.iter().cloned();
    follow(
        Some(record),
        lanes
            .map(|owner| LaneOwner {
                state: Ownership::Leaving,
                ..owner
            })
            .collect(),
    )
}

fn follow(record: Option<&LaneRecord>, lanes: Vec<LaneOwner>) -> Option<LaneRecord> {
    match record {
        Some(record) if record.lanes == lanes => None,
        _ => Some(LaneRecord {
            generation: record.map_or(0, |record| record.generation) + 1,
            lanes,
        }),
    }
}

fn owners(old: &BTreeMap<u16, &LaneOwner>, lanes: u16, workers: u16) -> Vec<LaneOwner> {
    if workers == 0 {
        // Nobody reads; who did will be the first to read again.
        return (0..lanes)
            .map(|lane| {
                old.get(&lane)
                    .map_or_else(|| owned(lane, 0), |owner| owned(lane, owner.ordinal))
            })
            .collect();
    }
    // So many lanes has everyone, and so many workers have one more.
    let (least, mut generous) = (lanes / workers, lanes % workers);
    let mut counts = vec![0_u16; usize::from(workers)];
    let mut owners: Vec<Option<u16>> = (0..lanes)
        .map(|lane| {
            let ordinal = old
                .get(&lane)
                .map(|owner| owner.ordinal)
                .filter(|ordinal| *ordinal < workers)?;
            let count = &mut counts[usize::from(ordinal)];
            if *count < least {
                *count += 1;
            } else if *count == least && generous > 0 {
                *count += 1;
                generous -= 1;
            } else {
                return None;
            }
            Some(ordinal)
        })
        .collect();
    for owner in owners.iter_mut().filter(|owner| owner.is_none()) {
        let poorest = counts
            .iter()
            .enumerate()
            .min_by_key(|(_, count)| **count)
            .map(|(ordinal, _)| ordinal);
        let poorest = poorest.unwrap_or_default();
        counts[poorest] += 1;
        *owner = u16::try_from(poorest).ok();
    }
    (0..lanes)
        .zip(owners)
        .map(|(lane, owner)| owned(lane, owner.unwrap_or_default()))
        .collect()
}

fn owned(lane: u16, ordinal: u16) -> LaneOwner {
    LaneOwner {
        lane,
        ordinal,
        state: Ownership::Owned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(record: &LaneRecord, workers: u16) -> Vec<usize> {
        let of = |ordinal| {
            record
                .lanes
                .iter()
                .filter(|owner| owner.ordinal == ordinal)
                .count()
        };
        (0..workers).map(of).collect()
    }

    fn moved(before: &LaneRecord, after: &LaneRecord) -> usize {
        before
            .lanes
            .iter()
            .zip(&after.lanes)
            .filter(|(one, two)| one.ordinal != two.ordinal)
            .count()
    }

    #[test]
    fn every_change_of_size_is_balanced_and_moves_as_few_lanes_as_possible() {
        for lanes in [1_u16, 2, 7, 8, 13] {
            for before in 1..=lanes {
                for after in 1..=lanes {
                    let old = next(None, lanes, before).unwrap();
                    let Some(new) = next(Some(&old), lanes, after) else {
                        assert_eq!(before, after);
                        continue;
                    };
                    assert_eq!(new.generation, old.generation + 1);
                    let counts = counts(&new, after);
                    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
                    assert!(
                        most - least <= 1,
                        "{lanes} lanes, {before} to {after}: {counts:?}"
                    );
                    // Growing: what the new ones get. Shrinking: what the gone ones had.
                    let needed = if after > before {
                        (before..after).map(|o| counts[usize::from(o)]).sum()
                    } else {
                        old.lanes.iter().filter(|owner| owner.ordinal >= after).count()
                    };
                    assert_eq!(moved(&old, &new), needed, "{lanes} lanes, {before} to {after}");
                }
            }
        }
    }

    #[test]
    fn a_record_that_is_right_is_left_alone() {
        let record = next(None, 8, 3).unwrap();
        assert_eq!(next(Some(&record), 8, 3), None);
    }

    #[test]
    fn without_workers_the_owners_are_remembered() {
        let record = next(None, 4, 2).unwrap();
        assert_eq!(next(Some(&record), 4, 0), None);
    }

    #[test]
    fn leaving_keeps_the_owners_and_is_said_once() {
        let record = next(None, 4, 2).unwrap();
        let leaving_record = leaving(Some(&record)).unwrap();
        assert_eq!(moved(&record, &leaving_record), 0);
        assert!(
            leaving_record
                .lanes
                .iter()
                .all(|owner| owner.state == Ownership::Leaving)
        );
        assert_eq!(leaving(Some(&leaving_record)), None);
    }
}

//! Which lane reads a filter of a route that keeps order.
//!
//! Rendezvous hashing (highest random weight): the lane whose hash with the filter is the largest. It depends on
//! nothing but the filter as sent and the number of lanes, so a filter that comes or goes moves no other, and every
//! worker of every version comes to the same answer. One lane more takes a few filters from each of the others and
//! moves none between them. Never change it: a filter that moves to another lane is in two sessions.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The lane that reads a filter, given without names, out of so many lanes.
pub(super) fn lane_of(wire: &str, lanes: u16) -> u16 {
    let weight = |lane: &u16| xxh3_64_with_seed(wire.as_bytes(), u64::from(*lane));
    (0..lanes).max_by_key(weight).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lane_of_a_filter_is_always_the_same() {
        // Written down: another answer would strand what the broker holds for the lane of before.
        let lanes: Vec<u16> = ["plants/+/temperature", "plants/+/pressure", "a/#", "b/#", "c/#"]
            .map(|filter| lane_of(filter, 8))
            .into();
        assert_eq!(lanes, [6, 1, 4, 1, 6]);
    }

    #[test]
    fn filters_are_spread_evenly() {
        let mut counts = [0_u32; 8];
        for n in 0..8_000 {
            counts[usize::from(lane_of(&format!("plants/{n}/+"), 8))] += 1;
        }
        assert!(counts.iter().all(|n| (850..1_150).contains(n)), "{counts:?}");
    }

    #[test]
    fn one_lane_more_moves_filters_to_itself_only() {
        for n in 0..1_000 {
            let filter = format!("plants/{n}/+");
            let (before, after) = (lane_of(&filter, 8), lane_of(&filter, 9));
            assert!(after == before || after == 8, "{filter}: {before} to {after}");
        }
    }
}

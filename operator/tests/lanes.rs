//! The protocol by which lanes change their workers, both sides of it, in any order of events: what the operator decides
//! (`plan::lanes`) and what a worker makes of it (`Heard`), between a broker that allows one connection for each client id,
//! a StatefulSet, nodes that are lost, and news that is late.
//!
//! Each bug that is planted must be found: a model that finds none shows nothing.

mod random;
mod world;

use world::{Bug, World};

/// Interleavings; each has its number as its seed.
const RUNS: u64 = 10_000;

#[test]
fn in_any_order_of_events_every_lane_is_read_by_one_worker_in_the_end() {
    let mut seen = world::Counts::default();
    for seed in 0..RUNS {
        let mut world = World::new(seed, None);
        if let Err(error) = world.run() {
            panic!("seed {seed}: {error}\n{}", world.story());
        }
        seen.add(world.counts());
    }
    println!("{RUNS} interleavings: {seen:?}");
    // Nothing that is meant to happen is missing.
    assert!(seen.is_complete(), "{seen:?}");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in Bug::ALL {
        let found = (0..RUNS).find(|seed| World::new(*seed, Some(bug)).run().is_err());
        println!("{bug:?}: seed {found:?}");
        assert!(found.is_some(), "{bug:?} is not found");
    }
}

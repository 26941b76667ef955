//! A broker, a lane and a Kafka, simulated in steps of a quarter of a millisecond, as often as a busy lane has a turn.

use std::collections::VecDeque;

use super::*;

const STEP: f64 = 0.25;
const SECONDS: f64 = 31.0;

/// When messages are published, how the broker, the network and Kafka deal with them. Times are in milliseconds.
struct World {
    /// The next message comes after so long.
    gap: Box<dyn FnMut(&mut Chance) -> f64>,
    /// The broker holds messages back at so many.
    limit: Option<u64>,
    receive_maximum: Option<u64>,
    round_trip: f64,
    linger: f64,
    /// The least and the most that Kafka takes for a batch.
    latency: (f64, f64),
    /// Whose batches are confirmed on their own.
    partitions: usize,
    /// The lane holds at most so many, and reads no more then.
    room: u64,
    /// What acks make room for: as many as there are, or as many as wait.
    overruns: bool,
}

/// Chance that is the same in every run.
struct Chance(u64);

impl Chance {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

impl Default for World {
    fn default() -> Self {
        Self {
            gap: Box::new(|_| 0.5),
            limit: None,
            receive_maximum: Some(10_000),
            round_trip: 0.5,
            linger: 5.0,
            latency: (40.0, 60.0),
            partitions: 1,
            room: u64::MAX,
            overruns: false,
        }
    }
}

/// So many messages per second, each as long after the one before.
fn metronome(per_second: f64) -> Box<dyn FnMut(&mut Chance) -> f64> {
    Box::new(move |_| 1e3 / per_second)
}

/// So many per second, each at a moment of its own.
fn poisson(per_second: f64) -> Box<dyn FnMut(&mut Chance) -> f64> {
    Box::new(move |chance| -chance.next().ln() * 1e3 / per_second)
}

/// So many at once, every so many milliseconds.
fn bursts(messages: u64, every: f64) -> Box<dyn FnMut(&mut Chance) -> f64> {
    let mut n = 0;
    Box::new(move |_| {
        n += 1;
        if n % messages == 0 { every } else { 0.0 }
    })
}

impl World {
    /// What the periods show.
    fn shown(mut self) -> Vec<Option<Full>> {
        let start = Instant::now();
        let at = |ms: f64| start + Duration::from_micros((ms * 1e3) as u64);
        let turn = |ms, outstanding, released, reads| Turn {
            at: at(ms),
            outstanding,
            released,
            written: 0,
            reads,
            held: None,
        };
        let round_trip = Duration::from_micros((self.round_trip * 1e3) as u64);
        let mut window = Window::new(self.receive_maximum, round_trip, turn(0.0, 0, 0, true));
        let mut chance = Chance(7);
        let (mut now, mut next, mut shown) = (0.0, 0.0, Vec::new());
        let (mut queued, mut at_broker) = (0_u64, 0_u64);
        // On their way: when they arrive.
        let (mut messages, mut acks) = (VecDeque::new(), VecDeque::new());
        // In receive order: when Kafka has each.
        let mut ring = VecDeque::new();
        let (mut received, mut released) = (0_u64, 0_u64);
        // Of each partition: when the batch that is open closes, and when Kafka has it.
        let mut batches = vec![(0.0, 0.0); self.partitions];
        while now < SECONDS * 1e3 {
            while next <= now {
                queued += 1;
                next += (self.gap)(&mut chance);
            }
            let mut acked = false;
            while acks.front().is_some_and(|at| *at <= now) {
                acks.pop_front();
                at_broker -= 1;
                acked = true;
            }
            let is_open = |at_broker| self.limit.is_none_or(|limit| at_broker < limit);
            while queued > 0 && (is_open(at_broker) || (acked && self.overruns)) {
                queued -= 1;
                at_broker += 1;
                messages.push_back(now + self.round_trip / 2.0);
            }
            while ring.front().is_some_and(|done| *done <= now) {
                ring.pop_front();
                released += 1;
                acks.push_back(now + self.round_trip / 2.0);
            }
            let reads = (ring.len() as u64) < self.room;
            while (ring.len() as u64) < self.room && messages.front().is_some_and(|at| *at <= now) {
                messages.pop_front();
                received += 1;
                let (close, done) = &mut batches[received as usize % self.partitions];
                if *close < now || self.linger == 0.0 {
                    let (least, most) = self.latency;
                    *close = now + self.linger;
                    // Batches of a partition are confirmed in their order.
                    *done = f64::max(*done, *close + least + (most - least) * chance.next());
                }
                ring.push_back(*done);
            }
            let seen = window.turn(turn(now, ring.len() as u64, released, reads));
            shown.extend(seen.map(|period| period.shown));
            now += STEP;
        }
        assert!(!shown.is_empty());
        shown
    }

    #[track_caller]
    fn assert_limited(self, at: u64) -> Vec<Option<Full>> {
        let shown = self.shown();
        // In the first one the window may fill only.
        for full in &shown[1..] {
            assert_eq!(full.map(|full| full.messages), Some(at), "{shown:?}");
        }
        shown
    }

    #[track_caller]
    fn assert_not_limited(self, what: &str) {
        let shown = self.shown();
        assert!(shown.iter().all(Option::is_none), "{what}: {shown:?}");
    }
}

#[test]
fn a_limit_that_the_broker_does_not_announce_is_found() {
    for limit in [8, 20, 32, 100] {
        for receive_maximum in [None, Some(10_000)] {
            World {
                gap: metronome(10_000.0),
                limit: Some(limit),
                receive_maximum,
                ..World::default()
            }
            .assert_limited(limit);
        }
    }
}

#[test]
fn it_is_found_whatever_publishers_kafka_and_the_network_are_like() {
    let limited = |gap, linger, latency, round_trip, partitions| {
        World {
            gap,
            limit: Some(20),
            linger,
            latency,
            round_trip,
            partitions,
            ..World::default()
        }
        .assert_limited(20);
    };
    limited(poisson(1_000.0), 5.0, (40.0, 60.0), 0.5, 1);
    limited(bursts(50, 100.0), 5.0, (40.0, 60.0), 0.5, 1);
    limited(metronome(4_000.0), 5.0, (2.0, 10.0), 0.5, 1);
    limited(metronome(4_000.0), 0.0, (20.0, 30.0), 0.5, 1);
    limited(metronome(2_000.0), 5.0, (20.0, 200.0), 0.5, 1);
    limited(metronome(2_000.0), 5.0, (90.0, 110.0), 20.0, 1);
    limited(metronome(2_000.0), 5.0, (30.0, 60.0), 0.5, 3);
    limited(metronome(500.0), 5.0, (900.0, 1_100.0), 0.5, 1);
}

#[test]
fn what_was_asked_for_is_a_limit_when_it_is_reached() {
    for most in [1, 20, 1_000] {
        let shown = World {
            gap: metronome(40_000.0),
            limit: Some(most),
            receive_maximum: Some(most),
            ..World::default()
        }
        .assert_limited(most);
        assert!(
            shown
                .iter()
                .flatten()
                .all(|full| full.receive_maximum == Some(most))
        );
    }
}

/// Little's law, which is what the figure in the message is for.
#[test]
fn the_rate_is_the_window_by_the_time_to_the_ack() {
    let shown = World {
        gap: metronome(10_000.0),
        limit: Some(20),
        linger: 5.0,
        latency: (45.0, 45.0),
        ..World::default()
    }
    .assert_limited(20);
    let rate = shown[1].unwrap().per_second;
    assert!((370.0..400.0).contains(&rate), "20 / 51 ms: {rate}");
}

#[test]
fn a_metronome_is_not_limited() {
    for per_second in [200.0, 1_000.0, 1_024.0, 5_000.0] {
        for latency in [1.0, 5.0, 8.0, 9.9, 20.0, 50.0, 200.0] {
            for linger in [0.0, 5.0] {
                for jitter in [0.0, 0.2] {
                    World {
                        gap: metronome(per_second),
                        linger,
                        latency: (latency, latency * (1.0 + jitter)),
                        ..World::default()
                    }
                    .assert_not_limited(&format!("{per_second}/s, {latency} ms, {linger} ms, {jitter}"));
                }
            }
        }
    }
}

#[test]
fn random_messages_are_not_limited() {
    for per_second in [50.0, 100.0, 1_000.0, 10_000.0] {
        for latency in [2.0, 20.0, 200.0] {
            World {
                gap: poisson(per_second),
                latency: (latency, latency * 1.2),
                ..World::default()
            }
            .assert_not_limited(&format!("{per_second}/s, {latency} ms"));
        }
    }
}

/// Even if they are as large as a limit that the broker was asked to keep to.
#[test]
fn bursts_of_the_size_of_a_limit_are_not_limited() {
    for receive_maximum in [None, Some(20), Some(10_000)] {
        for latency in [
            (2.0, 4.0),
            (20.0, 20.0),
            (55.0, 65.0),
            (70.0, 90.0),
            (150.0, 170.0),
        ] {
            World {
                gap: bursts(20, 100.0),
                receive_maximum,
                latency,
                ..World::default()
            }
            .assert_not_limited(&format!("{receive_maximum:?}, {latency:?}"));
        }
    }
}

/// A limit that is in the way for a part of the time only.
#[test]
fn bursts_that_a_limit_spreads_are_not_limited() {
    for receive_maximum in [None, Some(20), Some(10_000)] {
        World {
            gap: bursts(200, 1_000.0),
            limit: Some(20),
            receive_maximum,
            latency: (25.0, 30.0),
            ..World::default()
        }
        .assert_not_limited(&format!("{receive_maximum:?}"));
    }
}

#[test]
fn a_limit_as_small_as_chance_makes_them_is_not_found() {
    World {
        gap: metronome(1_000.0),
        limit: Some(5),
        ..World::default()
    }
    .assert_not_limited("5");
}

/// As mosquitto until 2.0.12: each ack lets everything go that waits. Nothing is slowed down by it.
#[test]
fn a_broker_that_overruns_its_limit_holds_nothing_back_for_long() {
    for receive_maximum in [Some(20), Some(10_000)] {
        for most in [50.3, 50.6, 51.0, 52.0, 60.0] {
            for gap in [poisson(1_000.0), metronome(1_000.0)] {
                World {
                    gap,
                    limit: Some(20),
                    receive_maximum,
                    latency: (50.0, most),
                    overruns: true,
                    ..World::default()
                }
                .assert_not_limited(&format!("{receive_maximum:?}, {most} ms"));
            }
        }
    }
}

/// The lane stops reading at the same number again and again: its own buffer is full.
#[test]
fn a_lane_that_does_not_read_is_not_limited_by_the_broker() {
    World {
        gap: metronome(10_000.0),
        room: 50,
        ..World::default()
    }
    .assert_not_limited("its own room");
}

#[test]
fn a_window_that_is_hardly_used_is_no_limit() {
    World {
        gap: metronome(100.0),
        limit: Some(20),
        ..World::default()
    }
    .assert_not_limited("100/s");
}

/// The whole window waits, for as long as nothing is confirmed at all: that is said otherwise.
#[test]
fn a_kafka_that_confirms_hardly_anything_is_not_a_window_that_limits() {
    for latency in [12_000.0, 60_000.0] {
        World {
            gap: metronome(40_000.0),
            limit: Some(20),
            receive_maximum: Some(20),
            latency: (latency, latency),
            ..World::default()
        }
        .assert_not_limited(&format!("{latency} ms"));
    }
}

//! Whether a lane is held because Kafka confirms slower than MQTT delivers.

use std::time::{Duration, Instant};

use super::Turn;
use super::lasting::{Limit, Period};

/// It is judged over so much time.
const PERIOD: Duration = Duration::from_secs(5);

/// What a lane holds for Kafka when it takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Its share of the bytes that a worker may have in its producer.
    Bytes,
    /// As many messages as a lane may hold.
    Messages(usize),
}

impl Limit for Held {
    fn is_same(&self, other: &Self) -> bool {
        self == other
    }
}

/// The time in which a lane holds as much as it may.
#[derive(Debug)]
pub(crate) struct Buffer {
    since: Instant,
    written: u64,
    held_for: Duration,
    /// After the last turn.
    at: Instant,
    held: Option<Held>,
}

impl Buffer {
    pub(super) fn new(before: Turn) -> Self {
        Self {
            since: before.at,
            written: before.written,
            held_for: Duration::ZERO,
            at: before.at,
            held: None,
        }
    }

    /// Takes a turn; returns what a period has shown that ends with it. A Kafka that confirms nothing at all is not slow
    /// but away, or a partition of it is, and that is said otherwise.
    pub(super) fn turn(&mut self, turn: Turn) -> Option<Period<Held>> {
        if self.held.is_some() {
            self.held_for += turn.at - self.at;
        }
        self.at = turn.at;
        let held = std::mem::replace(&mut self.held, turn.held).or(turn.held);
        let (from, until) = (self.since, turn.at);
        if until - from < PERIOD {
            return None;
        }
        let is_slow = self.held_for * 2 >= until - from && turn.written > self.written;
        self.since = until;
        self.written = turn.written;
        self.held_for = Duration::ZERO;
        Some(Period {
            from,
            until,
            shown: held.filter(|_| is_slow),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What periods show of a lane that is held for so many of each 100 ms, while Kafka confirms so many records in
    /// them.
    fn shown(held_ms: u64, written: u64) -> Vec<Option<Held>> {
        let start = Instant::now();
        let turn = |ms, written, held: bool| Turn {
            at: start + Duration::from_millis(ms),
            outstanding: 0,
            released: 0,
            written,
            reads: true,
            held: held.then_some(Held::Bytes),
        };
        let mut buffer = Buffer::new(turn(0, 0, false));
        let mut shown = Vec::new();
        for n in 0..200 {
            for (ms, held) in [(0, held_ms > 0), (held_ms, held_ms == 100)] {
                let turn = turn(100 * n + ms, written * n, held);
                shown.extend(buffer.turn(turn).map(|period| period.shown));
            }
        }
        assert!(shown.len() >= 3);
        shown
    }

    #[test]
    fn a_lane_that_is_held_most_of_the_time_is_limited_by_kafka() {
        assert!(shown(70, 10).iter().all(|shown| *shown == Some(Held::Bytes)));
        assert!(shown(100, 1).iter().all(|shown| *shown == Some(Held::Bytes)));
        assert!(shown(30, 10).iter().all(Option::is_none));
    }

    #[test]
    fn a_kafka_that_confirms_nothing_is_not_slow() {
        assert!(shown(100, 0).iter().all(Option::is_none));
    }
}

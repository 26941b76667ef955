//! Whether the broker holds messages back because as many as it allows are unacknowledged.
//!
//! A limit that was asked for (Receive Maximum) is known. One that a broker has beside it, such as `max_inflight` of EMQX
//! and `max_inflight_messages` of mosquitto in MQTT 3.1.1, is announced nowhere: it shows in how messages come. What is
//! unacknowledged climbs to the same number again and again and never above, then nothing comes, for much longer than
//! between other messages, until acks leave; and then the next message comes at once. A steady publisher leaves no such
//! pauses, random ones reach no number again and again, and bursts do not wait for acks.

use std::time::{Duration, Instant};

use super::Turn;
use super::lasting::{Limit, Period};

/// It is judged over so much time,
const PERIOD: Duration = Duration::from_secs(5);
/// or over as much as it takes for so many runs of acks,
const LEAST_RUNS: u32 = 4;
/// but over no more than this.
const LONGEST: Duration = Duration::from_secs(30);
/// A limit that is not announced and smaller than this is not told from chance.
const LEAST_LIMIT: u64 = 8;
/// What comes after acks within two round trips and this has waited for them: the broker, and the thread of the lane, may
/// have something else to do first.
const AT_ONCE: Duration = Duration::from_millis(5);

/// A window that is full.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Full {
    /// So many messages are unacknowledged then.
    pub(crate) messages: u64,
    /// What the broker was asked to keep to; nothing in MQTT 3.1.1.
    pub(crate) receive_maximum: Option<u64>,
    /// Messages per second that come all the same.
    pub(crate) per_second: f64,
}

impl Limit for Full {
    fn is_same(&self, other: &Self) -> bool {
        self.messages == other.messages && self.receive_maximum == other.receive_maximum
    }
}

/// What the turns of a connection show of its window.
#[derive(Debug)]
pub(super) struct Window {
    receive_maximum: Option<u64>,
    at_once: Duration,
    /// After the last turn.
    at: Instant,
    outstanding: u64,
    released: u64,
    is_full: bool,
    /// Since when nothing has come, though the lane reads.
    silent_since: Option<Instant>,
    /// Acks have left since.
    run: Option<Run>,
    seen: Seen,
}

/// Acks that leave before anything else comes.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// What was unacknowledged before.
    peak: u64,
    /// For how long nothing had come.
    stood: Duration,
    /// When the last of them left.
    last: Instant,
}

/// What a period has shown so far.
#[derive(Debug)]
struct Seen {
    since: Instant,
    received: u64,
    runs: u32,
    /// Those after which the next message came at once.
    prompt: u32,
    /// The highest peak, and those prompt runs that had it.
    top: u64,
    at_top: u32,
    /// For how long nothing came before those.
    stood: Duration,
    /// For how long the window was as full as was asked for, or nearly.
    full: Duration,
}

impl Window {
    pub(super) fn new(receive_maximum: Option<u64>, round_trip: Duration, before: Turn) -> Self {
        Self {
            receive_maximum,
            at_once: 2 * round_trip + AT_ONCE,
            at: before.at,
            outstanding: before.outstanding,
            released: before.released,
            is_full: false,
            silent_since: None,
            run: None,
            seen: Seen::since(before.at),
        }
    }

    /// Takes a turn; returns what a period has shown that ends with it.
    pub(super) fn turn(&mut self, turn: Turn) -> Option<Period<Full>> {
        let released = turn.released - self.released;
        let received = (turn.outstanding + released).saturating_sub(self.outstanding);
        if self.is_full {
            self.seen.full += turn.at - self.at;
        }
        if released > 0 {
            let run = self.run.get_or_insert(Run {
                peak: self.outstanding,
                stood: self.silent_since.map_or(Duration::ZERO, |since| turn.at - since),
                last: turn.at,
            });
            run.last = turn.at;
        }
        if received > 0 {
            if let Some(run) = self.run.take() {
                let is_prompt = turn.at - run.last <= self.at_once;
                self.seen.run(run, is_prompt);
            }
            self.seen.received += received;
            self.silent_since = None;
        }
        // A lane that does not read is not told by that.
        if turn.reads && received == 0 {
            self.silent_since.get_or_insert(turn.at);
        }
        self.at = turn.at;
        self.outstanding = turn.outstanding;
        self.released = turn.released;
        self.is_full = turn.reads
            && self
                .receive_maximum
                .is_some_and(|most| turn.outstanding >= most - most / 10);
        self.end_period()
    }

    fn end_period(&mut self) -> Option<Period<Full>> {
        let (from, until) = (self.seen.since, self.at);
        let lasted = until - from;
        if lasted < PERIOD || (self.seen.runs < LEAST_RUNS && lasted < LONGEST) {
            return None;
        }
        let seen = std::mem::replace(&mut self.seen, Seen::since(until));
        let limit = seen.limit(lasted, self.receive_maximum);
        Some(Period {
            from,
            until,
            shown: limit.map(|messages| Full {
                messages,
                receive_maximum: self.receive_maximum,
                per_second: seen.received as f64 / lasted.as_secs_f64(),
            }),
        })
    }
}

impl Seen {
    fn since(at: Instant) -> Self {
        Self {
            since: at,
            received: 0,
            runs: 0,
            prompt: 0,
            top: 0,
            at_top: 0,
            stood: Duration::ZERO,
            full: Duration::ZERO,
        }
    }

    fn run(&mut self, run: Run, is_prompt: bool) {
        self.runs += 1;
        self.prompt += u32::from(is_prompt);
        if run.peak > self.top {
            (self.top, self.at_top, self.stood) = (run.peak, 0, Duration::ZERO);
        }
        if run.peak == self.top && is_prompt {
            self.at_top += 1;
            self.stood += run.stood;
        }
    }

    /// How many unacknowledged messages the broker holds the others back at, if it does.
    fn limit(&self, lasted: Duration, receive_maximum: Option<u64>) -> Option<u64> {
        let nearly_all = |runs: u32| runs * 5 >= self.runs * 4;
        if self.runs < LEAST_RUNS {
            return None;
        }
        // A broker that goes above what it was asked for holds nothing back.
        if receive_maximum == Some(self.top) {
            let is_full = self.full * 2 >= lasted && nearly_all(self.prompt);
            return is_full.then_some(self.top);
        }
        let is_possible = self.top >= LEAST_LIMIT && receive_maximum.is_none_or(|most| self.top < most);
        // Between messages of a steady publisher, and in the mean between random ones, passes just one spacing.
        let spacing = lasted.as_secs_f64() / self.received.max(1) as f64;
        let stands =
            self.stood * 2 >= lasted && self.stood.as_secs_f64() >= 2.0 * spacing * f64::from(self.at_top);
        (is_possible && nearly_all(self.at_top) && stands).then_some(self.top)
    }
}

#[cfg(test)]
mod tests;

//! A number over the last minute. Pure: the caller brings the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back it is remembered.
const SPAN: Duration = Duration::from_secs(60);
/// A rate over less says little.
const LEAST: Duration = Duration::from_secs(15);
/// Growth is judged over so much at least.
const GROWTH: Duration = Duration::from_secs(50);

/// A number over the last minute.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    points: VecDeque<(Instant, u64)>,
}

impl History {
    pub(super) fn add(&mut self, at: Instant, value: u64) {
        // One older than the span stays, so that the span is covered.
        while self.points.get(1).is_some_and(|(second, _)| at - *second >= SPAN) {
            self.points.pop_front();
        }
        self.points.push_back((at, value));
    }

    /// How much it grows per second. `None` as long as too little is known.
    pub(super) fn per_second(&self) -> Option<f64> {
        let ((first, from), (last, to)) = (self.points.front()?, self.points.back()?);
        let span = *last - *first;
        // A topic that was made anew begins at 0 again.
        let grown = to.saturating_sub(*from) as f64;
        (span >= LEAST).then(|| grown / span.as_secs_f64())
    }

    /// Whether it has grown in each third of the last minute.
    pub(super) fn grows(&self) -> bool {
        let (Some((first, _)), Some((last, _))) = (self.points.front(), self.points.back()) else {
            return false;
        };
        let span = *last - *first;
        if span < GROWTH {
            return false;
        }
        let at = |part: u32| {
            let moment = *first + span * part / 3;
            let point = self.points.iter().rev().find(|(at, _)| *at <= moment);
            point.map(|(_, value)| *value)
        };
        at(0) < at(1) && at(1) < at(2) && at(2) < at(3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: &[(u64, u64)]) -> History {
        let start = Instant::now();
        let mut history = History::default();
        for (second, value) in values {
            history.add(start + Duration::from_secs(*second), *value);
        }
        history
    }

    #[test]
    fn a_rate_is_that_of_the_last_minute() {
        assert_eq!(history(&[(0, 0), (10, 1_000)]).per_second(), None, "too short");
        assert_eq!(
            history(&[(0, 0), (10, 1_000), (20, 2_000)]).per_second(),
            Some(100.0)
        );
        let steps: Vec<_> = (0..=20)
            .map(|step| (10 * step, if step < 10 { 0 } else { 500 * (step - 10) }))
            .collect();
        assert_eq!(history(&steps).per_second(), Some(50.0));
        assert_eq!(
            history(&[(0, 900), (30, 10)]).per_second(),
            Some(0.0),
            "made anew"
        );
    }

    #[test]
    fn growth_is_growth_all_the_time() {
        let every_ten =
            |values: &[u64]| -> Vec<(u64, u64)> { (0..).step_by(10).zip(values.iter().copied()).collect() };
        assert!(history(&every_ten(&[1, 2, 3, 4, 5, 6, 7])).grows());
        assert!(!history(&every_ten(&[1, 2, 3, 4, 5])).grows(), "too short");
        assert!(!history(&every_ten(&[1, 9, 9, 9, 9, 9, 9])).grows(), "one burst");
        assert!(
            !history(&every_ten(&[1, 5, 9, 9, 8, 3, 10])).grows(),
            "it has caught up in between"
        );
        assert!(!history(&every_ten(&[5, 5, 5, 5, 5, 5, 5])).grows());
    }
}

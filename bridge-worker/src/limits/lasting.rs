//! Something that is said when it has lasted, and taken back when it has been away.

use std::time::{Duration, Instant};

/// It has to be there for so long, and in two periods at least, before it is said.
const LASTS: Duration = Duration::from_secs(10);
/// It has to be away for so long before it is taken back.
const AWAY: Duration = Duration::from_secs(15);

/// What a period of several seconds has shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Period<T> {
    pub(crate) from: Instant,
    pub(crate) until: Instant,
    pub(crate) shown: Option<T>,
}

/// A limit, with figures that may move while it stays the same.
pub(crate) trait Limit: Copy {
    /// Whether it is the same.
    fn is_same(&self, other: &Self) -> bool;
}

/// Something that is said when it has lasted, and taken back when it has been away. Its figures are those of when it
/// began, so that what is said does not change all the time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lasting<T> {
    /// What the last periods have shown in a row, and since when.
    row: Option<(T, Instant)>,
    /// What is said, and when it was last there.
    said: Option<(T, Instant)>,
}

impl<T> Default for Lasting<T> {
    fn default() -> Self {
        Self {
            row: None,
            said: None,
        }
    }
}

impl<T: Limit> Lasting<T> {
    /// Takes what the next period has shown.
    pub(super) fn take(&mut self, period: Period<T>) {
        let Some(shown) = period.shown else {
            self.row = None;
            return;
        };
        let before = self.row.filter(|(before, _)| before.is_same(&shown));
        let since = before.map_or(period.from, |(_, since)| since);
        self.row = Some((shown, since));
        if let Some((said, seen)) = &mut self.said
            && said.is_same(&shown)
            && period.until - *seen < AWAY
        {
            *seen = period.until;
        } else if before.is_some() && period.until - since >= LASTS {
            self.said = Some((shown, period.until));
        }
    }

    /// What comes next does not follow what has been.
    pub(super) fn interrupt(&mut self) {
        self.row = None;
    }

    /// What is said at this time.
    pub(crate) fn said(&self, now: Instant) -> Option<T> {
        let (said, seen) = self.said?;
        (now.saturating_duration_since(seen) < AWAY).then_some(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Twenty(u64);

    impl Limit for Twenty {
        fn is_same(&self, _: &Self) -> bool {
            true
        }
    }

    const FIVE: Duration = Duration::from_secs(5);

    #[test]
    fn it_is_said_after_ten_seconds_and_taken_back_after_fifteen_without() {
        let start = Instant::now();
        let mut lasting = Lasting::default();
        let mut at = start;
        let mut period = |lasting: &mut Lasting<Twenty>, shown| {
            let (from, until) = (at, at + FIVE);
            at = until;
            lasting.take(Period { from, until, shown });
            lasting.said(until)
        };
        assert_eq!(period(&mut lasting, Some(Twenty(400))), None);
        assert_eq!(period(&mut lasting, None), None);
        assert_eq!(period(&mut lasting, Some(Twenty(400))), None);
        assert_eq!(period(&mut lasting, Some(Twenty(500))), Some(Twenty(500)));
        assert_eq!(
            period(&mut lasting, Some(Twenty(300))),
            Some(Twenty(500)),
            "as it began"
        );
        assert_eq!(period(&mut lasting, None), Some(Twenty(500)));
        assert_eq!(
            period(&mut lasting, Some(Twenty(300))),
            Some(Twenty(500)),
            "no flapping"
        );
        assert_eq!(period(&mut lasting, None), Some(Twenty(500)));
        assert_eq!(period(&mut lasting, None), Some(Twenty(500)));
        assert_eq!(period(&mut lasting, None), None);
        assert_eq!(period(&mut lasting, Some(Twenty(300))), None, "it begins anew");
    }

    /// Of a lane that does nothing any more nothing more is heard.
    #[test]
    fn time_alone_takes_it_back() {
        let start = Instant::now();
        let mut lasting = Lasting::default();
        for n in 0..3 {
            lasting.take(Period {
                from: start + n * FIVE,
                until: start + (n + 1) * FIVE,
                shown: Some(Twenty(1)),
            });
        }
        assert_eq!(lasting.said(start + 5 * FIVE), Some(Twenty(1)));
        assert_eq!(lasting.said(start + 6 * FIVE), None);
    }

    /// One long period may be an outage of Kafka, in which a window is full too.
    #[test]
    fn one_period_is_not_enough() {
        let start = Instant::now();
        let mut lasting = Lasting::default();
        let until = start + 6 * FIVE;
        lasting.take(Period {
            from: start,
            until,
            shown: Some(Twenty(1)),
        });
        assert_eq!(lasting.said(until), None);
    }
}

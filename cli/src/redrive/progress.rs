//! How far the letters of one reason have been redriven in a partition: all before an offset, but for some that were passed
//! over. Pure.

use std::collections::BTreeSet;
use std::fmt;

use anyhow::{Context as _, bail};

/// As much as Kafka keeps beside an offset (`offset.metadata.max.bytes`), in bytes.
const MOST: usize = 4096;

/// Which letters of a partition have been redriven.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// All before this offset have been looked at.
    pub(super) next: i64,
    /// Those of them that were passed over.
    passed_over: BTreeSet<i64>,
}

impl Progress {
    /// What was kept with an offset.
    ///
    /// # Errors
    /// When it is not what [`Progress::kept`] makes.
    pub(super) fn of(next: i64, kept: &str) -> anyhow::Result<Self> {
        let mut passed_over = BTreeSet::new();
        for range in kept.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                text.parse::<i64>()
                    .with_context(|| format!("{kept:?} is no list of offsets"))
            };
            passed_over.extend(number(first)?..=number(last)?);
        }
        Ok(Self { next, passed_over })
    }

    /// Whether a letter is still to be redriven.
    pub(super) fn is_due(&self, offset: i64) -> bool {
        offset >= self.next || self.passed_over.contains(&offset)
    }

    /// A letter was delivered, or passed over.
    pub(super) fn add(&mut self, offset: i64, passed_over: bool) {
        if passed_over {
            self.passed_over.insert(offset);
        } else {
            self.passed_over.remove(&offset);
        }
        self.next = self.next.max(offset + 1);
    }

    /// What is kept with the offset.
    ///
    /// # Errors
    /// When that is more than Kafka keeps.
    pub(super) fn kept(&self) -> anyhow::Result<String> {
        let kept = self.to_string();
        if kept.len() > MOST {
            bail!(
                "{} letters that still fail are passed over, more than can be kept track of: correct the route for some of \
                 them first, or choose with --reason",
                self.passed_over.len()
            );
        }
        Ok(kept)
    }
}

impl fmt::Display for Progress {
    /// Offsets and ranges of them: `3,7-9`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut offsets = self.passed_over.iter().copied().peekable();
        let mut separator = "";
        while let Some(first) = offsets.next() {
            let mut last = first;
            while let Some(next) = offsets.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{separator}{first}")?,
                false => write!(f, "{separator}{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_passed_over_is_due_again_and_the_rest_is_not() {
        let mut progress = Progress::default();
        for offset in 0..10 {
            progress.add(offset, [3, 7, 8].contains(&offset));
        }
        let due: Vec<i64> = (0..12).filter(|offset| progress.is_due(*offset)).collect();
        assert_eq!(due, [3, 7, 8, 10, 11]);
        let kept = progress.kept().unwrap();
        assert_eq!(kept, "3,7-8");
        assert_eq!(Progress::of(10, &kept).unwrap(), progress);
        progress.add(7, false);
        assert_eq!(progress.kept().unwrap(), "3,8");
        assert_eq!(progress.next, 10);
    }

    #[test]
    fn more_than_kafka_keeps_is_refused() {
        let mut progress = Progress::default();
        (0..2_000).for_each(|offset| progress.add(2 * offset, true));
        assert!(progress.kept().is_err());
        assert!(Progress::of(0, "3,x").is_err());
    }
}

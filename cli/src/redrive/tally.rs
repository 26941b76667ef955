//! What became, or would become, of letters. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::again::Verdict;
use super::letter::Letter;

/// Counts by reason and outcome.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: BTreeMap<(String, Outcome, String), (u64, String)>,
    letters: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Goes,
    Filtered,
    Expired,
    Fails,
    Lost,
}

impl Tally {
    pub(super) fn add(&mut self, letter: &Letter, verdict: &Verdict) {
        self.letters += 1;
        let (outcome, detail) = match verdict {
            Verdict::Goes(made) => (Outcome::Goes, made.topic.clone()),
            Verdict::Filtered => (Outcome::Filtered, String::new()),
            Verdict::Expired => (Outcome::Expired, String::new()),
            Verdict::Fails { reason, .. } => (Outcome::Fails, (*reason).to_owned()),
            Verdict::Lost(why) => (Outcome::Lost, why.clone()),
        };
        let first = || format!("[{}]@{}: {verdict}", letter.partition, letter.offset);
        let count = self
            .counts
            .entry((letter.reason().to_owned(), outcome, detail))
            .or_insert_with(|| (0, first()));
        count.0 += 1;
    }

    pub(super) fn letters(&self) -> u64 {
        self.letters
    }

    /// Whether nothing is left to be done.
    pub(super) fn all_pass(&self) -> bool {
        let mut outcomes = self.counts.keys().map(|(_, outcome, _)| outcome);
        outcomes.all(|outcome| matches!(outcome, Outcome::Goes | Outcome::Filtered | Outcome::Expired))
    }

    pub(super) fn text(&self, executed: bool) -> String {
        let mut text = String::new();
        for ((reason, outcome, detail), (count, first)) in &self.counts {
            let what = match (outcome, executed) {
                (Outcome::Goes, true) => format!("delivered to {detail}"),
                (Outcome::Goes, false) => format!("would go to {detail}"),
                (Outcome::Filtered, _) => "filtered by spec.when".to_owned(),
                (Outcome::Expired, _) => "older than spec.to.mqtt.messageExpiryInterval".to_owned(),
                (Outcome::Fails, _) => format!("still failing with {detail}; the first is {first}"),
                (Outcome::Lost, _) => format!("lost: {detail}; the first is {first}"),
            };
            // Writing to a String cannot fail.
            writeln!(text, "{reason}: {count} {what}").ok();
        }
        let end = match (self.letters, executed) {
            (0, _) => "no dead letters to redrive",
            (_, true) => "",
            (_, false) => "nothing was delivered: add --execute to do it",
        };
        if !end.is_empty() {
            text.push_str(end);
            text.push('\n');
        }
        text
    }
}

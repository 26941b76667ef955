use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Reason;

/// As many bytes as a condition's message may have.
const MAX_MESSAGE: usize = 4096;

/// The conditions of an object as they are built: each keeps the time of its last transition, and all are stamped with
/// the generation in one place.
#[derive(Debug)]
pub struct Conditions<'a> {
    old: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    new: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    /// Conditions that follow `old`, about the spec of a generation.
    pub fn new(old: &'a [Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            old,
            generation,
            now,
            new: Vec::new(),
        }
    }

    /// Adds one.
    pub fn set(&mut self, kind: &str, status: Option<bool>, reason: Reason, message: impl Into<String>) {
        self.set_for(self.generation, kind, status, reason, message);
    }

    /// Adds one that is still about the generation it was true of before: the newest is not in force yet. Without a
    /// generation `kubectl wait` would take it for the newest; 0 is none that there is.
    pub fn set_stale(
        &mut self,
        kind: &str,
        status: Option<bool>,
        reason: Reason,
        message: impl Into<String>,
    ) {
        let was = |condition: &Condition| {
            let observed = condition.observed_generation.unwrap_or_default();
            match condition.status.as_str() {
                "True" => observed,
                // It was not true of the newest.
                _ => observed.min(self.generation.unwrap_or_default() - 1).max(0),
            }
        };
        let before = Some(self.before(kind).map_or(0, was));
        self.set_for(before, kind, status, reason, message);
    }

    fn set_for(
        &mut self,
        generation: Option<i64>,
        kind: &str,
        status: Option<bool>,
        reason: Reason,
        message: impl Into<String>,
    ) {
        let status = match status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let since = self.before(kind).filter(|condition| condition.status == status);
        let since = since.map_or(Time(whole_seconds(self.now)), |condition| {
            condition.last_transition_time.clone()
        });
        self.new.push(Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_string(),
            message: shortened(message.into()),
            observed_generation: generation,
            last_transition_time: since,
        });
    }

    /// Leaves one as it was, if it was: there is nothing new to say.
    pub fn keep(&mut self, kind: &str) {
        self.new.extend(self.before(kind).cloned());
    }

    /// Whether there was one of this kind before, true or not.
    pub fn has_been(&self, kind: &str) -> bool {
        self.before(kind).is_some()
    }

    fn before(&self, kind: &str) -> Option<&'a Condition> {
        self.old.iter().find(|condition| condition.type_ == kind)
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Condition> {
        self.new
    }
}

/// The conditions in `new` whose status or reason is another than in `old`: those that a person is told about.
pub fn changes<'n>(old: &[Condition], new: &'n [Condition]) -> Vec<&'n Condition> {
    let is_known = |condition: &Condition| {
        old.iter().any(|one| {
            one.type_ == condition.type_ && one.status == condition.status && one.reason == condition.reason
        })
    };
    new.iter().filter(|condition| !is_known(condition)).collect()
}

fn shortened(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE - 4)
            .rev()
            .find(|end| message.is_char_boundary(*end))
            .unwrap_or_default();
        message.truncate(end);
        message.push_str(" ...");
    }
    message
}

/// The API server keeps seconds: what it gives back is to equal what was sent.
pub(super) fn whole_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let mut first = Conditions::new(&[], Some(1), at(100));
        first.set("Ready", Some(false), Reason::Connecting, "a");
        let first = first.into_vec();
        let mut second = Conditions::new(&first, Some(2), at(200));
        second.set("Ready", Some(false), Reason::BrokerUnreachable, "b");
        let second = second.into_vec();
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!(second[0].observed_generation, Some(2));
        assert_eq!(changes(&first, &second).len(), 1, "the reason is another");
        let mut third = Conditions::new(&second, Some(2), at(300));
        third.set("Ready", Some(true), Reason::Healthy, "c");
        assert_eq!(third.into_vec()[0].last_transition_time.0, at(300));
        assert_eq!(changes(&second, &second).len(), 0);
    }

    #[test]
    fn a_message_is_cut_at_a_character() {
        assert!(shortened("ä".repeat(5000)).len() <= MAX_MESSAGE);
        assert_eq!(shortened("short".into()), "short");
    }
}

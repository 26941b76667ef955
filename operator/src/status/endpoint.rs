use millrace_contract::probe::Report;
use millrace_contract::status::{Problem, Reason as WorkerReason};

use super::{Conditions, Reason};
use crate::plan::probe::{Standing, Verdict};

/// What is known of a broker or a sink from asking it.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The probe.
    pub standing: &'a Standing,
    /// What workers that use it have to say about it: one that works beats any probe.
    pub workers: Workers,
}

/// What workers have to say about a broker or a sink.
#[derive(Clone, Debug, PartialEq)]
pub enum Workers {
    /// None uses it.
    None,
    /// One at least is connected.
    Connected,
    /// All that use it have a problem with it.
    Trouble(Problem),
}

impl Workers {
    /// Of what they say about `reasons`.
    pub fn hear<'p>(answers: impl Iterator<Item = (bool, &'p [Problem])>, reasons: &[WorkerReason]) -> Self {
        let mut heard = Self::None;
        for (connected, problems) in answers {
            match problems.iter().find(|problem| reasons.contains(&problem.reason)) {
                Some(problem) if heard == Self::None => heard = Self::Trouble(problem.clone()),
                Some(_) => {}
                None if connected => return Self::Connected,
                None => {}
            }
        }
        heard
    }
}

impl Asked<'_> {
    /// What the newest probe found, if it found all.
    pub fn report(&self) -> Option<&Report> {
        match self.standing {
            Standing::Passed(report) => Some(report),
            _ => self.failure().map(|verdict| &verdict.report),
        }
    }

    fn failure(&self) -> Option<&Verdict> {
        match self.standing {
            Standing::Failed(verdict) => Some(verdict),
            Standing::Running { last } | Standing::Due { last, .. } => last.as_ref(),
            Standing::Passed(_) => None,
        }
    }

    /// Ready, Reconciling and Stalled of a broker or a sink that is called `what`.
    pub fn conditions(&self, conditions: &mut Conditions<'_>, what: &str) {
        let (ready, reason, message) = match (&self.workers, self.standing, self.failure()) {
            (Workers::Connected, ..) => (
                Some(true),
                Reason::Healthy,
                format!("workers are connected to {what}"),
            ),
            (Workers::Trouble(problem), ..) => (Some(false), problem.reason.into(), problem.message.clone()),
            (_, _, Some(verdict)) => (
                Some(false),
                verdict.failure.reason.into(),
                verdict.failure.message.clone(),
            ),
            (_, Standing::Passed(_), _) => (
                Some(true),
                Reason::Healthy,
                format!("{what} has answered a probe"),
            ),
            _ => (
                Some(false),
                Reason::Probing,
                format!("waiting for the answer of a probe that asks {what}"),
            ),
        };
        conditions.set("Ready", ready, reason, &message);
        match (ready, reason) {
            (_, Reason::Probing) => conditions.set("Reconciling", Some(true), reason, &message),
            _ => conditions.set(
                "Reconciling",
                Some(false),
                Reason::AsAsked,
                "nothing is under way",
            ),
        }
        match (ready, reason) {
            (Some(false), reason) if reason != Reason::Probing => {
                let message = format!("{message}; it is tried again with growing pauses");
                conditions.set("Stalled", Some(true), reason, message);
            }
            _ => conditions.set(
                "Stalled",
                Some(false),
                Reason::Healthy,
                "nothing waits for a change by the user",
            ),
        }
    }
}

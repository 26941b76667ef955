//! What is said of an object in a scenario.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// What is said of an object in a scenario.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// What has happened.
    pub(crate) scenario: &'static str,
    /// The generation of the object.
    pub(crate) generation: i64,
    /// `status.observedGeneration`.
    pub(crate) observed: Option<i64>,
    pub(crate) conditions: Vec<Condition>,
    /// Whether the spec of this generation is what runs, as the scenario knows without asking the operator.
    pub(crate) in_force: bool,
}

impl Said {
    /// A condition.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Whether a condition is True.
    pub(crate) fn is_true(&self, kind: &str) -> bool {
        self.condition(kind)
            .is_some_and(|condition| condition.status == "True")
    }
}

//! What tools read from conditions.

use crate::said::Said;

/// What kstatus says of an object (sigs.k8s.io/cli-utils, pkg/kstatus/status: `checkGenericProperties`, then
/// `checkReadyCondition`), for one that is not being deleted:
///
/// - `status.observedGeneration` is there and not `metadata.generation`: InProgress;
/// - else the first of Reconciling and Stalled in the list that is True decides: InProgress or Failed;
/// - else Ready: True is Current, everything else InProgress;
/// - else, without Ready: Current.
pub(crate) fn kstatus(said: &Said) -> &'static str {
    if said.observed.is_some_and(|observed| observed != said.generation) {
        return "InProgress";
    }
    let decides = said.conditions.iter().find(|condition| {
        matches!(condition.type_.as_str(), "Reconciling" | "Stalled") && condition.status == "True"
    });
    match (
        decides.map(|condition| condition.type_.as_str()),
        said.condition("Ready"),
    ) {
        (Some("Stalled"), _) => "Failed",
        (Some(_), _) => "InProgress",
        (None, Some(ready)) if ready.status != "True" => "InProgress",
        (None, _) => "Current",
    }
}

/// Whether `kubectl wait --for=condition=Ready` goes on waiting: until Ready is True, and of the newest generation. A
/// condition without a generation has that of the status.
pub(crate) fn waits_for_ready(said: &Said) -> bool {
    let observed = said
        .condition("Ready")
        .and_then(|ready| ready.observed_generation)
        .or(said.observed);
    !said.is_true("Ready") || observed.is_some_and(|observed| observed < said.generation)
}

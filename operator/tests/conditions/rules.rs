//! What holds in every scenario.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use millrace_operator::status::Reason;

use crate::kstatus::{kstatus, waits_for_ready};
use crate::said::Said;

/// Words that say what is to be done, or what is waited for.
const WAY_OUT: &[&str] = &[
    "a probe connects to ",
    "add ",
    "are being given to the workers",
    "check ",
    "choose ",
    "correct ",
    "renew ",
    "put ",
    "create ",
    "delete ",
    "expected one of ",
    "follow one by one",
    "grant ",
    "is made",
    "is tried again",
    "known here: ",
    "look at ",
    "look for ",
    "lower ",
    "others are being connected",
    "raise ",
    "remove ",
    "see ",
    "set ",
    "use ",
    "waiting for ",
    "workers are being created",
    "write ",
];

/// The rules that are broken in a scenario.
pub(crate) fn broken(said: &Said) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, rule: &str| {
        if !holds {
            broken.push(format!("{}: {rule}", said.scenario));
        }
    };
    let (reconciling, stalled) = (said.is_true("Reconciling"), said.is_true("Stalled"));
    rule(!(reconciling && stalled), "Reconciling and Stalled are both True");
    let expected = match (reconciling, stalled) {
        (_, true) => "Failed",
        (true, _) => "InProgress",
        _ => "Current",
    };
    rule(
        kstatus(said) == expected,
        "kstatus does not see what Reconciling and Stalled say",
    );
    rule(
        expected != "Current" || !waits_for_ready(said),
        "kstatus is Current, and kubectl wait waits for Ready",
    );
    rule(
        waits_for_ready(said) || said.in_force,
        "Ready is True of a generation that no worker runs",
    );
    let kinds: BTreeSet<&str> = said
        .conditions
        .iter()
        .map(|condition| condition.type_.as_str())
        .collect();
    rule(kinds.len() == said.conditions.len(), "a condition is there twice");
    for kind in ["Accepted", "Ready", "Reconciling", "Stalled"] {
        rule(
            kinds.contains(kind),
            "a condition is missing that every object has",
        );
    }
    for condition in &said.conditions {
        let says = |what: &str| format!("{} {what}: {}", condition.type_, condition.message);
        let known = Reason::ALL
            .iter()
            .any(|(one, _)| one.to_string() == condition.reason);
        rule(known, &says(&format!("has reason {}", condition.reason)));
        let message = &condition.message;
        rule(
            !message.is_empty() && !message.ends_with(['.', ' ', ';', ':']) && !message.contains('\n'),
            &says("is not written as others are"),
        );
        rule(
            !is_bad(condition) || WAY_OUT.iter().any(|words| message.contains(words)),
            &says("does not say what is to be done, or waited for"),
        );
        let is_late = condition.type_ != "Ready" && condition.observed_generation != Some(said.generation);
        rule(!is_late, &says("is not of the newest generation"));
    }
    broken
}

fn is_bad(condition: &Condition) -> bool {
    match condition.type_.as_str() {
        "Reconciling" | "Stalled" | "Warning" | "WindowLimited" | "SinkSaturated" => {
            condition.status != "False"
        }
        _ => condition.status != "True",
    }
}

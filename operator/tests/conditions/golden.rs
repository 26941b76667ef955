//! Golden files: a block for each scenario, a line for each condition.

use std::fmt::Write;

use crate::kstatus::{kstatus, waits_for_ready};
use crate::said::Said;

/// Set to write what is said instead of comparing it.
const UPDATE: &str = "UPDATE";

/// Compares what is said in all scenarios of a kind with its file.
pub(crate) fn compare(kind: &str, all: &[Said]) {
    let path = format!("tests/conditions/{kind}.txt");
    let found: Vec<String> = all.iter().map(block).collect();
    let found = found.join("\n");
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let (mut lines, mut scenario) = (expected.lines(), "");
    for line in found.lines() {
        if line.starts_with("# ") {
            scenario = line;
        }
        let expected = lines.next().unwrap_or_default();
        assert_eq!(
            line, expected,
            "{path}: {scenario}: see what changed, and write it with UPDATE=1"
        );
    }
    assert_eq!(lines.next(), None, "{path}: of a scenario that is no more");
}

fn block(said: &Said) -> String {
    let mut text = format!(
        "# {}\nkstatus {}, generation {}, kubectl wait --for=condition=Ready {}\n",
        said.scenario,
        kstatus(said),
        said.generation,
        if waits_for_ready(said) { "waits" } else { "is done" },
    );
    for condition in &said.conditions {
        let generation = condition
            .observed_generation
            .map_or_else(|| "-".to_owned(), |generation| generation.to_string());
        writeln!(
            text,
            "{:21}{:6}{generation:2}{}: {}",
            condition.type_, condition.status, condition.reason, condition.message
        )
        .unwrap();
    }
    text
}

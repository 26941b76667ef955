//! `millrace demo`: passes when nothing is missing, and would see it if something were.

use std::process::Command;

use serde_json::Value;

/// The exit code and the lines on standard output.
fn demo(args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["demo", "--output", "json"])
        .args(args)
        .output()
        .expect("millrace runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    (output.status.code(), lines)
}

fn last(lines: &[Value], event: &str) -> Value {
    let found = lines.iter().rev().find(|line| line["event"] == event);
    found
        .unwrap_or_else(|| panic!("no {event} in {lines:#?}"))
        .clone()
}

#[test]
fn every_message_published_is_found_in_kafka_or_accounted_for() {
    let (code, lines) = demo(&["--duration", "5s", "--rate", "1500"]);
    let verdict = last(&lines, "verdict");
    assert_eq!(
        (code, &verdict["passed"]),
        (Some(0), &Value::Bool(true)),
        "{verdict:#}"
    );
    assert!(verdict["published"].as_u64() > Some(5_000), "{verdict:#}");

    let ended = last(&lines, "ended");
    assert_eq!(
        (&ended["waiting"], &ended["exitCode"]),
        (&Value::from(0), &Value::from(0))
    );
    for route in verdict["routes"].as_array().expect("routes") {
        let count = |name: &str| route[name].as_u64().expect("a count");
        assert_eq!(
            count("published"),
            count("written") + count("filtered") + count("deadLettered"),
            "{verdict:#}"
        );
        assert_eq!(count("missing"), 0);
    }
    let some = |name: &str| {
        verdict["routes"]
            .as_array()
            .is_some_and(|routes| routes.iter().any(|route| route[name].as_u64() > Some(0)))
    };
    assert!(
        some("written") && some("filtered") && some("deadLettered"),
        "{verdict:#}"
    );
}

#[test]
fn a_lost_message_fails_the_demonstration() {
    let (code, lines) = demo(&["--duration", "2s", "--rate", "500", "--lose-one"]);
    let verdict = last(&lines, "verdict");
    assert_eq!(
        (code, &verdict["passed"]),
        (Some(1), &Value::Bool(false)),
        "{verdict:#}"
    );
    let missing = verdict["routes"]
        .as_array()
        .expect("routes")
        .iter()
        .filter_map(|route| route["missing"].as_u64());
    assert_eq!(missing.sum::<u64>(), 1, "{verdict:#}");
}

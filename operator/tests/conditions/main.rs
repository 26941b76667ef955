//! What the operator says of objects in their conditions, scenario by scenario, against one golden file for each kind.
//! Read a change of those as somebody would at three in the morning: what is wrong, and what is to be done about it?
//!
//! `UPDATE=1 cargo test --release --workspace --test conditions` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod endpoints;
mod golden;
mod kstatus;
mod manifests;
mod pods;
mod route_scenarios;
mod rules;
mod said;
mod watching;
mod worker;
mod world;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use millrace_operator::status::Reason;
use said::Said;
use world::World;

/// How many scenarios there have to be at least.
const LEAST: usize = 35;

static ROUTES: LazyLock<Vec<Said>> = LazyLock::new(route_scenarios::all);
static BROKERS: LazyLock<Vec<Said>> = LazyLock::new(endpoints::brokers);
static SINKS: LazyLock<Vec<Said>> = LazyLock::new(|| [endpoints::sinks(), watching::all()].concat());

fn all() -> impl Iterator<Item = &'static Said> {
    ROUTES.iter().chain(BROKERS.iter()).chain(SINKS.iter())
}

#[test]
fn what_is_said_of_routes_is_as_it_was() {
    golden::compare("topicroute", &ROUTES);
}

#[test]
fn what_is_said_of_brokers_is_as_it_was() {
    golden::compare("mqttbroker", &BROKERS);
}

#[test]
fn what_is_said_of_sinks_is_as_it_was() {
    golden::compare("kafkasink", &SINKS);
}

#[test]
fn every_scenario_keeps_the_rules() {
    let broken: Vec<String> = all().flat_map(rules::broken).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn one_question_without_an_answer_changes_nothing() {
    let before = World::running().said("All works");
    let after = World::running()
        .misses_a_question(1, "no answer within 2 s")
        .said("All works");
    assert_eq!(before.conditions, after.conditions);
}

#[test]
fn every_reason_occurs() {
    let count = all().count();
    assert!(count >= LEAST, "{count} scenarios, at least {LEAST} are wanted");
    let given: BTreeSet<&str> = all()
        .flat_map(|said| &said.conditions)
        .map(|condition| condition.reason.as_str())
        .collect();
    let missing: Vec<&Reason> = Reason::ALL
        .iter()
        .map(|(reason, _)| reason)
        .filter(|reason| !given.contains(reason.to_string().as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "no scenario has {missing:?}: add one, or remove what no condition carries"
    );
}

#[test]
fn every_condition_is_documented() {
    let page = std::fs::read_to_string("../docs/conditions.md").unwrap();
    for said in all() {
        for condition in &said.conditions {
            assert!(
                page.contains(&format!("| `{}` |", condition.type_)),
                "{}",
                condition.type_
            );
        }
    }
}

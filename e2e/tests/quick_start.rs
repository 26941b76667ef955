//! README's quick start, word for word.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

use millrace_e2e::{SYSTEM, kubectl, restrict};

const HEADING: &str = "## In a cluster";

/// What README says to type.
fn commands() -> String {
    let readme = std::fs::read_to_string("../README.md").unwrap();
    let (_, section) = readme.split_once(HEADING).unwrap();
    let (_, block) = section.split_once("```sh\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block.to_owned()
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn the_quick_start_ends_with_the_message_in_kafka() {
    kubectl(&[
        "delete",
        "namespace",
        "plant",
        "--ignore-not-found",
        "--timeout=120s",
    ]);
    // Other than what README says: the operator fits there.
    restrict(SYSTEM);
    let mut shell = Command::new("bash");
    shell
        .args(["-euxo", "pipefail", "-c", &commands()])
        .current_dir("..");
    // What cargo says of this crate to its tests: build scripts look at it, and would have half of the workspace
    // compiled anew, there and afterwards.
    let of_this_crate = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_NAME"];
    for (name, _) in std::env::vars_os() {
        if of_this_crate
            .iter()
            .any(|start| name.to_string_lossy().starts_with(start))
        {
            shell.env_remove(&name);
        }
    }
    let output = shell.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(text.lines().last(), Some("21.5"), "{text}");
    kubectl(&["delete", "namespace", "plant", "--timeout=120s"]);
}

#[test]
fn what_the_quick_start_applies_is_short() {
    let manifests = std::fs::read_to_string("../examples/kubernetes.yaml").unwrap();
    assert!(commands().contains("examples/kubernetes.yaml"));
    assert!(manifests.lines().count() <= 40, "{manifests}");
}

//! What of `cargo deny check` needs nothing but the workspace, so that it is checked wherever the tests are: licences, sources,
//! wildcards, and that no advisory is ignored, by `deny.toml`. `make deny` checks all, also against the database of
//! advisories; the tool takes minutes to compile.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;
use toml::Value;

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    license: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    req: String,
    path: Option<String>,
}

fn deny() -> Value {
    let text = std::fs::read_to_string("../deny.toml").unwrap();
    toml::from_str(&text).unwrap()
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|value| value.as_str().unwrap())
        .collect()
}

/// All that is compiled on a platform that we ship for, with all features and for tests too.
fn packages() -> Vec<Package> {
    let deny = deny();
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--all-features"]);
    for target in strings(&deny["graph"]["targets"]) {
        command.args(["--filter-platform", target]);
    }
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Metadata = serde_json::from_slice(&output.stdout).unwrap();
    assert!(metadata.packages.len() > 200, "{}", metadata.packages.len());
    metadata.packages
}

/// What has no licence that is allowed, with the licence it has.
fn not_allowed<'a>(packages: &'a [Package], allowed: &[&str]) -> BTreeSet<(&'a str, &'a str)> {
    let allowed: Vec<_> = allowed
        .iter()
        .map(|licence| spdx::Licensee::parse(licence).unwrap())
        .collect();
    let is_allowed = |package: &&Package| {
        let Some(licence) = &package.license else {
            return false;
        };
        // The lax mode knows `MIT/Apache-2.0`.
        let licence = spdx::Expression::parse_mode(licence, spdx::ParseMode::LAX).unwrap();
        licence.evaluate(|wanted| allowed.iter().any(|allowed| allowed.satisfies(wanted)))
    };
    let packages = packages.iter().filter(|package| !is_allowed(package));
    packages
        .map(|package| (&*package.name, package.license.as_deref().unwrap_or("none")))
        .collect()
}

#[test]
fn every_dependency_has_a_licence_that_is_allowed() {
    let (packages, deny) = (packages(), deny());
    let allowed = strings(&deny["licenses"]["allow"]);
    assert_eq!(not_allowed(&packages, &allowed), BTreeSet::new());
    // Each is needed by one of them: the list allows no more than what is there.
    for licence in &allowed {
        let others: Vec<_> = allowed.iter().copied().filter(|other| other != licence).collect();
        let needs = packages.iter().any(|package| {
            package
                .license
                .as_ref()
                .is_some_and(|of_package| of_package.contains(*licence))
        });
        assert!(needs, "{licence} is allowed, and no dependency has it");
        if *licence == "ISC" {
            assert!(
                !not_allowed(&packages, &others).is_empty(),
                "the check can see one that is not allowed"
            );
        }
    }
    // There is no way around the list.
    for way in ["exceptions", "clarify", "private"] {
        assert_eq!(deny["licenses"].get(way), None);
    }
}

#[test]
fn every_dependency_comes_from_the_registry_or_from_this_workspace() {
    let known = |source: &Option<String>| {
        source
            .as_deref()
            .is_none_or(|source| source == "registry+https://github.com/rust-lang/crates.io-index")
    };
    let packages = packages();
    let strange = packages.iter().filter(|package| !known(&package.source));
    let strange: Vec<_> = strange.map(|package| (&package.name, &package.source)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(!known(&Some("git+https://example.com/fork".to_owned())));
    let deny = deny();
    for what in ["unknown-registry", "unknown-git"] {
        assert_eq!(deny["sources"][what].as_str(), Some("deny"));
    }
}

#[test]
fn no_dependency_is_of_whatever_version() {
    let packages = packages();
    let dependencies = packages.iter().flat_map(|package| {
        let wild = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.req == "*" && dependency.path.is_none());
        wild.map(move |dependency| (&*package.name, &*package.version, &*dependency.name))
    });
    assert_eq!(dependencies.collect::<Vec<_>>(), []);
    assert_eq!(deny()["bans"]["wildcards"].as_str(), Some("deny"));
}

#[test]
fn no_advisory_is_ignored() {
    assert_eq!(strings(&deny()["advisories"]["ignore"]), [""; 0]);
}

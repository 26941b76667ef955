//! Wrong manifests with the exact findings they give, and right ones that give none.
//!
//! `UPDATE=1 cargo test --release -p millrace-crds --test manifests` writes the expected findings anew. Read what
//! changed as a user would: every message has to say what is wrong and what to write instead.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use millrace_contract::{AnyDocument, Value};
use millrace_crds::{Finding, ManifestFile, Place, RenderOptions, Report, SessionSource, document, validate};

/// Set to write the expected findings instead of comparing them.
const UPDATE: &str = "UPDATE";

/// How many wrong manifests there have to be at least.
const LEAST: usize = 100;

/// Words that tell a user what to do.
const ADVICE: &[&str] = &[
    "a name begins with",
    "add ",
    "belongs in",
    "choose ",
    "close ",
    "compare it",
    "correct ",
    "did you mean",
    "give each",
    "indent with",
    "is named with",
    "it has ",
    "keep ",
    "known here",
    "move ",
    "can be removed",
    "must be ",
    "must stand",
    "name a ",
    "needs quotes",
    "put ",
    "remove ",
    "set ",
    "shorten ",
    "there are ",
    "use ",
    "write ",
];

/// `cargo test` runs tests in the folder of their crate.
fn folder(path: &str) -> PathBuf {
    PathBuf::from(path)
}

fn manifests(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

fn validated(path: &Path) -> Report {
    let name = path.file_name().unwrap().to_str().unwrap();
    validate(&[ManifestFile {
        path: name.into(),
        text: std::fs::read_to_string(path).unwrap(),
    }])
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("{finding}\n")).collect()
}

/// What is wrong with a test case, if anything is.
fn compare(name: &str, findings: &[Finding], expected: Option<&str>) -> Result<(), String> {
    let found = lines(findings);
    if findings.is_empty() {
        return Err(format!("{name}: nothing was found wrong with it"));
    }
    if let Some(silent) = findings
        .iter()
        .find(|finding| !ADVICE.iter().any(|word| finding.message.contains(word)))
    {
        return Err(format!("{name}: a message does not say what to do\n{silent}"));
    }
    match expected {
        None => Err(format!("{name}: there is no expected output\n{found}")),
        Some(expected) if expected == found => Ok(()),
        Some(expected) => Err(format!("{name}: expected\n{expected}found\n{found}")),
    }
}

#[test]
fn wrong_manifests_are_told_what_is_wrong_and_what_to_write() {
    let mut failures = Vec::new();
    let files = manifests(&folder("tests/invalid"));
    assert!(
        files.len() >= LEAST,
        "{} wrong manifests, at least {LEAST} are wanted",
        files.len()
    );
    for path in files {
        let findings = validated(&path).findings;
        let expected = path.with_extension("txt");
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&expected, lines(&findings)).unwrap();
        }
        let expected = std::fs::read_to_string(&expected).ok();
        failures.extend(compare(&path.display().to_string(), &findings, expected.as_deref()).err());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_expected_output_is_left_without_its_manifest() {
    for entry in std::fs::read_dir(folder("tests/invalid")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.with_extension("yaml").exists(), "{}", path.display());
    }
}

#[test]
fn the_comparison_fails_where_it_must() {
    let text = "apiVersion: millrace.dev/v1alpha1\nkind: MqttBroker\nmetadata: {name: a}\nspec: {urls: []}\n";
    let wrong = validate(&[ManifestFile {
        path: "a.yaml".into(),
        text: text.into(),
    }])
    .findings;
    let right = text.replace("[]", "[mqtt://localhost]");
    let none = validate(&[ManifestFile {
        path: "a.yaml".into(),
        text: right,
    }])
    .findings;
    let expected = lines(&wrong);
    assert_eq!(compare("a", &wrong, Some(&expected)), Ok(()));
    assert!(
        compare("a", &none, Some(""))
            .unwrap_err()
            .contains("nothing was found")
    );
    assert!(
        compare("a", &wrong, None)
            .unwrap_err()
            .contains("no expected output")
    );
    assert!(
        compare("a", &wrong, Some("other"))
            .unwrap_err()
            .contains("expected\nother")
    );
    let mut silent = wrong.clone();
    silent[0].message = "is bad".into();
    assert!(
        compare("a", &silent, Some(&expected))
            .unwrap_err()
            .contains("does not say what to do")
    );
}

#[test]
fn right_manifests_have_no_findings_and_their_routes_render() {
    let mut routes = 0;
    for path in manifests(&folder("tests/valid"))
        .into_iter()
        .chain(manifests(&folder("../examples")))
    {
        let report = validated(&path);
        assert_eq!(lines(&report.findings), "", "{}", path.display());
        let places = |_: &Place<'_>| Value::Env("X".into());
        let options = RenderOptions {
            session: SessionSource::Instance("test"),
            places: &places,
        };
        for route in &report.objects.routes {
            let (broker, sink) = (
                report.objects.broker_of(route).unwrap(),
                report.objects.sink_of(route).unwrap(),
            );
            let rendered = document(route, broker, sink, &options).unwrap();
            let json = serde_json::to_string(&rendered).unwrap();
            assert_eq!(serde_json::from_str::<AnyDocument>(&json).unwrap(), rendered);
            routes += 1;
        }
    }
    assert!(routes >= 10, "{routes}");
}

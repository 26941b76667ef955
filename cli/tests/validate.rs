//! `millrace validate`, `crds` and `completions` as a script sees them: output and exit code of the real binary.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs `millrace` in the folder of the test data.
fn millrace(args: &[&str]) -> Output {
    command(args).output().expect("millrace runs")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command.current_dir("tests/data").args(args);
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn findings_go_to_standard_output_with_file_line_and_field() {
    let output = millrace(&["validate", "invalid.yaml"]);
    assert_eq!(text(&output.stdout), include_str!("data/invalid.txt"));
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
}

#[test]
fn the_examples_are_valid() {
    for example in [
        "plant",
        "quickstart",
        "basic-auth",
        "many-filters",
        "secured",
        "tokens",
    ] {
        let output = millrace(&["validate", &format!("../../../examples/{example}.yaml")]);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{example}: {}",
            text(&output.stdout)
        );
        assert!(
            text(&output.stdout).starts_with("valid: "),
            "{}",
            text(&output.stdout)
        );
    }
}

#[test]
fn standard_input_is_a_file_called_dash() {
    let mut child = command(&["validate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("millrace runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin
        .write_all(include_bytes!("data/invalid.yaml"))
        .expect("millrace reads");
    drop(stdin);
    let output = child.wait_with_output().expect("millrace ends");
    assert_eq!(
        text(&output.stdout),
        include_str!("data/invalid.txt").replace("invalid.yaml:", "-:")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn json_holds_the_same_findings() {
    let output = millrace(&["validate", "--output", "json", "invalid.yaml"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["valid"], false);
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(3));
    assert_eq!(report["findings"][0]["field"], "spec.urls[0]");
    assert_eq!(report["findings"][0]["line"], 6);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_wrong_command_line_is_told_from_wrong_manifests() {
    for args in [
        &["validate"][..],
        &["run"],
        &["no-such-command"],
        &["demo", "--duration", "soon"],
    ] {
        let output = millrace(args);
        assert_eq!(output.status.code(), Some(64), "{args:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
    assert_eq!(millrace(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let output = millrace(&["validate", "no-such-file.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "error: cannot read no-such-file.yaml: No such file or directory (os error 2)\n"
    );
}

#[test]
fn run_refuses_what_validate_refuses_with_the_same_words() {
    let output = millrace(&["run", "-f", "invalid.yaml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), include_str!("data/invalid.txt"));
}

#[test]
fn run_names_the_places_of_a_missing_secret() {
    let output = millrace(&[
        "run",
        "-f",
        "../../../examples/basic-auth.yaml",
        "--secret-dir",
        "secrets",
    ]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(
        said.contains("the file secrets/") && said.contains("or set MILLRACE_SECRET_"),
        "{said}"
    );
}

#[test]
fn crds_are_the_generated_files() {
    let output = millrace(&["crds"]);
    assert_eq!(output.status.code(), Some(0));
    let documents = |text: &str| -> Vec<serde_yaml::Value> {
        let all = serde_yaml::Deserializer::from_str(text);
        all.map(|document| serde::Deserialize::deserialize(document).expect("YAML"))
            .collect()
    };
    let files: Vec<serde_yaml::Value> = ["kafkasinks", "mqttbrokers", "topicroutes"]
        .into_iter()
        .flat_map(|kind| {
            let file = format!("{}/../crds/{kind}.yaml", env!("CARGO_MANIFEST_DIR"));
            documents(&std::fs::read_to_string(file).expect("a definition"))
        })
        .collect();
    assert_eq!(documents(&text(&output.stdout)), files);
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = millrace(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("validate"), "{shell}");
    }
}

#[test]
fn a_plan_says_what_will_be_before_there_is_a_cluster() {
    let output = millrace(&["plan", "--rate", "3000", "plan.yaml"]);
    assert_eq!(text(&output.stdout), include_str!("data/plan.txt"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let output = millrace(&["plan", "--rate", "3000", "--output", "json", "plan.yaml"]);
    let plans: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(plans[0]["lanes"]["perWorker"], serde_json::json!([3, 3, 2]));
    let output = millrace(&["plan", "invalid.yaml"]);
    assert_eq!(output.status.code(), Some(1), "wrong manifests have no plan");
}

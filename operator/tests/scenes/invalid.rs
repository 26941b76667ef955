//! What `millrace validate` finds wrong, the API server refuses with the same rule, or the operator says.
//!
//! `invalid.txt` beside this file has the answer to each wrong manifest; `UPDATE=1` writes it anew.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{StreamExt, stream};
use millrace_crds::{Finding, ManifestFile, Severity, validate};
use millrace_operator::Settings;
use millrace_operator::cluster::watch::Scope;
use serde_json::Value;

use super::STAGE;
use crate::objects::condition;
use crate::real::{Cluster, Namespace, Operator, User, kubectl};

const EXAMPLES: &str = "../crds/tests/invalid";
const ANSWERS: &str = "tests/scenes/invalid.txt";
const UPDATE: &str = "UPDATE";

/// The operator says what it thinks of an object within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Manifests that are applied at the same time.
const AT_ONCE: usize = 4;

/// What became of a manifest.
struct Answer {
    name: String,
    /// What is wrong with it.
    findings: Vec<Finding>,
    /// What `kubectl` printed.
    refused: String,
    /// What the operator said of what was created and cannot work: kind, reason and message.
    rejected: Vec<(String, String, String)>,
}

impl Answer {
    fn text(&self) -> String {
        let mut text = format!("{}\n", self.name);
        // The API server names several mistakes in any order.
        let mut refused: Vec<String> = self.refused.lines().map(sorted).collect();
        refused.sort_unstable();
        for line in refused {
            text += &format!("  refused: {line}\n");
        }
        for (kind, reason, message) in &self.rejected {
            // Of two that were made in the same second it is left to chance which is the older.
            let message = message.replace("NAMESPACE/alarms", "NAMESPACE/telemetry");
            text += &format!("  {kind} Accepted=False {reason}: {message}\n");
        }
        if self.refused.is_empty() && self.rejected.is_empty() {
            text += "  accepted\n";
        }
        text
    }

    /// Whether the answer is about a finding: it names the field, or what encloses it.
    fn is_about(&self, finding: &Finding) -> bool {
        if self
            .rejected
            .iter()
            .any(|(.., message)| message.contains(&finding.message))
        {
            return true;
        }
        let mut said = self.refused.clone();
        said.extend(self.rejected.iter().map(|(.., message)| message.as_str()));
        let said = plain(&said);
        let mut path = finding.field.as_str();
        // Nothing of a file is created that cannot be read to its end.
        if self.refused.contains("error parsing FILE") {
            return true;
        }
        // Of what is not in the spec the API server speaks in words of its own.
        if !path.starts_with("spec.") {
            return !self.refused.is_empty();
        }
        while let Some((outer, _)) = path.rsplit_once(['.', '[']) {
            if said.contains(&plain(path)) {
                return true;
            }
            path = outer;
        }
        false
    }
}

/// A line with its list of mistakes, `[spec.a: ..., <nil>: ...]`, in order.
fn sorted(line: &str) -> String {
    const BEGINS: [&str; 3] = ["spec.", "metadata.", "<nil>: "];
    let list = line.strip_suffix(']').and_then(|line| line.split_once(": ["));
    let Some((before, list)) = list.filter(|(_, list)| BEGINS.iter().any(|begin| list.starts_with(begin)))
    else {
        return line.to_owned();
    };
    let mut list = list.to_owned();
    for begin in BEGINS {
        list = list.replace(&format!(", {begin}"), &format!("\n{begin}"));
    }
    let mut mistakes: Vec<&str> = list.lines().collect();
    mistakes.sort_unstable();
    format!("{before}: [{}]", mistakes.join(", "))
}

/// A path without the marks by which map keys are written differently.
fn plain(text: &str) -> String {
    text.replace(['"', '[', ']', '.'], "")
}

/// What only `millrace validate` finds: `kubectl` reads YAML less strictly, and the operator reads no Secret; a probe tells
/// what is missing in one.
const ONLY_OFFLINE: &[&str] = &[
    "broker-secret-without-key",
    "reference-key-in-own-namespace",
    "yaml-duplicate-field",
    "yaml-tag",
];

/// Objects with errors of which the answer names none. One mistake is enough for a refusal, and the API server looks
/// for others only then.
fn unanswered(answer: &Answer) -> Vec<String> {
    let mut objects: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in &answer.findings {
        if finding.severity == Severity::Error {
            objects.entry(&finding.object).or_default().push(finding);
        }
    }
    let unanswered = objects
        .values()
        .filter(|findings| !findings.iter().any(|finding| answer.is_about(finding)));
    unanswered
        .map(|findings| format!("{}: {}\n{}", answer.name, findings[0], answer.text()))
        .collect()
}

fn examples() -> Vec<PathBuf> {
    let files = std::fs::read_dir(EXAMPLES)
        .expect("the wrong manifests")
        .flatten();
    let mut files: Vec<PathBuf> = files
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// Creates the objects of a file as a user does, and returns what is said against it.
fn kubectl_create(file: &Path, kubeconfig: &Path, namespace: &str) -> String {
    let mut config: Value =
        serde_json::from_str(&std::fs::read_to_string(kubeconfig).expect("a kubeconfig")).expect("JSON");
    config["contexts"][0]["context"]["namespace"] = namespace.into();
    let own = kubeconfig.with_file_name(format!("{namespace}.kubeconfig"));
    std::fs::write(&own, config.to_string()).expect("a file in a temporary folder");
    let file = file.display().to_string();
    let refused = kubectl(&own, &["create", "--validate=strict", "-f", &file]).err();
    let refused = refused.unwrap_or_default();
    refused.replace(&file, "FILE").replace(namespace, "NAMESPACE")
}

async fn apply(cluster: &Cluster, path: &Path) -> Answer {
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let namespace = cluster.namespace(&format!("example-{name}")).await;
    let text = std::fs::read_to_string(path).expect("a wrong manifest");
    let file = ManifestFile {
        path: name.clone(),
        text,
    };
    let findings = validate(std::slice::from_ref(&file)).findings;
    let refused = {
        let (path, kubeconfig, name) = (
            path.to_owned(),
            cluster.kubeconfig(User::Admin),
            namespace.name.clone(),
        );
        tokio::task::spawn_blocking(move || kubectl_create(&path, &kubeconfig, &name))
            .await
            .expect("kubectl")
    };
    let is_wrong = findings.iter().any(|finding| finding.severity == Severity::Error);
    let expects = is_wrong && refused.is_empty() && !ONLY_OFFLINE.contains(&name.as_str());
    Answer {
        name,
        findings,
        refused,
        rejected: rejected(&namespace, expects).await,
    }
}

/// Waits for what the operator says of each object; if it is expected to, until it rejects one.
async fn rejected(namespace: &Namespace, expects: bool) -> Vec<(String, String, String)> {
    let accepted = |object: &Value| condition(object, "Accepted").cloned();
    let is_ours = |name: &str| {
        ["topicroutes/", "mqttbrokers/", "kafkasinks/"]
            .iter()
            .any(|kind| name.starts_with(kind))
    };
    // What was created has been seen when another object has, which is created after it.
    namespace.mark().await;
    let said = namespace
        .until(PATIENCE, |objects| {
            let ours = objects.iter().filter(|(name, _)| is_ours(name));
            let said: Vec<_> = ours.map(|(_, object)| accepted(object)).collect();
            let rejects = |one: &Option<Value>| one.as_ref().is_some_and(|one| one["status"] == "False");
            said.iter().all(Option::is_some) && (!expects || said.iter().any(rejects))
        })
        .await;
    assert!(said, "{}: the operator says nothing", namespace.name);
    let objects = namespace.objects();
    let ours = objects.iter().filter(|(name, _)| is_ours(name));
    ours.filter_map(|(_, object)| {
        let accepted = accepted(object)?;
        let text = |value: &Value| {
            value
                .as_str()
                .unwrap_or_default()
                .replace(&namespace.name, "NAMESPACE")
        };
        (accepted["status"] == "False").then(|| {
            (
                text(&object["kind"]),
                text(&accepted["reason"]),
                text(&accepted["message"]),
            )
        })
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_invalid_is_refused_or_rejected_with_the_same_rule() {
    let _stage = STAGE.lock().await;
    let cluster = Cluster::start().await;
    for namespace in ["hub", "north"] {
        cluster.namespace(namespace).await;
    }
    let operator = Operator::start(&cluster, Scope::All, Settings::default());
    let examples = examples();
    assert!(examples.len() >= 100, "{} wrong manifests", examples.len());
    let cluster = &cluster;
    let mut answers: Vec<Answer> = stream::iter(&examples)
        .map(|path| apply(cluster, path))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    answers.sort_by(|one, two| one.name.cmp(&two.name));
    let text: String = answers.iter().map(Answer::text).collect();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(ANSWERS, &text).expect("the answers");
    }
    let silent: BTreeMap<&str, Vec<String>> = answers
        .iter()
        .map(|answer| (answer.name.as_str(), unanswered(answer)))
        .filter(|(_, unanswered)| !unanswered.is_empty())
        .collect();
    // That these are seen shows that the check can see silence.
    assert_eq!(
        silent.keys().copied().collect::<Vec<_>>(),
        ONLY_OFFLINE,
        "{silent:#?}"
    );
    let written = std::fs::read_to_string(ANSWERS).unwrap_or_default();
    let differ: Vec<(&str, &str)> = written
        .lines()
        .zip(text.lines())
        .filter(|(one, two)| one != two)
        .collect();
    assert!(
        written == text,
        "{ANSWERS} says something else: write it with UPDATE=1 and read what has changed\n{:#?}",
        differ.iter().take(5).collect::<Vec<_>>()
    );
    operator.kill().await;
}

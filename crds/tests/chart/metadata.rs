use millrace_crds::{ManifestFile, crds, validate};
use serde::Deserialize;
use serde_json::Value;

use crate::helm::{chart, run, template, text};

fn metadata() -> Value {
    serde_yaml::from_str(&std::fs::read_to_string(chart().join("Chart.yaml")).unwrap()).unwrap()
}

/// An annotation of Artifact Hub, which is YAML in a text.
fn hub(name: &str) -> Value {
    let metadata = metadata();
    serde_yaml::from_str(text(&metadata["annotations"][format!("artifacthub.io/{name}")])).unwrap()
}

#[test]
fn helm_lint_has_nothing_to_say() {
    let folder = chart();
    let Some(output) = run(&["lint", "--strict", folder.to_str().unwrap()], "") else {
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && !said.contains("[WARNING]"), "{said}");
}

#[test]
fn the_chart_has_the_version_of_what_it_installs() {
    let metadata = metadata();
    assert_eq!(metadata["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(metadata["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn an_older_kubernetes_is_refused() {
    let at = |version| template(&chart(), "millrace", "", &["--kube-version", version]);
    let Some(refused) = at("1.30.9") else { return };
    assert!(refused.unwrap_err().contains("requires kubeVersion: >=1.31.0-0"));
    assert!(at("1.35.4").unwrap().is_ok());
    // As clouds call theirs.
    assert!(at("1.31.0-eks-12ab").unwrap().is_ok());
}

#[test]
fn artifact_hub_is_told_what_the_chart_brings() {
    let described: Vec<(String, String)> = hub("crds")
        .as_array()
        .unwrap()
        .iter()
        .map(|crd| (text(&crd["kind"]).to_owned(), text(&crd["name"]).to_owned()))
        .collect();
    for crd in crds() {
        let known = (crd.spec.names.kind.clone(), crd.metadata.name.clone().unwrap());
        assert!(described.contains(&known), "{known:?}");
    }
    assert_eq!(described.len(), crds().len());
    let image = concat!("millrace.dev/millrace:", env!("CARGO_PKG_VERSION"));
    assert_eq!(hub("images")[0]["image"], image);
    let annotations = &metadata()["annotations"];
    assert_eq!(annotations["artifacthub.io/category"], "streaming-messaging");
    assert_eq!(annotations["artifacthub.io/operator"], "true");
}

#[test]
fn the_examples_on_artifact_hub_are_valid() {
    let examples = Vec::<Value>::deserialize(hub("crdsExamples")).unwrap();
    let documents: Vec<String> = examples
        .iter()
        .map(|example| serde_yaml::to_string(example).unwrap())
        .collect();
    let report = validate(&[ManifestFile {
        path: "crdsExamples".to_owned(),
        text: documents.join("---\n"),
    }]);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.objects.routes.len(), 1);
}

//! Examples that are for others to read: they name what there is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use millrace_crds::crds;
use serde::Deserialize as _;
use serde_yaml::Value;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The names of metrics in a text, those that a regular expression matches included.
fn metrics(text: &str) -> Vec<String> {
    let names = regex::Regex::new(r"millrace_[a-z_]+(\([a-z|]+\))?").unwrap();
    let all = names
        .find_iter(text)
        .flat_map(|found| match found.as_str().split_once('(') {
            None => vec![found.as_str().to_owned()],
            Some((begin, ends)) => {
                let ends = ends.trim_end_matches(')').split('|');
                ends.map(|end| format!("{begin}{end}")).collect()
            }
        });
    all.collect()
}

#[test]
fn examples_of_autoscaling_name_metrics_and_kinds_that_there_are() {
    let documented = metrics(&read("docs/metrics.md"));
    let kinds: Vec<String> = crds().into_iter().map(|crd| crd.spec.names.kind).collect();
    for file in ["cpu", "load", "keda", "prometheus-adapter"] {
        let text = read(&format!("examples/autoscaling/{file}.yaml"));
        let named = metrics(&text);
        for metric in &named {
            assert!(
                documented.contains(metric),
                "{file}: docs/metrics.md has no {metric}"
            );
        }
        for document in serde_yaml::Deserializer::from_str(&text) {
            let target = Value::deserialize(document).unwrap()["spec"]["scaleTargetRef"].clone();
            if target.is_null() {
                assert_eq!(named, ["millrace_route_load", "millrace_route_rate"], "{file}");
                continue;
            }
            assert_eq!(target["apiVersion"], "millrace.dev/v1alpha1", "{file}");
            assert!(
                kinds.iter().any(|kind| target["kind"] == kind.as_str()),
                "{file}: {target:?}"
            );
        }
    }
    assert_eq!(
        metrics("millrace_a_(b|c) millrace_d"),
        ["millrace_a_b", "millrace_a_c", "millrace_d"]
    );
}

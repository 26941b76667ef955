use serde_json::{Value, json};

use crate::helm::{chart, refusal};

/// Maps that are handed to Kubernetes as they are.
const FREE: [&str; 10] = [
    "affinity.podAffinity",
    "commonAnnotations",
    "commonLabels",
    "nodeSelector",
    "podAnnotations",
    "podLabels",
    "podMonitor.labels",
    "resources.limits",
    "resources.requests",
    "serviceAccount.annotations",
];

fn read(name: &str) -> String {
    std::fs::read_to_string(chart().join(name)).unwrap()
}

fn defaults() -> Value {
    serde_yaml::from_str(&read("values.yaml")).unwrap()
}

/// Every map among the defaults, with its path.
fn maps(path: &str, value: &Value, visit: &mut impl FnMut(&str)) {
    let Some(fields) = value.as_object() else { return };
    visit(path);
    for (name, field) in fields {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        maps(&path, field, visit);
    }
}

/// `a: {b: {typo: 1}}` for the path `a.b`.
fn typo_in(path: &str) -> String {
    let innermost = json!({"typo": 1});
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps
        .rev()
        .fold(innermost, |inner, step| json!({step: inner}))
        .to_string()
}

#[test]
fn a_typo_is_an_error_wherever_it_is() {
    let mut paths = Vec::new();
    maps("", &defaults(), &mut |path| paths.push(path.to_owned()));
    paths.retain(|path| !FREE.contains(&path.as_str()));
    assert!(paths.len() > 15, "{paths:?}");
    for path in paths {
        let Some(said) = refusal(&typo_in(&path)) else {
            return;
        };
        assert!(said.contains("'typo' not allowed"), "{path}: {said}");
    }
}

#[test]
fn every_map_of_the_schema_is_closed() {
    fn walk(path: &str, schema: &Value, open: &mut Vec<String>) {
        if schema["type"] == "object" && schema["additionalProperties"].is_null() {
            open.push(path.to_owned());
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, open);
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], open);
        }
    }
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut open = Vec::new();
    walk("", &schema, &mut open);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        walk(&format!("$defs.{name}"), definition, &mut open);
    }
    // `global` is the parent chart's, and Kubernetes checks an affinity.
    assert_eq!(
        open,
        [
            ".affinity.nodeAffinity",
            ".affinity.podAffinity",
            ".affinity.podAntiAffinity",
            ".global"
        ]
    );
}

#[test]
fn values_that_cannot_work_are_refused_with_their_place() {
    for (values, place) in [
        ("replicas: 3", "/replicas"),
        ("replicas: 0", "/replicas"),
        ("image: {digest: sha256:short}", "/image/digest"),
        ("image: {pullPolicy: Sometimes}", "/image/pullPolicy"),
        ("log: {format: xml}", "/log/format"),
        ("operator: {scrapeInterval: soon}", "/operator/scrapeInterval"),
        (
            "operator: {maxConcurrentRoutes: 0}",
            "/operator/maxConcurrentRoutes",
        ),
        ("watchNamespaces: [Upper]", "/watchNamespaces/0"),
        ("watchNamespaces: north", "/watchNamespaces"),
        ("watchNamespaces: [a, a]", "/watchNamespaces"),
        (
            "worker: {networkPolicy: {egress: [{toPorts: []}]}}",
            "/worker/networkPolicy/egress/0",
        ),
        ("imagePullSecrets: [registry]", "/imagePullSecrets/0"),
        ("test: {timeout: 5}", "/test/timeout"),
    ] {
        let Some(said) = refusal(values) else { return };
        assert!(said.contains(&format!("at '{place}'")), "{values}: {said}");
    }
    let Some(said) = refusal("serviceAccount: {create: false}") else {
        return;
    };
    assert!(said.contains("serviceAccount.name is needed"), "{said}");
}

#[test]
fn a_parent_chart_may_hand_down_its_globals() {
    let Some(said) = refusal("global: {anything: 1}") else {
        return;
    };
    assert_eq!(said, "");
}

/// A value of values.yaml that has a comment.
struct Described {
    path: String,
    text: String,
}

/// Reads the comments that begin with `# --`; the lines after it belong to it.
fn described(values: &str) -> Vec<Described> {
    let (mut found, mut parents, mut text) = (Vec::new(), Vec::<(usize, String)>::new(), Vec::new());
    for line in values.lines() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(first) = trimmed.strip_prefix("# -- ") {
            text = vec![first.to_owned()];
        } else if let Some(next) = trimmed.strip_prefix("# ").filter(|_| !text.is_empty()) {
            text.push(next.to_owned());
        } else if let Some((name, _)) = trimmed
            .split_once(':')
            .filter(|_| !trimmed.starts_with(['#', '-']))
        {
            parents.retain(|(depth, _)| *depth < indent);
            parents.push((indent, name.to_owned()));
            if !text.is_empty() {
                let path: Vec<&str> = parents.iter().map(|(_, name)| name.as_str()).collect();
                found.push(Described {
                    path: path.join("."),
                    text: text.join(" "),
                });
                text.clear();
            }
        }
    }
    found
}

#[test]
fn every_value_is_described() {
    let values = read("values.yaml");
    let known: Vec<String> = described(&values).into_iter().map(|value| value.path).collect();
    let covered = |path: &str| {
        known
            .iter()
            .any(|known| path == known || path.starts_with(&format!("{known}.")))
    };
    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value.as_object().filter(|fields| !fields.is_empty()) {
            Some(fields) => fields.iter().for_each(|(name, field)| {
                leaves(format!("{path}.{name}").trim_start_matches('.'), field, found);
            }),
            None => found.push(path.to_owned()),
        }
    }
    let mut all = Vec::new();
    leaves("", &defaults(), &mut all);
    let silent: Vec<&String> = all.iter().filter(|path| !covered(path)).collect();
    assert!(silent.is_empty(), "{silent:?}");
    assert!(known.len() > 40, "{}", known.len());
}

#[test]
fn the_readme_lists_the_values_as_they_are() {
    const BEGIN: &str = "<!-- values: `make chart-readme` writes them -->\n";
    const END: &str = "<!-- end of values -->";
    let defaults = defaults();
    let mut table = String::from("\n| value | default | |\n|---|---|---|\n");
    for value in described(&read("values.yaml")) {
        let default = value.path.split('.').fold(&defaults, |inner, name| &inner[name]);
        let text = value.text.replace('|', "\\|");
        table.push_str(&format!("| `{}` | `{default}` | {text} |\n", value.path));
    }
    table.push('\n');
    let readme = read("README.md");
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (written, after) = rest.split_once(END).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(
            chart().join("README.md"),
            format!("{before}{BEGIN}{table}{END}{after}"),
        )
        .unwrap();
    } else {
        assert!(
            written == table,
            "the values in charts/millrace/README.md are not those of values.yaml: `make chart-readme`"
        );
    }
}

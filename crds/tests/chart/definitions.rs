use millrace_crds::{CRD_VERSION, CRD_VERSION_ANNOTATION, crds};
use serde_json::{Value, json};

use crate::helm::{NAMESPACE, OLDEST, Objects, annotation, args, copy, render, render_in, text, title};

#[test]
fn the_definitions_are_those_of_the_api_types() {
    let Some(objects) = render("") else { return };
    let rendered = objects.of_kind("CustomResourceDefinition");
    let expected = crds();
    assert_eq!(rendered.len(), expected.len());
    for crd in expected {
        let name = crd.metadata.name.clone().unwrap();
        let there = objects.one("CustomResourceDefinition", &name);
        let rendered = same_numbers(there["spec"].clone());
        let expected = same_numbers(serde_json::to_value(&crd.spec).unwrap());
        assert!(
            rendered == expected,
            "{name} is not what the API types say; write it with `make crds`"
        );
        assert_eq!(
            annotation(there, CRD_VERSION_ANNOTATION),
            Some(CRD_VERSION.to_string().as_str())
        );
    }
}

/// Bounds are floats in the definition's types, and whole numbers in YAML.
fn same_numbers(mut value: Value) -> Value {
    match &mut value {
        Value::Number(number) => return number.as_f64().into(),
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| *item = same_numbers(item.take())),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|field| *field = same_numbers(field.take())),
        _ => {}
    }
    value
}

#[test]
fn an_uninstall_leaves_the_definitions_unless_asked_to_delete_everything() {
    for (values, policy) in [("", Some("keep")), ("crds: {keep: false}", None)] {
        let Some(objects) = render(values) else { return };
        for definition in objects.of_kind("CustomResourceDefinition") {
            assert_eq!(
                annotation(definition, "helm.sh/resource-policy"),
                policy,
                "{}",
                title(definition)
            );
        }
    }
}

#[test]
fn definitions_can_be_left_to_someone_else() {
    let Some(objects) = render("crds: {install: false}") else {
        return;
    };
    assert!(objects.of_kind("CustomResourceDefinition").is_empty());
    assert_eq!(objects.of_kind("Deployment").len(), 1);
}

#[test]
fn definitions_are_parts_of_the_release_and_not_hooks_of_it() {
    // Helm deletes a hook before it makes it again, and with a definition all its objects.
    let Some(objects) = render("") else { return };
    for definition in objects.of_kind("CustomResourceDefinition") {
        assert_eq!(annotation(definition, "helm.sh/hook"), None);
    }
}

/// The release as it is rendered where the cluster has definitions with this metadata: `helm template` cannot look into
/// a cluster, so what it would see stands in its place.
fn where_there_is(metadata: &Value, values: &str) -> Option<Objects> {
    const LOOKUP: &str =
        r#"lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $crd.metadata.name"#;
    let folder = copy();
    let path = folder.path().join("templates/_crds.tpl");
    let template = std::fs::read_to_string(&path).unwrap();
    assert!(template.contains(LOOKUP));
    let seen = format!("fromJson `{}`", json!({"metadata": metadata}));
    std::fs::write(&path, template.replace(LOOKUP, &seen)).unwrap();
    render_in(folder.path(), "millrace", values, &["--kube-version", OLDEST])
}

/// The metadata of a definition that belongs to a release.
fn of_release(name: &str, namespace: &str, version: u32) -> Value {
    json!({
        "labels": {"app.kubernetes.io/managed-by": "Helm"},
        "annotations": {
            "meta.helm.sh/release-name": name,
            "meta.helm.sh/release-namespace": namespace,
            CRD_VERSION_ANNOTATION: version.to_string(),
        }
    })
}

/// How many definitions are part of the release, and whether a Job updates them.
fn fate(metadata: &Value) -> Option<(usize, bool)> {
    let objects = where_there_is(metadata, "")?;
    let job = objects
        .titles()
        .contains(&format!("Job {NAMESPACE}/millrace-crds"));
    Some((objects.of_kind("CustomResourceDefinition").len(), job))
}

#[test]
fn an_upgrade_upgrades_the_definitions_of_its_own_release() {
    for version in [0, CRD_VERSION, CRD_VERSION + 1] {
        let Some(fate) = fate(&of_release("millrace", NAMESPACE, version)) else {
            return;
        };
        assert_eq!(fate, (3, false));
    }
}

#[test]
fn definitions_that_another_release_left_behind_stop_no_install() {
    // Helm would refuse: "invalid ownership metadata".
    for (name, namespace) in [("other", NAMESPACE), ("millrace", "elsewhere")] {
        let Some(same) = fate(&of_release(name, namespace, CRD_VERSION)) else {
            return;
        };
        assert_eq!(same, (0, false), "as new as the chart's");
        let newer = fate(&of_release(name, namespace, CRD_VERSION + 1)).unwrap();
        assert_eq!(newer, (0, false), "never made older");
        let older = fate(&of_release(name, namespace, CRD_VERSION - 1)).unwrap();
        assert_eq!(older, (0, true), "brought up to date");
    }
}

#[test]
fn definitions_that_came_with_kubectl_stop_no_install_either() {
    let applied = json!({"annotations": {CRD_VERSION_ANNOTATION: CRD_VERSION.to_string()}});
    let Some(same) = fate(&applied) else { return };
    assert_eq!(same, (0, false));
    assert_eq!(
        fate(&json!({"name": "before there were versions"})).unwrap(),
        (0, true)
    );
}

#[test]
fn the_update_may_patch_the_three_definitions_and_create_nothing() {
    let old = of_release("other", "elsewhere", 0);
    let Some(objects) = where_there_is(&old, "watchNamespaces: [north]") else {
        return;
    };
    let names = [
        "kafkasinks.millrace.dev",
        "mqttbrokers.millrace.dev",
        "topicroutes.millrace.dev",
    ];
    assert_eq!(
        objects.one("ClusterRole", "millrace-crds")["rules"],
        json!([{
            "apiGroups": ["apiextensions.k8s.io"],
            "resources": ["customresourcedefinitions"],
            "resourceNames": names,
            "verbs": ["get", "patch"],
        }])
    );
    let job = objects.one("Job", "millrace-crds");
    assert_eq!(args(job), [["crds", "--apply"].as_slice(), &names].concat());
    let spec = &job["spec"]["template"]["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["containers"][0]["securityContext"]["readOnlyRootFilesystem"],
        true
    );
    // Rights first, then the Job, and all before anything else of the release; gone afterwards.
    for object in objects
        .all()
        .filter(|object| text(&object["metadata"]["name"]) == "millrace-crds")
    {
        assert_eq!(
            annotation(object, "helm.sh/hook"),
            Some("pre-install,pre-upgrade"),
            "{}",
            title(object)
        );
        let weight = if object["kind"] == "Job" { "-5" } else { "-10" };
        assert_eq!(
            annotation(object, "helm.sh/hook-weight"),
            Some(weight),
            "{}",
            title(object)
        );
    }
    let left = where_there_is(&old, "crds: {install: false}").unwrap();
    assert!(
        left.titles()
            .iter()
            .all(|title| !title.ends_with("millrace-crds"))
    );
}

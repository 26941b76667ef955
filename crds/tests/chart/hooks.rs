use millrace_crds::{ManifestFile, validate};
use serde_json::Value;

use crate::helm::{Objects, annotation, args, render, text, title};

/// The objects of a hook, as title and weight, lightest first: the order in which Helm makes them.
fn hook(objects: &Objects, hook: &str) -> Vec<(String, i64)> {
    let mut found: Vec<(String, i64)> = objects
        .all()
        .filter(|object| annotation(object, "helm.sh/hook") == Some(hook))
        .map(|object| {
            (
                title(object),
                annotation(object, "helm.sh/hook-weight")
                    .unwrap()
                    .parse()
                    .unwrap(),
            )
        })
        .collect();
    found.sort_by_key(|(_, weight)| *weight);
    found
}

#[test]
fn a_hook_is_looked_at_when_it_fails_and_gone_when_it_does_not() {
    let Some(objects) = render("") else { return };
    let hooks: Vec<&Value> = objects
        .all()
        .filter(|object| annotation(object, "helm.sh/hook").is_some())
        .collect();
    assert_eq!(hooks.len(), 11);
    for hook in hooks {
        let policy = annotation(hook, "helm.sh/hook-delete-policy");
        assert_eq!(
            policy,
            Some("before-hook-creation,hook-succeeded"),
            "{}",
            title(hook)
        );
    }
}

#[test]
fn before_an_uninstall_the_operator_is_stopped_and_finalizers_go() {
    let Some(objects) = render("") else { return };
    let order = hook(&objects, "pre-delete");
    assert_eq!(order.len(), 6);
    // The account and its rights, what binds them, and last the Job.
    assert_eq!(
        order.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(),
        [-10, -10, -10, -5, -5, 0]
    );
    assert_eq!(order[5].0, "Job system/millrace-uninstall");
    let job = objects.one("Job", "millrace-uninstall");
    assert_eq!(
        args(job),
        [
            "uninstall",
            "--deployment=millrace-operator",
            "--namespace=system"
        ]
    );
    assert_eq!(job["spec"]["activeDeadlineSeconds"], 60);
    assert_eq!(
        job["spec"]["template"]["spec"]["serviceAccountName"],
        "millrace-uninstall"
    );
    let rules = objects.one("Role", "millrace-uninstall-operator")["rules"].to_string();
    assert!(
        rules.contains("deployments/scale") && rules.contains(r#""resourceNames":["millrace-operator"]"#)
    );
}

#[test]
fn with_named_namespaces_the_uninstall_stays_in_them() {
    let Some(objects) = render("watchNamespaces: [north, south]") else {
        return;
    };
    let job = args(objects.one("Job", "millrace-uninstall"));
    assert_eq!(job[3..], ["--watch-namespace=north", "--watch-namespace=south"]);
    let order = hook(&objects, "pre-delete");
    for namespace in ["north", "south"] {
        for kind in ["Role", "RoleBinding"] {
            let expected = format!("{kind} {namespace}/millrace-uninstall");
            assert!(order.iter().any(|(title, _)| *title == expected), "{order:?}");
        }
    }
    assert!(!order.iter().any(|(title, _)| title.starts_with("Cluster")));
}

#[test]
fn the_hooks_can_be_left_out() {
    let Some(objects) = render("uninstall: {hook: false}\ntest: {enabled: false}") else {
        return;
    };
    assert!(
        objects
            .all()
            .all(|object| annotation(object, "helm.sh/hook").is_none()),
        "{:?}",
        objects.titles()
    );
}

#[test]
fn the_test_has_a_route_before_it_has_a_pod() {
    let Some(objects) = render("test: {timeout: 90s}") else {
        return;
    };
    let order = hook(&objects, "test");
    let kinds: Vec<(&str, i64)> = order
        .iter()
        .map(|(title, weight)| (title.split(' ').next().unwrap(), *weight))
        .collect();
    assert_eq!(kinds[0], ("Service", -10));
    assert_eq!(kinds[4], ("Pod", 0));
    assert!(kinds[1..4].iter().all(|(_, weight)| *weight == -5));
    let pod = objects.one("Pod", "millrace-test");
    let args = args(pod);
    assert!(args.contains(&"--timeout=90s") && args.contains(&"--advertise=millrace-test.system.svc:9092"));
    for (name, value) in objects.one("Service", "millrace-test")["spec"]["selector"]
        .as_object()
        .unwrap()
    {
        assert_eq!(pod["metadata"]["labels"][name], *value);
    }
}

#[test]
fn the_tests_route_is_valid_and_is_where_the_operator_looks() {
    for (values, namespace) in [
        ("", "system"),
        ("watchNamespaces: [north, south]", "north"),
        ("watchNamespaces: [north, system]", "system"),
    ] {
        let Some(objects) = render(values) else { return };
        let ours: Vec<&Value> = objects
            .all()
            .filter(|object| object["apiVersion"] == "millrace.dev/v1alpha1")
            .collect();
        assert_eq!(ours.len(), 3);
        let documents: Vec<String> = ours
            .iter()
            .map(|object| serde_yaml::to_string(object).unwrap())
            .collect();
        let file = ManifestFile {
            path: "test".to_owned(),
            text: documents.join("---\n"),
        };
        let report = validate(&[file]);
        assert!(report.findings.is_empty(), "{:?}", report.findings);
        for object in ours {
            assert_eq!(text(&object["metadata"]["namespace"]), namespace);
        }
        // Its sessions end with the pod that is its broker: nothing is to be left in order.
        let route = objects.one("TopicRoute", "millrace-test");
        assert_eq!(annotation(route, "millrace.dev/force-delete"), Some("true"));
        let command = args(objects.one("Pod", "millrace-test"));
        let filter = text(&route["spec"]["from"]["mqtt"]["subscriptions"][0]["filter"]);
        assert!(command.contains(&format!("--mqtt-topic={filter}").as_str()));
        let topic = text(&route["spec"]["to"]["kafka"]["topic"]);
        assert!(command.contains(&format!("--kafka-topic={topic}").as_str()));
    }
}

use std::collections::BTreeSet;

use serde_json::Value;

use crate::helm::{Objects, args, render, render_as, text, title};

const NAMESPACED: &str = "watchNamespaces: [north, south]";
const METRICS_API: &str = "metricsApi: {enabled: true}";

/// The rules of a role, one line for each resource: `apps/statefulsets: get list`.
fn rules(role: &Value) -> BTreeSet<String> {
    let words = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(|word| text(word).to_owned())
            .collect()
    };
    let mut lines = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = words(&rule["resourceNames"]);
        let names = if names.is_empty() {
            String::new()
        } else {
            format!(" ({})", names.join(", "))
        };
        for group in words(&rule["apiGroups"]) {
            for resource in words(&rule["resources"]) {
                let place = if group.is_empty() {
                    resource.clone()
                } else {
                    format!("{group}/{resource}")
                };
                lines.insert(format!("{place}{names}: {}", words(&rule["verbs"]).join(" ")));
            }
        }
    }
    lines
}

fn roles(objects: &Objects) -> Vec<&Value> {
    [objects.of_kind("ClusterRole"), objects.of_kind("Role")].concat()
}

const CHILD: &str = "get list watch create patch delete";

/// What the operator may do where it runs routes.
fn expected() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for kind in ["mqttbrokers", "kafkasinks", "topicroutes"] {
        lines.insert(format!("millrace.dev/{kind}: list watch patch"));
        lines.insert(format!("millrace.dev/{kind}/status: patch"));
        lines.insert(format!("millrace.dev/{kind}/finalizers: update"));
    }
    for child in [
        "pods",
        "serviceaccounts",
        "services",
        "apps/statefulsets",
        "batch/jobs",
        "policy/poddisruptionbudgets",
        "networking.k8s.io/networkpolicies",
    ] {
        lines.insert(format!("{child}: {CHILD}"));
    }
    // The record of lanes is replaced as a whole, against the version that was read.
    lines.insert("configmaps: get list watch create update patch delete".to_owned());
    lines.insert("events.k8s.io/events: create patch".to_owned());
    lines
}

#[test]
fn the_operator_has_the_rights_it_needs_and_no_other() {
    let Some(objects) = render("") else { return };
    let mut all = expected();
    all.insert("namespaces: get list watch".to_owned());
    all.insert(
        "apiextensions.k8s.io/customresourcedefinitions \
         (kafkasinks.millrace.dev, mqttbrokers.millrace.dev, topicroutes.millrace.dev): get"
            .to_owned(),
    );
    all.insert("kafka.strimzi.io/kafkatopics: list".to_owned());
    all.insert("cluster.redpanda.com/topics: list".to_owned());
    assert_eq!(rules(objects.one("ClusterRole", "millrace-operator")), all);
}

#[test]
fn with_named_namespaces_it_has_them_there_only() {
    let Some(objects) = render(NAMESPACED) else { return };
    for namespace in ["north", "south"] {
        let title = format!("Role {namespace}/millrace-operator");
        let role = objects
            .all()
            .find(|object| crate::helm::title(object) == title)
            .unwrap();
        let mut all = expected();
        all.insert(format!("namespaces ({namespace}): get"));
        assert_eq!(rules(role), all);
    }
    let roles: Vec<String> = roles(&objects).into_iter().map(title).collect();
    assert_eq!(
        roles
            .iter()
            .filter(|title| title.ends_with("-operator") && !title.contains("uninstall"))
            .count(),
        2,
        "{roles:?}"
    );
}

#[test]
fn with_named_namespaces_nothing_is_cluster_wide_but_the_kinds() {
    for (values, kinds) in [
        (NAMESPACED.to_owned(), 3),
        (format!("{NAMESPACED}\ncrds: {{install: false}}"), 0),
    ] {
        let Some(objects) = render(&values) else { return };
        let wide: Vec<&Value> = objects
            .all()
            .filter(|object| object["metadata"]["namespace"].is_null())
            .collect();
        assert_eq!(wide.len(), kinds, "{:?}", objects.titles());
        assert!(
            wide.iter()
                .all(|object| object["kind"] == "CustomResourceDefinition")
        );
    }
}

#[test]
fn leading_takes_one_lease_in_its_own_namespace() {
    for values in ["", NAMESPACED] {
        let Some(objects) = render(values) else { return };
        let role = objects.one("Role", "millrace-operator-leader");
        assert_eq!(role["metadata"]["namespace"], "system");
        let lines: Vec<String> = rules(role).into_iter().collect();
        assert_eq!(
            lines,
            [
                "coordination.k8s.io/leases (millrace-operator): get update",
                "coordination.k8s.io/leases: create"
            ]
        );
    }
}

#[test]
fn no_role_reads_secrets_or_grants_anything() {
    for values in ["", NAMESPACED, "worker: {podMonitors: Always}", METRICS_API] {
        let Some(objects) = render(values) else { return };
        let roles = roles(&objects);
        assert!(roles.len() >= 4);
        for role in roles {
            for line in rules(role) {
                let words: BTreeSet<&str> = line.split([' ', ':', '/', ',']).collect();
                for never in [
                    "*",
                    "secrets",
                    "bind",
                    "escalate",
                    "impersonate",
                    "roles",
                    "clusterroles",
                    "rolebindings",
                    "clusterrolebindings",
                    "serviceaccounts/token",
                    "token",
                    "exec",
                    "nodes",
                ] {
                    assert!(!words.contains(never), "{}: {line}", title(role));
                }
            }
        }
        // Not even by a name that a rule might hide behind.
        let text: String = objects
            .all()
            .filter(|o| text(&o["kind"]).contains("Role"))
            .map(Value::to_string)
            .collect();
        assert!(!text.to_lowercase().contains("secret"));
    }
}

#[test]
fn pod_monitors_are_made_where_the_cluster_knows_them() {
    let rule = format!("monitoring.coreos.com/podmonitors: {CHILD}");
    let known: &[&str] = &[
        "--kube-version",
        "1.31.0",
        "--api-versions",
        "monitoring.coreos.com/v1/PodMonitor",
    ];
    let unknown = &known[..2];
    for (choice, cluster, expected) in [
        ("Auto", known, true),
        ("Auto", unknown, false),
        ("Always", unknown, true),
        ("Never", known, false),
    ] {
        let values = format!("worker: {{podMonitors: {choice}}}");
        let Some(objects) = render_as("millrace", &values, cluster) else {
            return;
        };
        let has = rules(objects.one("ClusterRole", "millrace-operator")).contains(&rule);
        assert_eq!(has, expected, "{choice} {cluster:?}");
        let told = format!("--worker-pod-monitor={expected}");
        let is_told = args(objects.operator()).contains(&told.as_str());
        assert!(is_told, "{choice} {cluster:?}");
    }
}

#[test]
fn the_metrics_api_takes_its_own_api_service_and_asks_who_may_see_what() {
    for more in ["", NAMESPACED] {
        let Some(objects) = render(&format!("{METRICS_API}\n{more}")) else {
            return;
        };
        let lines: Vec<String> = rules(objects.one("ClusterRole", "millrace-metrics-api"))
            .into_iter()
            .collect();
        assert_eq!(
            lines,
            [
                "apiregistration.k8s.io/apiservices (v1beta2.custom.metrics.k8s.io): get patch",
                "authorization.k8s.io/subjectaccessreviews: create",
            ]
        );
        let reader = objects.one("RoleBinding", "system-millrace-metrics-api");
        assert_eq!(reader["metadata"]["namespace"], "kube-system");
        assert_eq!(
            reader["roleRef"]["name"],
            "extension-apiserver-authentication-reader"
        );
    }
}

#[test]
fn people_get_the_kinds_with_the_roles_they_have() {
    let Some(objects) = render("") else { return };
    let labels = |name: &str| -> Vec<String> {
        let labels = objects.one("ClusterRole", name)["metadata"]["labels"]
            .as_object()
            .unwrap()
            .clone();
        let aggregate = "rbac.authorization.k8s.io/aggregate-to-";
        labels
            .keys()
            .filter_map(|key| key.strip_prefix(aggregate))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(labels("millrace-view"), ["admin", "edit", "view"]);
    assert_eq!(labels("millrace-edit"), ["admin", "edit"]);
    for line in rules(objects.one("ClusterRole", "millrace-view")) {
        assert!(line.ends_with(": get list watch"), "{line}");
    }
    for line in rules(objects.one("ClusterRole", "millrace-edit")) {
        assert!(
            !line.contains("/status") && line.starts_with("millrace.dev/"),
            "{line}"
        );
    }
    let Some(without) = render("rbac: {aggregateRoles: false}") else {
        return;
    };
    assert!(
        without
            .of_kind("ClusterRole")
            .iter()
            .all(|role| role["metadata"]["labels"]["app.kubernetes.io/component"] != "users")
    );
}

#[test]
fn every_binding_binds_a_role_and_an_account_that_exist() {
    for values in ["", NAMESPACED] {
        let Some(objects) = render(values) else { return };
        let titles = objects.titles();
        let bindings = [
            objects.of_kind("ClusterRoleBinding"),
            objects.of_kind("RoleBinding"),
        ]
        .concat();
        assert!(bindings.len() >= 4);
        for binding in bindings {
            let role = format!(
                "{} {}/{}",
                text(&binding["roleRef"]["kind"]),
                binding["metadata"]["namespace"].as_str().unwrap_or("-"),
                text(&binding["roleRef"]["name"])
            );
            assert!(titles.contains(&role), "{} binds {role}", title(binding));
            let subject = &binding["subjects"][0];
            let account = format!(
                "ServiceAccount {}/{}",
                text(&subject["namespace"]),
                text(&subject["name"])
            );
            assert!(titles.contains(&account), "{} binds {account}", title(binding));
        }
    }
}

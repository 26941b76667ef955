use serde_json::{Value, json};

use crate::helm::{args, pod_spec, render, render_as, text, title};

const AS_THE_IMAGE: &str = r#"{"fsGroup":65532,"runAsGroup":65532,"runAsNonRoot":true,"runAsUser":65532,"seccompProfile":{"type":"RuntimeDefault"}}"#;

#[test]
fn the_operator_is_started_with_the_defaults_spelled_out() {
    let Some(objects) = render("") else { return };
    let operator = objects.operator();
    let container = &pod_spec(operator).unwrap()["containers"][0];
    assert_eq!(container["command"], json!(["/usr/local/bin/millrace-operator"]));
    let image = concat!("millrace.dev/millrace:", env!("CARGO_PKG_VERSION"));
    assert_eq!(container["image"], image);
    assert_eq!(
        args(operator),
        [
            "run",
            &format!("--worker-image={image}"),
            "--worker-image-pull-policy=IfNotPresent",
            "--worker-log-filter=info",
            "--worker-network-policy=true",
            &format!("--worker-pod-security={AS_THE_IMAGE}"),
            "--worker-pod-monitor=false",
            "--max-concurrent-routes=10",
            "--scrape-interval=15s",
            "--log-format=json",
            "--log-filter=info",
            "--admin=0.0.0.0:9090",
            "--lease-name=millrace-operator",
        ]
    );
}

#[test]
fn values_become_arguments() {
    let values = r#"
watchNamespaces: [north, south]
replicas: 2
imagePullSecrets: [{name: registry}, {name: mirror}]
operator: {maxConcurrentRoutes: 3, scrapeInterval: 5s, adminHost: "::"}
log: {format: pretty, filter: "info,millrace_operator=debug"}
worker:
  podMonitors: Always
  podSecurityContext: {runAsUser: null, runAsGroup: null, fsGroup: null}
  image: {repository: example.com/worker, tag: v2, pullPolicy: Always}
  log: {filter: "warn,bridge_worker=trace"}
  networkPolicy:
    enabled: false
    egress:
    - to: [{ipBlock: {cidr: 10.0.0.0/8}}]
      ports: [{port: 9092, protocol: TCP}]
"#;
    let Some(objects) = render(values) else { return };
    assert_eq!(
        args(objects.operator()),
        [
            "run",
            "--watch-namespace=north",
            "--watch-namespace=south",
            "--worker-image=example.com/worker:v2",
            "--worker-image-pull-policy=Always",
            "--worker-image-pull-secret=registry",
            "--worker-image-pull-secret=mirror",
            "--worker-log-filter=warn,bridge_worker=trace",
            "--worker-network-policy=false",
            r#"--worker-egress=[{"ports":[{"port":9092,"protocol":"TCP"}],"to":[{"ipBlock":{"cidr":"10.0.0.0/8"}}]}]"#,
            r#"--worker-pod-security={"runAsNonRoot":true,"seccompProfile":{"type":"RuntimeDefault"}}"#,
            "--worker-pod-monitor=true",
            "--max-concurrent-routes=3",
            "--scrape-interval=5s",
            "--log-format=pretty",
            "--log-filter=info,millrace_operator=debug",
            "--admin=[::]:9090",
            "--lease-name=millrace-operator",
        ]
    );
}

#[test]
fn the_metrics_api_is_where_the_api_server_looks_for_it() {
    let Some(objects) = render("") else { return };
    assert!(objects.of_kind("APIService").is_empty());
    let Some(objects) = render("metricsApi: {enabled: true}\noperator: {adminHost: '::'}") else {
        return;
    };
    let api = &objects.one("APIService", "v1beta2.custom.metrics.k8s.io")["spec"];
    let service = objects.one("Service", "millrace-metrics-api");
    assert_eq!(api["service"]["name"], service["metadata"]["name"]);
    assert_eq!(api["service"]["namespace"], service["metadata"]["namespace"]);
    assert_eq!(api["service"]["port"], service["spec"]["ports"][0]["port"]);
    assert_eq!(api["insecureSkipTLSVerify"], Value::Null);
    let operator = objects.operator();
    let args = args(operator);
    for arg in [
        "--metrics-api-service=millrace-metrics-api",
        "--metrics-api=[::]:10250",
    ] {
        assert!(args.contains(&arg), "{args:?}");
    }
    let pod = &operator["spec"]["template"];
    let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
    let target = ports
        .iter()
        .find(|port| port["name"] == service["spec"]["ports"][0]["targetPort"]);
    assert_eq!(target.unwrap()["containerPort"], 10250);
    for (label, value) in service["spec"]["selector"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
}

/// The worker's image as the operator is told it.
fn worker_image(values: &str) -> Option<String> {
    let objects = render(values)?;
    let args = args(objects.operator());
    let image = args.iter().find_map(|arg| arg.strip_prefix("--worker-image="));
    image.map(str::to_owned)
}

#[test]
fn a_digest_names_the_image_of_every_pod_and_of_workers() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let values = format!("image: {{repository: example.com/m, tag: v1, digest: '{digest}'}}");
    let image = format!("example.com/m@{digest}");
    let Some(objects) = render(&values) else { return };
    for object in objects.all() {
        if let Some(spec) = pod_spec(object) {
            assert_eq!(spec["containers"][0]["image"], image, "{}", title(object));
        }
    }
    assert_eq!(worker_image(&values), Some(image));
    // The digest is of one image. Who names another for workers has to name its digest too.
    let other = format!("{values}\nworker: {{image: {{tag: v2}}}}");
    assert_eq!(worker_image(&other).as_deref(), Some("example.com/m:v2"));
}

#[test]
fn every_pod_fits_the_restricted_pod_security_standard() {
    let Some(objects) = render("") else { return };
    let mut pods = 0;
    for object in objects.all() {
        let Some(spec) = pod_spec(object) else { continue };
        let title = title(object);
        pods += 1;
        let pod = &spec["securityContext"];
        assert_eq!(pod["runAsNonRoot"], true, "{title}");
        assert_eq!(pod["runAsUser"], 65532, "{title}");
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{title}");
        for name in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
            assert!(spec[name].is_null(), "{title}: {name}");
        }
        for container in spec["containers"].as_array().unwrap() {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], false, "{title}");
            assert_eq!(security["readOnlyRootFilesystem"], true, "{title}");
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{title}");
            assert!(!container["resources"]["limits"]["memory"].is_null(), "{title}");
        }
    }
    // The operator, the hook before an uninstall, and the test.
    assert_eq!(pods, 3);
}

#[test]
fn openshift_may_choose_the_user() {
    let Some(objects) = render("podSecurityContext: {runAsUser: null, runAsGroup: null}") else {
        return;
    };
    let spec = pod_spec(objects.operator()).unwrap();
    assert!(spec["securityContext"]["runAsUser"].is_null());
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
}

#[test]
fn the_operator_takes_little_and_has_no_cpu_limit() {
    let Some(objects) = render("") else { return };
    let resources = &pod_spec(objects.operator()).unwrap()["containers"][0]["resources"];
    assert_eq!(
        *resources,
        json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}})
    );
}

#[test]
fn probes_and_metrics_are_on_the_admin_port() {
    let Some(objects) = render("podMonitor: {enabled: true, labels: {release: prometheus}}") else {
        return;
    };
    let container = &pod_spec(objects.operator()).unwrap()["containers"][0];
    assert_eq!(
        container["ports"],
        json!([{"name": "admin", "containerPort": 9090}])
    );
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        assert_eq!(
            container[probe]["httpGet"],
            json!({"path": path, "port": "admin"})
        );
    }
    let monitor = objects.one("PodMonitor", "millrace-operator");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"][0]["port"], "admin");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    let labels = &objects.operator()["spec"]["template"]["metadata"]["labels"];
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[name], *value);
    }
}

#[test]
fn the_operator_knows_which_pod_it_is() {
    let Some(objects) = render("") else { return };
    let env = &pod_spec(objects.operator()).unwrap()["containers"][0]["env"];
    let fields: Vec<(&str, &str)> = env
        .as_array()
        .unwrap()
        .iter()
        .map(|env| {
            (
                text(&env["name"]),
                text(&env["valueFrom"]["fieldRef"]["fieldPath"]),
            )
        })
        .collect();
    assert_eq!(
        fields,
        [
            ("POD_NAMESPACE", "metadata.namespace"),
            ("POD_NAME", "metadata.name"),
            ("POD_UID", "metadata.uid")
        ]
    );
}

#[test]
fn only_the_operator_and_the_hook_have_a_token() {
    let Some(objects) = render("") else { return };
    let tokens: Vec<String> = objects
        .all()
        .filter(|object| pod_spec(object).is_some_and(|spec| spec["automountServiceAccountToken"] != false))
        .map(title)
        .collect();
    assert_eq!(
        tokens,
        [
            "Deployment system/millrace-operator",
            "Job system/millrace-uninstall"
        ]
    );
    for account in objects.of_kind("ServiceAccount") {
        assert_eq!(
            account["automountServiceAccountToken"],
            false,
            "{}",
            title(account)
        );
    }
}

#[test]
fn two_replicas_are_spread_and_have_a_budget_and_one_has_neither() {
    let Some(one) = render("") else { return };
    assert!(one.of_kind("PodDisruptionBudget").is_empty());
    assert!(pod_spec(one.operator()).unwrap()["topologySpreadConstraints"].is_null());

    let Some(two) = render("replicas: 2") else { return };
    assert_eq!(two.operator()["spec"]["replicas"], 2);
    let budget = &two.one("PodDisruptionBudget", "millrace-operator")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_eq!(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    let selector = &two.operator()["spec"]["selector"];
    assert_eq!(budget["selector"], *selector);
    let spread = pod_spec(two.operator()).unwrap()["topologySpreadConstraints"]
        .as_array()
        .unwrap();
    let keys: Vec<&str> = spread
        .iter()
        .map(|constraint| text(&constraint["topologyKey"]))
        .collect();
    assert_eq!(keys, ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]);
    assert!(
        spread
            .iter()
            .all(|constraint| constraint["labelSelector"] == *selector)
    );
}

#[test]
fn the_operators_pods_go_where_the_values_say() {
    let values = "
priorityClassName: system-cluster-critical
nodeSelector: {pool: infra}
tolerations: [{key: infra, operator: Exists}]
affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}
topologySpreadConstraints: [{topologyKey: rack, maxSkew: 1, whenUnsatisfiable: DoNotSchedule}]
podLabels: {team: plant}
podAnnotations: {note: here}
commonLabels: {owner: ops}
commonAnnotations: {ticket: '7'}
";
    let Some(objects) = render(values) else { return };
    let spec = pod_spec(objects.operator()).unwrap();
    assert_eq!(spec["priorityClassName"], "system-cluster-critical");
    assert_eq!(
        spec["nodeSelector"],
        json!({"kubernetes.io/os": "linux", "pool": "infra"})
    );
    assert_eq!(spec["tolerations"][0]["key"], "infra");
    assert!(spec["affinity"]["podAntiAffinity"].is_object());
    assert_eq!(spec["topologySpreadConstraints"][0]["topologyKey"], "rack");
    let metadata = &objects.operator()["spec"]["template"]["metadata"];
    assert_eq!(metadata["labels"]["team"], "plant");
    assert_eq!(metadata["annotations"]["note"], "here");
    for object in objects.all() {
        assert_eq!(object["metadata"]["labels"]["owner"], "ops", "{}", title(object));
        assert_eq!(
            object["metadata"]["annotations"]["ticket"],
            "7",
            "{}",
            title(object)
        );
    }
}

#[test]
fn selectors_never_change() {
    // A Deployment's selector is immutable: whatever may change between versions must stay out of it.
    let Some(objects) = render("commonLabels: {a: b}\npodLabels: {c: d}") else {
        return;
    };
    assert_eq!(
        objects.operator()["spec"]["selector"]["matchLabels"],
        json!({
            "app.kubernetes.io/name": "millrace",
            "app.kubernetes.io/instance": "millrace",
            "app.kubernetes.io/component": "operator"
        })
    );
}

#[test]
fn names_fit_whatever_the_release_is_called() {
    let release = "a-release-with-the-longest-name-that-helm-will-take-53"[..53].to_owned();
    let Some(objects) = render_as(&release, "", &["--kube-version", "1.35.0"]) else {
        return;
    };
    for object in objects.all() {
        let limit = if object["kind"] == "TopicRoute" { 40 } else { 63 };
        assert!(
            text(&object["metadata"]["name"]).len() <= limit,
            "{}",
            title(object)
        );
        for (name, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
            assert!(text(value).len() <= 63, "{}: {name}", title(object));
        }
    }
}

#[test]
fn an_existing_service_account_is_used() {
    let Some(objects) = render("serviceAccount: {create: false, name: ours}") else {
        return;
    };
    assert_eq!(
        pod_spec(objects.operator()).unwrap()["serviceAccountName"],
        "ours"
    );
    let subjects: Vec<&Value> = objects
        .of_kind("ClusterRoleBinding")
        .iter()
        .map(|binding| &binding["subjects"][0])
        .collect();
    assert!(
        subjects.iter().any(|subject| subject["name"] == "ours"),
        "{subjects:?}"
    );
    let accounts = objects.of_kind("ServiceAccount");
    assert!(
        accounts
            .iter()
            .all(|account| account["metadata"]["name"] == "millrace-uninstall")
    );
}

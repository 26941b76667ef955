//! A broker and a Kafka that want TLS: with certificates, passwords and tokens as a cluster has them, mounted from Secrets
//! as cert-manager and Strimzi write them, and from the API server's own tokens.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use millrace_contract::status::{RouteStatus, Status};
use millrace_e2e::{
    Namespace, RouteHandle, SOON, all_that_is_seen, kubectl, sightings, start_brokers, try_kubectl,
};
use millrace_testkit::{Authority, Issued, Observer, Publisher, check, now_micros, wait_until};
use serde_json::{Value, json};

const PASSWORD: &str = "canary-of-a-scram-password";
const NEW_PASSWORD: &str = "canary-of-another-password";
/// Messages per second, of each route.
const RATE: f64 = 500.0;
/// A kubelet takes a minute to see that a Secret has changed.
const MOUNTED: Duration = Duration::from_secs(240);

/// Both brokers in a namespace of their own, which is that of the routes.
struct Site {
    namespace: Namespace,
    authority: Authority,
    /// For clients on this machine.
    mosquitto: SocketAddr,
    kafka: SocketAddr,
}

fn secret(name: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}).to_string()
}

fn config_map(name: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}).to_string()
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

impl Site {
    fn start() -> Self {
        let namespace = Namespace::create("e2e-encrypted");
        let authority = Authority::new("plant");
        let name = |server: &str| format!("{server}.{}.svc", namespace.name());
        let mosquitto = authority.issue("mosquitto", &[&name("mosquitto")]);
        let kafka = authority.issue("kafka", &[&name("kafka")]);
        let ca = text(&authority.certificate());
        let keys = kubectl(&["get", "--raw", "/openid/v1/jwks"]);
        for object in [
            pair(&authority, "mosquitto-tls", &mosquitto),
            secret("kafka-tls", &json!({"tls.pem": text(&kafka.both())})),
            config_map("jwks", &json!({"jwks.json": keys})),
            config_map("cluster-ca", &json!({"ca.crt": ca})),
            pair(&authority, "bridge-client", &authority.issue("bridge", &[])),
            kafka_user(PASSWORD),
        ] {
            namespace.apply(&object);
        }
        let [mosquitto, kafka] = start_brokers(namespace.name(), "mosquitto", &["kind/brokers/encrypted"]);
        Self {
            namespace,
            authority,
            mosquitto,
            kafka,
        }
    }

    /// Manifests of two routes: one with a password, one with a token.
    fn manifests(&self, topics: [&str; 2]) -> String {
        let here = self.namespace.name();
        let sink = |name: &str, port: u16, sasl: &str| {
            format!(
                "apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {{name: {name}}}
spec:
  bootstrapServers: [kafka.{here}.svc:{port}]
  tls: {{ca: {{configMapKeyRef: {{name: cluster-ca, key: ca.crt}}}}}}
  sasl: {sasl}
  topics: [{{pattern: \"{name}*\", create: IfMissing, partitions: 3, replicationFactor: 1}}]
---
"
            )
        };
        let route = |name: &str, topic: &str| {
            format!(
                "apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: {name}}}
spec:
  replicas: 1
  from:
    mqtt:
      brokerRef: {{name: plant}}
      subscriptions: [{{filter: {name}/+key}}, {{filter: {name}/+key/more}}]
      ordering: PerTopic
      lanes: 2
  to:
    kafka: {{sinkRef: {{name: {name}}}, topic: {topic}}}
---
"
            )
        };
        let broker = format!(
            "apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {{name: plant}}
spec:
  urls: [mqtts://mosquitto.{here}.svc:8883]
  tls:
    ca: {{secretKeyRef: {{name: bridge-client, key: ca.crt}}}}
    clientCertificate: {{secretRef: {{name: bridge-client}}}}
---
"
        );
        [
            broker,
            sink(
                "login",
                9096,
                "{mechanism: SCRAM-SHA-512, basic: {secretRef: {name: kafka-user}, username: plant}}",
            ),
            sink(
                "bearer",
                9097,
                "{mechanism: OAUTHBEARER, oauthBearer: {token: {audience: kafka}}}",
            ),
            route("login", topics[0]),
            route("bearer", topics[1]),
        ]
        .concat()
    }

    /// What the worker of a route says.
    fn status(&self, route: &str) -> RouteStatus {
        let pod = format!("{route}-worker-0");
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}:9090/proxy/status",
            self.namespace.name()
        );
        let status: Status = serde_json::from_str(&kubectl(&["get", "--raw", &path])).unwrap();
        status.routes.into_iter().next().expect("the route")
    }

    /// Uids of the workers, and how often each was started again.
    fn workers(&self) -> Vec<String> {
        let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
        let selector = "app.kubernetes.io/component=worker";
        let lines = self
            .namespace
            .kubectl(&["get", "pods", "-l", selector, "-o", path]);
        lines.lines().map(str::to_owned).collect()
    }

    /// Changes the password that Kafka takes.
    fn change_password(&self, password: &str) {
        let set = format!("SCRAM-SHA-512=[password={password}]");
        self.namespace.kubectl(&[
            "exec",
            "kafka-0",
            "--",
            "java",
            "-Xmx128m",
            "-cp",
            "/opt/kafka/libs/*",
            "kafka.admin.ConfigCommand",
            "--bootstrap-server",
            "localhost:9092",
            "--alter",
            "--add-config",
            &set,
            "--entity-type",
            "users",
            "--entity-name",
            "plant",
        ]);
    }
}

/// A certificate as cert-manager writes it.
fn pair(authority: &Authority, name: &str, issued: &Issued) -> String {
    let ca = text(&authority.certificate());
    let (certificate, key) = (text(&issued.certificate()), text(&issued.key()));
    secret(
        name,
        &json!({"ca.crt": ca, "tls.crt": certificate, "tls.key": key}),
    )
}

/// A user as Strimzi writes it: without its name.
fn kafka_user(password: &str) -> String {
    let jaas = format!(
        "org.apache.kafka.common.security.scram.ScramLoginModule required username=\"plant\" password=\"{password}\";"
    );
    secret(
        "kafka-user",
        &json!({"password": password, "sasl.jaas.config": jaas}),
    )
}

fn publish(broker: SocketAddr, route: &'static str) -> Publisher {
    Publisher::builder(broker)
        .qos(1)
        .keys(10)
        .rate(RATE)
        .topic_of(move |key| match key % 2 {
            0 => format!("{route}/{key}"),
            _ => format!("{route}/{key}/more"),
        })
        .start()
}

/// The line of a private key that no other has.
fn line_of(key: &Path) -> String {
    text(key).lines().nth(1).unwrap().to_owned()
}

/// The tokens that a pod mounts, by their audiences; none for the API server.
fn audiences(pod: &Value) -> Vec<&str> {
    let volumes = pod["spec"]["volumes"].as_array().unwrap().iter();
    let sources = volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    let tokens = sources
        .map(|source| &source["serviceAccountToken"])
        .filter(|token| !token.is_null());
    tokens
        .map(|token| token["audience"].as_str().unwrap_or("the API server"))
        .collect()
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn certificates_passwords_and_tokens_work_change_while_messages_flow_and_are_never_seen() {
    let site = Site::start();
    let namespace = &site.namespace;
    let run = now_micros();
    let topics = [format!("login-{run}"), format!("bearer-{run}")];
    let topics = [topics[0].as_str(), topics[1].as_str()];
    namespace.apply(&site.manifests(topics));
    for route in ["login", "bearer"] {
        RouteHandle::new(namespace, route).wait_ready();
    }
    for (route, expected) in [("login", &[][..]), ("bearer", &["kafka"])] {
        let pod = namespace.kubectl(&["get", "pod", &format!("{route}-worker-0"), "-o", "json"]);
        assert_eq!(
            audiences(&serde_json::from_str(&pod).unwrap()),
            expected,
            "{route}"
        );
    }
    let before = site.workers();
    let observer = Observer::start(&site.kafka.to_string(), &topics);
    let publishers = ["login", "bearer"].map(|route| publish(site.mosquitto, route));
    observer.wait_for((4.0 * RATE) as u64, SOON);

    // The certificate for the broker and the password for Kafka change, as an operator of such changes them.
    let renewed = site.authority.issue("bridge", &[]);
    namespace.apply(&pair(&site.authority, "bridge-client", &renewed));
    site.change_password(NEW_PASSWORD);
    namespace.apply(&kafka_user(NEW_PASSWORD));
    let taken = |route: &str| site.status(route).credentials_taken_over;
    wait_until(MOUNTED, "both routes to have taken over what has changed", || {
        taken("login") >= 2 && taken("bearer") >= 1
    });
    let goal = observer.distinct() + (6.0 * RATE) as u64;
    observer.wait_for(goal, SOON);

    let reports = publishers.map(|publisher| publisher.finish(SOON));
    observer.wait_for(reports.iter().map(|report| report.acknowledged()).sum(), SOON);
    let records = observer.finish();
    for (report, other) in [(&reports[0], &reports[1]), (&reports[1], &reports[0])] {
        let verdict = check(report, &records.clone().without(&[other.run()]));
        verdict.assert_nothing_lost().assert_duplicates_at_most(0);
    }
    assert_eq!(site.workers(), before, "no worker was started again");

    // Nothing of it is to be seen, in the cluster or by who looks with `millrace top`.
    let mut seen = all_that_is_seen(namespace.name());
    let top = top(namespace.name());
    let states: Vec<(&Value, &Value)> = top
        .iter()
        .map(|line| (&line["name"], &line["complete"]))
        .collect();
    assert_eq!(
        states,
        [(&json!("bearer"), &json!(true)), (&json!("login"), &json!(true))]
    );
    seen.push(("millrace top".to_owned(), format!("{top:?}")));
    let canaries = [
        PASSWORD.to_owned(),
        NEW_PASSWORD.to_owned(),
        line_of(&renewed.key()),
        // How every token begins that an API server signs.
        "eyJhbGciOi".to_owned(),
    ];
    for canary in &canaries {
        assert_eq!(sightings(&seen, canary), [""; 0], "{canary}");
    }
    // The search finds each where it is shown.
    namespace.apply(&config_map("indiscreet", &json!({"text": canaries.join(" ")})));
    let seen = all_that_is_seen(namespace.name());
    for canary in &canaries {
        assert!(!sightings(&seen, canary).is_empty(), "{canary}");
    }
    let metrics = format!(
        "/api/v1/namespaces/{}/pods/login-worker-0:9090/proxy/metrics",
        namespace.name()
    );
    let metrics = try_kubectl(&["get", "--raw", &metrics]).unwrap();
    for certificate in [
        "BrokerServer",
        "BrokerClient",
        "BrokerAuthority",
        "KafkaServer",
        "KafkaAuthority",
    ] {
        let is_there = metrics.lines().any(|line| {
            line.starts_with("millrace_certificate_expiry_timestamp_seconds") && line.contains(certificate)
        });
        assert!(is_there, "{certificate}: {metrics}");
    }
}

/// What `millrace top` prints of a namespace, by the names of the routes.
fn top(namespace: &str) -> Vec<Value> {
    // `make image` has put it beside the folder of the tests.
    let own = std::env::current_exe().unwrap();
    let program = own.parent().unwrap().with_file_name("millrace");
    let output = Command::new(program)
        .args(["top", "--namespace", namespace, "--output", "json"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = String::from_utf8(output.stdout).unwrap();
    let mut lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    lines.sort_by_key(|line| line["name"].to_string());
    lines
}

//! A real API server for tests: etcd, kube-apiserver and the controllers of Kubernetes as processes, and a kubelet that
//! runs nothing (`kubelet.rs`).
//!
//! There is no scheduler and no node: pods run nowhere.

#![allow(dead_code, reason = "each of the tests that share it uses a part")]

mod hands;
mod kubelet;
mod mirror;
mod operator;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, Config};
use millrace_testkit::{Port, Process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::objects::conditions;

pub(crate) use hands::Namespace;
pub(crate) use kubelet::Kubelet;
pub(crate) use mirror::{Mirror, Objects};
pub(crate) use operator::Operator;

/// More than a server takes to start on a machine that has other things to do.
const START: Duration = Duration::from_secs(120);

/// A user of the API server; the token is the name.
#[derive(Clone, Copy, Debug)]
pub(crate) enum User {
    /// The test itself, Kubernetes' controllers and the kubelet.
    Admin,
    /// The operator: what it writes is on record.
    Operator,
}

impl User {
    fn token(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operator => "operator",
        }
    }
}

/// The cluster. Its processes end when this is dropped, last to first.
pub(crate) struct Cluster {
    _controllers: Process,
    _api: Process,
    _etcd: Process,
    port: u16,
    folder: TempDir,
    pub(crate) client: Client,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) kubelet: Arc<Kubelet>,
}

impl Cluster {
    /// Starts it, with Millrace's definitions.
    pub(crate) async fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        // What the operator has to say is printed when a test fails.
        tracing_subscriber::fmt()
            .with_env_filter("warn")
            .with_ansi(false)
            .with_test_writer()
            .try_init()
            .ok();
        let folder = tempfile::Builder::new()
            .prefix("millrace-api-")
            .tempdir()
            .expect("a temporary folder");
        write_files(&folder);
        let (client_port, peer_port, port) = (Port::free(), Port::free(), Port::free());
        let (client_port, peer_port, port) = (client_port.number(), peer_port.number(), port.number());
        let path = |name: &str| folder.path().join(name).display().to_string();
        let etcd = Process::spawn("etcd", etcd(&path("etcd"), client_port, peer_port));
        let api = Process::spawn("kube-apiserver", apiserver(&path, client_port, port));
        for user in [User::Admin, User::Operator] {
            let kubeconfig = kubeconfig(port, user).to_string();
            std::fs::write(path(user.token()), kubeconfig).expect("a file in a temporary folder");
        }
        let client = Client::try_from(config(port, User::Admin)).expect("a client");
        let deadline = tokio::time::Instant::now() + START;
        while client.apiserver_version().await.is_err() || !is_ready(&client).await {
            assert!(
                tokio::time::Instant::now() < deadline,
                "kube-apiserver does not become ready"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Before the controllers: the garbage collector looks for new kinds every 30 s only.
        define(&client).await;
        let controllers = Process::spawn("kube-controller-manager", controllers(&path("admin")));
        let mirror = Mirror::start(client.clone());
        let kubelet = Kubelet::start(client.clone(), Arc::clone(&mirror));
        Self {
            _controllers: controllers,
            _api: api,
            _etcd: etcd,
            port,
            folder,
            client,
            mirror,
            kubelet,
        }
    }

    /// The way of a user to the API server.
    pub(crate) fn config(&self, user: User) -> Config {
        config(self.port, user)
    }

    /// A file for programs that ask for `KUBECONFIG`.
    pub(crate) fn kubeconfig(&self, user: User) -> PathBuf {
        self.folder.path().join(user.token())
    }

    /// What the operator has asked to be written so far: verb and address, from the API server's audit log.
    pub(crate) fn writes(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.folder.path().join("audit.log")).unwrap_or_default();
        let lines = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told = lines.map(|event| {
            let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("verb"), text("requestURI"))
        });
        told.collect()
    }

    /// A new namespace.
    pub(crate) async fn namespace(&self, name: &str) -> Namespace {
        let api: Api<DynamicObject> = Api::all_with(
            self.client.clone(),
            &resource("", "v1", "Namespace", "namespaces"),
        );
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        let object = serde_json::from_value(object).expect("a namespace");
        api.create(&PostParams::default(), &object)
            .await
            .expect("a new namespace");
        Namespace::new(self.client.clone(), Arc::clone(&self.mirror), name)
    }
}

/// Runs `kubectl`; returns what it prints, or what it says is wrong.
pub(crate) fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program("kubectl"))
        .env("KUBECONFIG", kubeconfig)
        .args(arguments)
        .output()
        .expect("kubectl");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A program of the cluster that `e2e/kind` builds.
pub(crate) fn program(name: &str) -> PathBuf {
    let cache = std::env::var_os("MILLRACE_TEST_CACHE").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/millrace"),
        PathBuf::from,
    );
    let path = cache.join("kind/bin").join(name);
    assert!(
        path.exists(),
        "{} is missing: run e2e/kind/build binaries",
        path.display()
    );
    path
}

fn write_files(folder: &TempDir) {
    let tokens = "admin,admin,admin,system:masters\noperator,operator,operator\n";
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [
            {
                "level": "Metadata", "users": ["operator"],
                "verbs": ["create", "update", "patch", "delete", "deletecollection"],
            },
            {"level": "None"},
        ],
    });
    for (name, text) in [("tokens.csv", tokens), ("audit.yaml", &policy.to_string())] {
        std::fs::write(folder.path().join(name), text).expect("a file in a temporary folder");
    }
    // For the tokens of pods, which nobody asks for.
    let mut openssl = Command::new("openssl");
    openssl
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(folder.path().join("accounts.key"));
    assert!(
        openssl.status().is_ok_and(|status| status.success()),
        "{openssl:?}"
    );
}

fn etcd(data: &str, client_port: u16, peer_port: u16) -> Command {
    let (client, peer) = (
        format!("http://127.0.0.1:{client_port}"),
        format!("http://127.0.0.1:{peer_port}"),
    );
    let mut command = Command::new(program("etcd"));
    command
        .args([
            "--data-dir",
            data,
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ])
        .args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ])
        .args([
            "--initial-cluster",
            &format!("default={peer}"),
            "--log-level",
            "error",
        ])
        // Nothing has to outlive the test.
        .arg("--unsafe-no-fsync");
    command
}

fn apiserver(path: &dyn Fn(&str) -> String, etcd_port: u16, port: u16) -> Command {
    let mut command = Command::new(program("kube-apiserver"));
    command
        .args(["--etcd-servers", &format!("http://127.0.0.1:{etcd_port}")])
        .args(["--bind-address", "127.0.0.1", "--secure-port", &port.to_string()])
        .args([
            "--cert-dir",
            &path("certificates"),
            "--token-auth-file",
            &path("tokens.csv"),
        ])
        .args([
            "--service-account-issuer",
            "https://test",
            "--service-account-key-file",
            &path("accounts.key"),
        ])
        .args(["--service-account-signing-key-file", &path("accounts.key")])
        .args([
            "--authorization-mode",
            "AlwaysAllow",
            "--service-cluster-ip-range",
            "10.0.0.0/16",
        ])
        // Pods may name accounts that nobody makes here.
        .args(["--disable-admission-plugins", "ServiceAccount"])
        .args([
            "--audit-policy-file",
            &path("audit.yaml"),
            "--audit-log-path",
            &path("audit.log"),
        ]);
    command
}

fn controllers(kubeconfig: &str) -> Command {
    // One program is several, by the name it is called.
    let mut command = Command::new(program("kubernetes"));
    command
        .arg0("kube-controller-manager")
        .args(["--kubeconfig", kubeconfig, "--leader-elect=false", "--secure-port", "0"])
        .args(["--kube-api-qps", "5000", "--kube-api-burst", "5000", "--concurrent-statefulset-syncs", "20"])
        .arg(
            "--controllers=statefulset-controller,job-controller,garbage-collector-controller,namespace-controller,\
             ttl-after-finished-controller",
        );
    command
}

fn kubeconfig(port: u16, user: User) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true,
        }}],
        "users": [{"name": "test", "user": {"token": user.token()}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    })
}

fn config(port: u16, user: User) -> Config {
    let address = format!("https://127.0.0.1:{port}").parse().expect("an address");
    let mut config = Config::new(address);
    config.accept_invalid_certs = true;
    config.auth_info.token = Some(user.token().to_owned().into());
    config
}

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("a request");
    client.request_text(request).await.is_ok()
}

async fn define(client: &Client) {
    let definitions = resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    );
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &definitions);
    for crd in millrace_crds::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        let params = PatchParams::apply("test").force();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .expect("a definition");
    }
    let established = |object: &DynamicObject| {
        conditions(&object.data).any(|one| one["type"] == "Established" && one["status"] == "True")
    };
    let deadline = tokio::time::Instant::now() + START;
    loop {
        let all = api.list(&Default::default()).await.expect("the definitions");
        if all.iter().filter(|one| established(one)).count() >= 3 {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the definitions are not established"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Kinds that tests look at, by their plurals.
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("millrace.dev", "v1alpha1", "TopicRoute", "topicroutes"),
    ("millrace.dev", "v1alpha1", "MqttBroker", "mqttbrokers"),
    ("millrace.dev", "v1alpha1", "KafkaSink", "kafkasinks"),
    ("apps", "v1", "StatefulSet", "statefulsets"),
    ("", "v1", "Pod", "pods"),
    ("batch", "v1", "Job", "jobs"),
    ("", "v1", "ConfigMap", "configmaps"),
    ("", "v1", "Service", "services"),
    ("", "v1", "ServiceAccount", "serviceaccounts"),
    ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
];

fn resource(group: &str, version: &str, kind: &str, plural: &str) -> ApiResource {
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
}

/// The resource of a plural.
pub(crate) fn of(plural: &str) -> ApiResource {
    let (group, version, kind, plural) = KINDS
        .iter()
        .find(|(.., its)| *its == plural)
        .unwrap_or_else(|| panic!("{plural} are not looked at"));
    resource(group, version, kind, plural)
}

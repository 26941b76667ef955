//! `millrace top` as scripts and people see it: against an API server that is scripted, and a real `millrace run`.

mod api_server;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use api_server::{ApiServer, Worker, World, kubeconfig};

const DEADLINE: Duration = Duration::from_secs(60);

fn millrace(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(args)
        .env_remove("COLUMNS")
        .output()
        .expect("millrace runs")
}

/// What it printed, and nothing else was said.
fn printed(output: &Output) -> Vec<String> {
    let (out, err) = (said(&output.stdout), said(&output.stderr));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{out}");
    out.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Why it failed, in one line.
fn complaint(output: &Output) -> String {
    let err = said(&output.stderr);
    assert_eq!((output.status.code(), err.lines().count()), (Some(1), 1), "{err}");
    assert!(output.stdout.is_empty());
    err.trim_end().to_owned()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn top(api: &ApiServer, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().expect("a folder");
    let kubeconfig = kubeconfig(dir.path(), api.address);
    millrace(&[&["top", "--kubeconfig", &kubeconfig], args].concat())
}

/// An address at which nobody listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

fn route(namespace: &str, name: &str, ready: &str, reason: &str, message: &str) -> Value {
    json!({
        "apiVersion": "millrace.dev/v1alpha1", "kind": "TopicRoute",
        "metadata": {"name": name, "namespace": namespace, "uid": name, "generation": 1},
        "spec": {
            "from": {"mqtt": {
                "brokerRef": {"name": "plant"}, "subscriptions": [{"filter": "a/#"}], "ordering": "PerTopic",
            }},
            "to": {"kafka": {"sinkRef": {"name": "main"}, "topic": "a"}},
        },
        "status": {"conditions": [{
            "type": "Ready", "status": ready, "reason": reason, "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]},
    })
}

fn pod(namespace: &str, route: &str, ordinal: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{route}-worker-{ordinal}"), "namespace": namespace, "uid": format!("{route}-{ordinal}"),
            "labels": {
                "app.kubernetes.io/component": "worker", "app.kubernetes.io/instance": route,
                "millrace.dev/kind": "topicroute",
            },
        },
        "status": {"phase": "Running", "podIP": "10.1.2.3"},
    })
}

fn status(namespace: &str, route: &str, lanes: u16, received: u64) -> Worker {
    let lane = |lane: u16| {
        json!({
            "lane": lane, "clientId": format!("c-{lane}"), "state": "Up", "sessionPresent": true, "connections": 1,
            "window": 1, "oldestUnackedMs": 1500,
        })
    };
    let lanes: Vec<Value> = (0..lanes).map(lane).collect();
    Worker::Answers(json!({"routes": [{
        "namespace": namespace, "name": route, "phase": "Running", "ready": true, "problems": [], "lanes": lanes,
        "ledger": {
            "received": received, "written": received - 1, "filtered": 0, "deadLettered": 0, "discarded": 0,
            "expired": 0, "repeats": 0, "returned": 0, "dropped": 0, "inFlight": 1,
        },
        "receivedPerSecond": 100.0, "writtenPerSecond": 99.0, "load": 0.25,
        "latency": {"p50Us": 1000, "p99Us": 2000, "maxUs": 3000}, "bufferedBytes": 0,
    }]}))
}

/// Two routes: one of three workers, of which one is cut off and one hangs, and one that is not ready.
fn plant() -> World {
    World {
        routes: vec![
            route("plant", "telemetry", "True", "Healthy", "all is well"),
            route(
                "plant",
                "alarms",
                "False",
                "BrokerNotFound",
                "there is no MqttBroker plant: create it",
            ),
            route("office", "doors", "True", "Healthy", "all is well"),
        ],
        pods: vec![
            pod("plant", "telemetry", 0),
            pod("plant", "telemetry", 1),
            pod("plant", "telemetry", 2),
            pod("office", "doors", 0),
        ],
        records: HashMap::from([(
            "telemetry-lanes".to_owned(),
            json!({"generation": 3, "lanes": [
                {"lane": 0, "ordinal": 0, "state": "Owned"}, {"lane": 3, "ordinal": 0, "state": "Releasing"},
            ]}),
        )]),
        workers: HashMap::from([
            (
                "telemetry-worker-0".to_owned(),
                status("plant", "telemetry", 3, 1000),
            ),
            ("telemetry-worker-1".to_owned(), Worker::Unreachable),
            ("telemetry-worker-2".to_owned(), Worker::Hangs),
            ("doors-worker-0".to_owned(), status("office", "doors", 8, 50)),
        ]),
        is_closed: false,
    }
}

#[test]
fn a_table_shows_what_answers_and_says_what_does_not() {
    let lines = printed(&top(&ApiServer::start(plant()), &[]));
    assert_eq!(
        lines,
        [
            "ROUTE      STATE           RECEIVED/S  WRITTEN/S    LOAD   OLDEST  LANES       MOVES  IN FLIGHT      P99   RECEIVED    WRITTEN  BALANCE",
            "alarms     BrokerNotFound           -          -       -        -                  -          -        -          -          -        -",
            "telemetry  Healthy               ≥100        ≥99   ≥0.25   ≥1.5 s  0:3 1-2:?       1         ≥1  ≥2.0 ms     ≥1,000       ≥999        0",
            "! alarms: BrokerNotFound: there is no MqttBroker plant: create it",
            "! telemetry: telemetry-worker-1 says nothing: 503 Service Unavailable: error trying to reach service: dial tcp 10.1.2.3:9090: connect: connection refused",
            "! telemetry: telemetry-worker-2 says nothing: no answer within 2 s",
            "  telemetry: worker 0 gives up lane 3",
        ],
        "{lines:#?}"
    );
}

#[test]
fn routes_are_chosen_by_name_and_namespace() {
    let api = ApiServer::start(plant());
    let all = printed(&top(&api, &["-A", "--sort", "rate", "doors", "alarms"]));
    assert!(all[1].starts_with("office/doors  Healthy "), "{all:#?}");
    assert!(all[2].starts_with("plant/alarms  BrokerNotFound "), "{all:#?}");
    let office = printed(&top(&api, &["-n", "office", "--once"]));
    assert!(office[1].starts_with("doors "), "{office:#?}");
    assert_eq!(office.len(), 2);
    let none = top(&api, &["-n", "cellar"]);
    assert_eq!((none.status.code(), none.stdout.len()), (Some(0), 0));
    assert_eq!(said(&none.stderr), "no TopicRoute in namespace cellar\n");
}

#[test]
fn json_has_an_object_for_each_route() {
    let lines = printed(&top(&ApiServer::start(plant()), &["--output", "json"]));
    let lines: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [alarms, telemetry] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert_eq!(
        (&alarms["name"], &alarms["ready"], &alarms["state"]),
        (&json!("alarms"), &json!(false), &json!("BrokerNotFound"))
    );
    assert_eq!(telemetry["complete"], false);
    assert_eq!(telemetry["receivedPerSecond"], 100.0);
    assert_eq!(
        (
            &telemetry["lanesUp"],
            &telemetry["balance"],
            &telemetry["oldestUnackedMs"]
        ),
        (&json!(3), &json!(0), &json!(1500))
    );
    assert_eq!(
        telemetry["moves"][0],
        json!({"lane": 3, "ordinal": 0, "state": "Releasing", "since": 0})
    );
    assert_eq!(telemetry["workers"][0]["load"], 0.25);
    assert_eq!(
        telemetry["workers"][2],
        json!({"name": "telemetry-worker-2", "error": "no answer within 2 s"})
    );
}

#[test]
fn a_missing_permission_is_named_with_its_rule() {
    let mut world = plant();
    world
        .workers
        .values_mut()
        .for_each(|worker| *worker = Worker::Forbidden);
    let said = complaint(&top(&ApiServer::start(world.clone()), &[]));
    assert!(
        said.starts_with(
            "error: pods/proxy in namespace plant may not be read by this user: a Role needs the rule {apiGroups: [\"\"], \
             resources: [pods/proxy], verbs: [get]}: Kubernetes' own role `edit` has it (the API server: "
        ),
        "{said}"
    );
    world.is_closed = true;
    let said = complaint(&top(&ApiServer::start(world), &["-A"]));
    assert!(
        said.starts_with("error: topicroutes in all namespaces may not be read")
            && said.contains("{apiGroups: [\"millrace.dev\"], resources: [topicroutes], verbs: [list]}"),
        "{said}"
    );
}

#[test]
fn one_worker_that_may_not_be_asked_hides_no_other() {
    let mut world = plant();
    world
        .workers
        .insert("telemetry-worker-1".into(), Worker::Forbidden);
    world
        .workers
        .insert("telemetry-worker-2".into(), status("plant", "telemetry", 2, 10));
    let lines = printed(&top(&ApiServer::start(world), &["telemetry"]));
    assert!(lines[1].contains("0:3 1:? 2:2"), "{lines:#?}");
    assert!(
        lines[2]
            .starts_with("! telemetry: telemetry-worker-1 says nothing: the API server does not allow it: "),
        "{lines:#?}"
    );
}

#[test]
fn without_a_cluster_it_says_what_to_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let output = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .arg("top")
        .env("HOME", dir.path())
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()
        .expect("millrace runs");
    let said = complaint(&output);
    assert!(said.starts_with("error: no cluster is known: "), "{said}");
    assert!(
        said.contains("--kubeconfig") && said.contains("--admin"),
        "{said}"
    );

    let address = nowhere();
    let kubeconfig = kubeconfig(dir.path(), address);
    let said = complaint(&millrace(&["top", "--kubeconfig", &kubeconfig]));
    assert!(
        said.starts_with(&format!(
            "error: the API server http://{address}/ cannot be asked: "
        )),
        "{said}"
    );
    let said = complaint(&millrace(&[
        "top",
        "--kubeconfig",
        &kubeconfig,
        "--context",
        "other",
    ]));
    assert!(said.contains("other"), "{said}");
}

/// Ended when the test is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_run_on_this_machine_is_shown_without_a_cluster() {
    let dir = tempfile::tempdir().expect("a folder");
    let manifests = dir.path().join("route.yaml");
    let text = include_str!("../data/check-route.yaml")
        .replace("MQTT", &nowhere().to_string())
        .replace("KAFKA", &nowhere().to_string());
    std::fs::write(&manifests, text).expect("a file");
    let admin = nowhere().to_string();
    let mut run = Command::new(env!("CARGO_BIN_EXE_millrace"))
        .args(["run", "--admin", &admin, "-f"])
        .arg(&manifests)
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .expect("millrace runs");
    // A line with a problem comes when the admin port is open and the broker has been tried.
    let lines = BufReader::new(run.0.stdout.take().expect("a pipe")).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line.contains("BrokerUnreachable")));

    let shown = printed(&millrace(&["top", "--admin", &admin]));
    assert!(shown[0].starts_with("ROUTE "), "{shown:#?}");
    assert!(shown[1].contains("  connecting  "), "{shown:#?}");
    assert!(
        shown.iter().any(|line| line.contains(": BrokerUnreachable: ")),
        "{shown:#?}"
    );
    let json = printed(&millrace(&["top", "--admin", &admin, "--output", "json"]));
    let route: Value = serde_json::from_str(&json[0]).expect("JSON");
    assert_eq!(
        (&route["state"], &route["complete"], &route["workers"][0]["name"]),
        (&json!("connecting"), &json!(true), &json!(admin))
    );
}

#[test]
fn an_admin_address_without_a_process_is_named() {
    let address = nowhere();
    let said = complaint(&millrace(&["top", "--admin", &address.to_string()]));
    assert!(
        said.starts_with(&format!("error: http://{address}/status: ")),
        "{said}"
    );
    assert!(said.contains("efused"), "{said}");
    let both = millrace(&["top", "--admin", "127.0.0.1:1", "-A"]);
    assert_eq!(both.status.code(), Some(64));
}

#[test]
fn a_terminal_asks_only_for_what_it_shows_and_q_ends_it() {
    let names: Vec<String> = (0..500).map(|i| format!("route-{i:03}")).collect();
    let world = World {
        routes: names
            .iter()
            .map(|name| route("plant", name, "True", "Healthy", ""))
            .collect(),
        pods: names.iter().map(|name| pod("plant", name, 0)).collect(),
        workers: names
            .iter()
            .map(|name| (format!("{name}-worker-0"), status("plant", name, 8, 1000)))
            .collect(),
        ..World::default()
    };
    let api = ApiServer::start(world);
    let dir = tempfile::tempdir().expect("a folder");
    let kubeconfig = kubeconfig(dir.path(), api.address);
    // `script` gives it a terminal, of the usual 80 by 24.
    let command = format!(
        "{} top --kubeconfig {kubeconfig} --interval 1h",
        env!("CARGO_BIN_EXE_millrace")
    );
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map(Running)
        .expect("script, of Debian's bsdutils");
    let mut out = terminal.0.stdout.take().expect("a pipe");
    let (mut seen, mut some, started) = (String::new(), [0; 4096], Instant::now());
    while !seen.contains("q ends") {
        assert!(started.elapsed() < DEADLINE, "{seen}");
        match out.read(&mut some).expect("text") {
            0 => panic!("it has ended: {seen}"),
            n => seen += &said(&some[..n]),
        }
    }
    assert!(seen.contains("500 routes in namespace plant"), "{seen}");
    assert!(seen.contains("… and 483 more"), "{seen}");
    assert_eq!(api.asked(), 17, "one worker for each route that is shown");

    terminal
        .0
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"q")
        .expect("a key");
    out.read_to_string(&mut seen).expect("the rest");
    assert_eq!(terminal.0.wait().expect("an end").code(), Some(0), "{seen}");
}

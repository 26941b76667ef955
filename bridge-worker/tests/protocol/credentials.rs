//! Changed credentials: tried on a connection of their own, taken over lane by lane, never printed.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::harness::{
    DEADLINE, MockKafka, QUIET, Running, WorkerProcess, keeping_cores, message, repeat, route, session,
};
use millrace_contract::status::{LaneState, Reason};
use millrace_contract::{Credentials, Document, Ordering, Tls, Value};
use millrace_testkit::wire::Properties;
use millrace_testkit::{Authority, Mosquitto, Process, Publisher, ScriptedBroker, wait_until};

/// A mounted Secret: a folder behind a link that is swapped, so that user name and password change at once.
struct Secret {
    folder: tempfile::TempDir,
    versions: u32,
}

impl Secret {
    fn new(username: &str, password: &str) -> Self {
        let mut secret = Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            versions: 0,
        };
        secret.set(username, password);
        secret
    }

    fn set(&mut self, username: &str, password: &str) {
        self.versions += 1;
        let version = self.folder.path().join(self.versions.to_string());
        std::fs::create_dir(&version).expect("a folder");
        std::fs::write(version.join("username"), username).expect("a file");
        std::fs::write(version.join("password"), password).expect("a file");
        let new = self.folder.path().join("new");
        std::os::unix::fs::symlink(&version, &new).expect("a link");
        std::fs::rename(new, self.folder.path().join("data")).expect("a link in place");
    }

    fn credentials(&self) -> Credentials {
        let file = |name: &str| Value::File(PathBuf::from(self.folder.path()).join("data").join(name));
        Credentials {
            username: file("username"),
            password: file("password"),
        }
    }
}

fn document(mosquitto: &Mosquitto, kafka: &MockKafka, secret: &Secret) -> Document {
    let mut document = route(&ScriptedBroker::start(), kafka.bootstrap());
    document.settings.broker.urls = vec![format!("mqtt://127.0.0.1:{}", mosquitto.port())];
    document.settings.broker.credentials = Some(secret.credentials());
    document.live.lanes.count = 2;
    document.live.lanes.ordering = Ordering::Unordered;
    document
}

#[track_caller]
fn wait_up(worker: &WorkerProcess) {
    worker.wait_for("both lanes to be up", |status| {
        status.lanes.len() == 2 && status.lanes.iter().all(|lane| lane.state == LaneState::Up)
    });
}

fn connections(worker: &WorkerProcess) -> Vec<u64> {
    let lanes = worker.status().lanes;
    lanes.iter().map(|lane| lane.connections).collect()
}

fn publish(mosquitto: &Mosquitto, username: &str, password: &str) {
    let publisher = Publisher::builder(mosquitto.port())
        .login(username, password)
        .messages(50)
        .topic_of(|key| format!("in/a/{key}"))
        .start();
    assert_eq!(publisher.finish(DEADLINE).acknowledged(), 50);
}

#[test]
fn changed_credentials_are_tried_first_and_taken_over_lane_by_lane() {
    let mut mosquitto = Mosquitto::builder()
        .user("old", "old-canary")
        .user("publisher", "p")
        .start();
    let kafka = MockKafka::start(&["out.a"]);
    let mut secret = Secret::new("old", "old-canary");
    let worker = WorkerProcess::traced(&document(&mosquitto, &kafka, &secret));
    worker.own(1, &[0, 1]);
    wait_up(&worker);

    // The broker does not know them yet: nothing happens to the connections there are.
    secret.set("new", "new-canary");
    let problem = worker.wait_for_problem(Reason::CredentialsRefused);
    assert!(
        problem.contains("the ones before") && problem.contains("not authorized"),
        "{problem}"
    );
    assert!(worker.status().credentials_refused >= 1);
    assert_eq!(connections(&worker), [1, 1]);
    publish(&mosquitto, "publisher", "p");
    worker.wait_for("the messages", |status| status.ledger.written == 50);

    mosquitto.set_user("new", "new-canary");
    worker.wait_for("the new ones to be taken over", |status| {
        status.credentials_taken_over == 1 && status.problems.is_empty()
    });
    wait_until(DEADLINE, "both lanes to have connected anew", || {
        connections(&worker) == [2, 2]
    });
    wait_up(&worker);
    publish(&mosquitto, "publisher", "p");
    worker.wait_for("the messages", |status| status.ledger.written == 100);
    let log = mosquitto.log();
    assert!(
        log.contains("millrace-0a1b2c3d-0-try-"),
        "a client id of its own:\n{log}"
    );
    assert!(
        !worker.process.stderr().contains("canary"),
        "{}",
        worker.process.stderr()
    );
}

#[test]
fn a_lane_that_connects_anew_meanwhile_uses_what_works() {
    let mut mosquitto = Mosquitto::builder()
        .persistence(true)
        .user("old", "old-canary")
        .start();
    let kafka = MockKafka::start(&["out.a"]);
    let mut secret = Secret::new("old", "old-canary");
    let worker = WorkerProcess::traced(&document(&mosquitto, &kafka, &secret));
    worker.own(1, &[0, 1]);
    wait_up(&worker);
    secret.set("old", "wrong-canary");
    worker.wait_for_problem(Reason::CredentialsRefused);
    mosquitto.restart();
    wait_until(DEADLINE, "both lanes to be back", || {
        connections(&worker) == [2, 2]
    });
    wait_up(&worker);

    // And when that stops working, what the files say.
    mosquitto.set_user("old", "wrong-canary");
    worker.wait_for("the new ones to be taken over", |status| {
        status.credentials_taken_over == 1 && status.problems.is_empty()
    });
    wait_up(&worker);
    assert!(
        !worker.process.stderr().contains("canary"),
        "{}",
        worker.process.stderr()
    );
}

#[test]
fn a_worker_that_crashes_leaves_no_memory_behind() {
    let mosquitto = Mosquitto::builder().user("old", "old-canary").start();
    let kafka = MockKafka::start(&["out.a"]);
    let secret = Secret::new("old", "old-canary");
    let mut worker = WorkerProcess::where_cores_are_kept(&document(&mosquitto, &kafka, &secret));
    wait_up(&worker);
    worker.process.abort();
    let ended = worker.process.wait(DEADLINE);
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), false));

    // Another program does.
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut other = Command::new("sleep");
    other.arg("1000");
    let mut other = Process::spawn("sleep", keeping_cores(&other, folder.path()));
    wait_until(DEADLINE, "the shell to have become the program", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", other.pid()));
        name.is_ok_and(|name| name.trim() == "sleep")
    });
    other.abort();
    let ended = other.wait(DEADLINE);
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(6), true));
}

#[test]
fn a_certificate_that_only_the_broker_has_renewed_is_seen_while_a_connection_lasts() {
    let authority = Authority::new("plant");
    let (now, folder) = (
        SystemTime::now(),
        tempfile::tempdir().expect("a temporary folder"),
    );
    let show = |until: Duration| {
        let from = now - Duration::from_secs(60);
        let issued = authority.issue_for("server", &["localhost"], from, now + until);
        for file in ["tls.crt", "tls.key"] {
            std::fs::copy(issued.folder().join(file), folder.path().join(file)).expect("a copy");
        }
    };
    // In the last fifth of its life.
    show(Duration::from_secs(14));
    let mut mosquitto = Mosquitto::builder()
        .listener(&[
            "allow_anonymous true".into(),
            format!("certfile {}", folder.path().join("tls.crt").display()),
            format!("keyfile {}", folder.path().join("tls.key").display()),
        ])
        .start();
    let kafka = MockKafka::start(&["out.a"]);
    let mut document = route(&ScriptedBroker::start(), kafka.bootstrap());
    document.settings.broker.urls = vec![format!("mqtts://localhost:{}", mosquitto.listener(0))];
    document.settings.broker.tls = Some(Tls {
        ca: Some(Value::File(authority.certificate())),
        ..Tls::default()
    });
    let worker = WorkerProcess::start(&document);
    let said = worker.wait_for_problem(Reason::CertificateExpires);
    assert!(said.contains("the MQTT broker's certificate"), "{said}");
    show(Duration::from_secs(3_600));
    mosquitto.reload();
    // It is looked at every 4 seconds. A resumed session would be taken for what was shown when it began.
    wait_until(Duration::from_secs(6), "the new one to be seen", || {
        worker.status().problems.is_empty()
    });
    assert_eq!(connections(&worker), [1]);
}

/// A lane that is to connect anew waits for Kafka first. When its connection is cut meanwhile, the time for that is over and done
/// with: the next time it ends in order it has as long as ever.
#[test]
fn a_goodbye_that_was_cut_off_leaves_the_next_one_all_its_time() {
    const DRAIN: Duration = Duration::from_secs(2);
    let (broker, kafka) = (ScriptedBroker::start(), MockKafka::start(&["out.a"]));
    let mut secret = Secret::new("old", "old");
    let mut document = route(&broker, kafka.bootstrap());
    document.settings.broker.credentials = Some(secret.credentials());
    document.live.timeouts.drain_ms = DRAIN.as_millis() as u64;
    kafka.hold_topic("out.a");
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(message("a", 1, "held"));
    worker.wait_received(1);
    secret.set("new", "new");
    let mut trial = broker.accept();
    trial.expect_connect();
    trial.send_connack(false, 0, Properties::new());
    trial.expect_disconnect();
    worker.wait_for("the new ones to be taken over", |status| {
        status.credentials_taken_over == 1
    });
    // It reads no more, and says nothing yet.
    connection.publish(message("a", 2, "not read"));
    connection.assert_silent(QUIET);
    assert_eq!(worker.ledger().received, 1);
    connection.reset();

    let mut connection = session(&broker, true);
    connection.assert_silent(DRAIN);
    connection.publish(repeat("a", 1, "held"));
    connection.publish(message("a", 2, "held as well"));
    worker.wait_received(3);
    worker.stop();
    connection.assert_silent(QUIET);
    kafka.release_topic("out.a");
    connection.expect_pubacks([1, 2]);
    assert_eq!(connection.expect_disconnect(), 0);
    worker.wait_ended();
}

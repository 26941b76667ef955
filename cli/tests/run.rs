//! `millrace run` as a supervisor sees it: JSON lines, signals, exit codes. The MQTT broker is an embedded one, Kafka
//! is librdkafka's mock cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_testkit::{no_forks, spawn, wait_until};
use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, MqttBroker};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

/// An MQTT broker on a thread of its own, for as long as the test runs.
fn broker() -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            let storage = StorageConfig::new().with_backend(StorageBackend::Memory);
            let config = BrokerConfig::new()
                .with_bind_address(([127, 0, 0, 1], 0))
                .with_storage(storage);
            let mut broker = MqttBroker::with_config(config).await.expect("a broker");
            tell.send(broker.local_addr().expect("an address"))
                .expect("the test listens");
            broker.run().await.expect("the broker runs");
        });
    });
    told.recv_timeout(DEADLINE).expect("a broker")
}

fn kafka() -> MockCluster<'static, DefaultProducerContext> {
    MockCluster::new(1).expect("a mock cluster")
}

/// An address at which nobody listens.
fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// A running `millrace run`. Killed if the test ends before it does.
struct Run {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    _dir: tempfile::TempDir,
}

impl Run {
    fn start(broker: SocketAddr, bootstrap: &str, to: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let manifests = manifests(dir.path(), broker, bootstrap, to);
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.arg("run").arg("-f").arg(manifests).stdout(Stdio::piped());
        let mut child = spawn(&mut command).expect("millrace runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self {
            child,
            lines,
            _dir: dir,
        }
    }

    /// The next line for which `wanted` holds. Lines come at least every few seconds, so the deadline is looked at.
    fn line(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            let line = self
                .lines
                .next()
                .unwrap_or_else(|| panic!("{what}: millrace has ended"))
                .expect("a line");
            let value: Value = serde_json::from_str(&line).expect("a JSON line");
            if wanted(&value) {
                return value;
            }
        }
        panic!("{what}: not within {DEADLINE:?}");
    }

    fn ready(&mut self) {
        self.line("ready", |line| {
            line["routes"][0]["ready"] == true && line["routes"][0]["phase"] == "Running"
        });
    }

    /// Sends SIGTERM.
    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = spawn(Command::new("kill").args(["-TERM", &pid])).and_then(|mut kill| kill.wait());
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Waits for the end. The last line and the exit code.
    fn end(mut self) -> (Value, Option<i32>) {
        let line = self.line("the end", |line| line["event"] == "ended");
        assert!(self.lines.next().is_none(), "nothing comes after the last line");
        (line, self.child.wait().expect("an exit code").code())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// `millrace run` on a terminal of 120 columns, and whoever sits there: `script` of bsdutils is both.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    /// All that it has shown, without colours.
    shown: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl Terminal {
    fn start(broker: SocketAddr, bootstrap: &str, to: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let manifests = manifests(dir.path(), broker, bootstrap, to);
        let run = format!(
            "stty cols 120 rows 30; exec {} run -f {}",
            env!("CARGO_BIN_EXE_millrace"),
            manifests.display()
        );
        let mut command = Command::new("script");
        command.args(["--quiet", "--flush", "--return", "--command", &run, "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = spawn(&mut command).expect("script runs");
        let keys = script.stdin.take().expect("a pipe");
        let mut screen = script.stdout.take().expect("a pipe");
        let shown = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&shown);
        let reader = std::thread::spawn(move || {
            let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                all.extend_from_slice(&buffer[..count]);
                *into.lock().unwrap_or_else(PoisonError::into_inner) = plain(&all);
            }
        });
        Self {
            script,
            keys,
            shown,
            reader: Some(reader),
            _dir: dir,
        }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn wait_for(&self, text: &str) {
        wait_until(DEADLINE, text, || self.shown().contains(text));
    }

    /// Waits for a row of the table in which the route is in this state and has so many messages in flight.
    fn wait_for_row(&self, state: &str, in_flight: &str) {
        wait_until(DEADLINE, &format!("{in_flight} in flight, {state}"), || {
            self.shown().lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                matches!(words[..], ["readings", its, _, _, waiting, ..] if its == state && waiting == in_flight)
            })
        });
    }

    fn press_ctrl_c(&mut self) {
        self.keys.write_all(b"\x03").expect("a terminal");
    }

    /// Waits for the end. What was shown and the exit code.
    fn end(mut self) -> (String, Option<i32>) {
        let mut code = None;
        wait_until(DEADLINE, "the end", || {
            code = self.script.try_wait().expect("a child");
            code.is_some()
        });
        let read = self.reader.take().map(JoinHandle::join);
        assert!(read.is_some_and(|read| read.is_ok()));
        (self.shown(), code.and_then(|status| status.code()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        self.script.kill().ok();
        self.script.wait().ok();
    }
}

/// What a terminal shows, without what colours it and moves the cursor.
fn plain(shown: &[u8]) -> String {
    let shown = String::from_utf8_lossy(shown);
    let mut parts = shown.split("\x1b[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part
            .find(|c: char| c.is_ascii_alphabetic())
            .map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain
}

fn manifests(dir: &Path, broker: SocketAddr, bootstrap: &str, to: &str) -> PathBuf {
    let text = format!(
        r#"
apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {{name: plant}}
spec: {{urls: ["mqtt://{broker}"]}}
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {{name: main}}
spec: {{bootstrapServers: ["{bootstrap}"]}}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: readings}}
spec:
  from:
    mqtt: {{brokerRef: {{name: plant}}, subscriptions: [{{filter: readings/+machine}}], ordering: PerTopic, lanes: 1}}
  to:
    kafka: {{sinkRef: {{name: main}}, {to}}}
"#
    );
    let path = dir.join("manifests.yaml");
    std::fs::write(&path, text).expect("a file");
    path
}

/// Publishes `n` messages with QoS 1 and waits for the broker's acknowledgements.
fn publish(broker: SocketAddr, topic: &str, n: usize) {
    let mut options = MqttOptions::new("publisher", broker.ip().to_string(), broker.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = Client::new(options, n + 1);
    for i in 0..n {
        client
            .publish(topic, QoS::AtLeastOnce, false, format!("{i}"))
            .expect("room for it");
    }
    let acks = connection.iter().map(|event| event.expect("a connection"));
    let acks = acks.filter(|event| matches!(event, Event::Incoming(Packet::PubAck(_))));
    assert_eq!(acks.take(n).count(), n);
}

#[test]
fn sigterm_drains_and_the_last_line_holds_the_ledger() {
    let (broker, kafka) = (broker(), kafka());
    let mut run = Run::start(broker, &kafka.bootstrap_servers(), "topic: readings");
    run.ready();
    publish(broker, "readings/saw", 500);
    run.line("all written", |line| {
        line["routes"][0]["ledger"]["written"] == 500
    });
    run.terminate();
    run.line("draining", |line| line["event"] == "draining");
    let (last, code) = run.end();
    assert_eq!(
        (code, &last["exitCode"], &last["waiting"]),
        (Some(0), &Value::from(0), &Value::from(0))
    );
    assert_eq!(last["routes"][0]["phase"], "Ended");
    assert_eq!(last["routes"][0]["ledger"]["received"], 500);
}

#[test]
fn a_second_signal_gives_up_and_says_how_many_messages_stay_at_the_broker() {
    let (broker, kafka) = (broker(), kafka());
    let mut run = Run::start(broker, &kafka.bootstrap_servers(), "topic: readings");
    run.ready();
    {
        // It takes its port again, and ends this process when it cannot.
        let _no_copy = no_forks();
        kafka.broker_down(1).expect("the broker goes");
    }
    publish(broker, "readings/saw", 20);
    run.line("in flight", |line| line["waiting"] == 20);
    run.terminate();
    run.line("waiting for Kafka", |line| {
        line["event"] == "draining" && line["waiting"] == 20
    });
    run.terminate();
    let (last, code) = run.end();
    assert_eq!(
        (code, &last["exitCode"], &last["waiting"]),
        (Some(2), &Value::from(2), &Value::from(20)),
        "{last:#}"
    );
}

#[test]
fn on_a_terminal_ctrl_c_drains_and_says_how_far_it_is_and_another_gives_up() {
    let (broker, kafka) = (broker(), kafka());
    let mut terminal = Terminal::start(broker, &kafka.bootstrap_servers(), "topic: readings");
    terminal.wait_for("Ctrl-C drains and ends");
    terminal.wait_for_row("running", "0");
    {
        // It takes its port again, and ends this process when it cannot.
        let _no_copy = no_forks();
        kafka.broker_down(1).expect("the broker goes");
    }
    publish(broker, "readings/saw", 20);
    terminal.wait_for_row("running", "20");
    terminal.press_ctrl_c();
    terminal.wait_for("Waiting for 20 messages to be confirmed by Kafka ... Ctrl-C gives up");
    terminal.press_ctrl_c();
    let (shown, code) = terminal.end();
    let last = "20 messages not confirmed by Kafka: still at the MQTT broker, to be sent again.";
    assert!(code == Some(2) && shown.contains(last), "{code:?}: {shown}");
}

#[test]
fn on_a_terminal_ctrl_c_ends_when_nothing_waits() {
    let (broker, kafka) = (broker(), kafka());
    let mut terminal = Terminal::start(broker, &kafka.bootstrap_servers(), "topic: readings");
    terminal.wait_for_row("running", "0");
    terminal.press_ctrl_c();
    let (shown, code) = terminal.end();
    assert!(
        code == Some(0) && shown.contains("Drained: every message received is accounted for."),
        "{code:?}: {shown}"
    );
}

#[test]
fn a_route_that_stops_at_a_message_ends_the_process_with_its_reason() {
    let (broker, kafka) = (broker(), kafka());
    let to = r#"topic: "readings.{machine}", allowedTopics: [readings.saw]"#;
    let mut run = Run::start(broker, &kafka.bootstrap_servers(), to);
    run.ready();
    publish(broker, "readings/oven", 1);
    run.line("stopped", |line| {
        line["routes"][0]["problems"][0]["reason"] == "MessageUndeliverable"
    });
    let (last, code) = run.end();
    assert_eq!((code, &last["exitCode"]), (Some(3), &Value::from(3)), "{last:#}");
}

#[test]
fn problems_are_told_in_words_as_soon_as_they_appear() {
    let mut run = Run::start(broker(), &nowhere(), "topic: readings");
    let line = run.line("a problem", |line| {
        line["routes"][0]["problems"][0]["reason"] == "KafkaUnreachable"
    });
    assert!(
        line["routes"][0]["problems"][0]["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    run.terminate();
    let (_, code) = run.end();
    assert_eq!(code, Some(0), "nothing was received, so nothing is left");
}

//! `millrace redrive`: dead letters that a route has written, through the corrected route again. With a real broker and a
//! real Kafka.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use millrace_testkit::{Authority, Kafka, Mosquitto, Process, consume, spawn, wait_until};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, Publish};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};

const DEADLINE: Duration = Duration::from_secs(60);
const PASSWORD: &str = "canary-of-a-password";

/// A broker, a Kafka, two topics, and a place for manifests.
struct Plant {
    mosquitto: Mosquitto,
    /// None: that of all tests.
    own: Option<Kafka>,
    /// How it is reached.
    sink: String,
    topic: String,
    dead: String,
    folder: tempfile::TempDir,
}

impl Plant {
    fn start() -> Self {
        let sink = format!("{{bootstrapServers: [\"{}\"]}}", Kafka::shared().bootstrap());
        Self::with(None, sink)
    }

    /// One whose Kafka takes TLS and a password alone from those that are not tests.
    fn secured() -> Self {
        let authority = Authority::new("plant");
        let server = authority.issue("kafka", &["localhost", "127.0.0.1"]);
        let kafka = Kafka::builder()
            .listener("LOGIN", "SASL_SSL")
            .property("listener.name.login.sasl.enabled.mechanisms", "SCRAM-SHA-512")
            .property(
                "listener.name.login.scram-sha-512.sasl.jaas.config",
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",
            )
            .property("listener.name.login.ssl.keystore.type", "PEM")
            .property(
                "listener.name.login.ssl.keystore.location",
                &server.both().display().to_string(),
            )
            .scram("SCRAM-SHA-512", "plant", PASSWORD)
            .start();
        let sink = format!(
            "{{bootstrapServers: [\"{}\"], tls: {{ca: {{secretKeyRef: {{name: kafka, key: ca.crt}}}}}}, \
             sasl: {{mechanism: SCRAM-SHA-512, basic: {{secretRef: {{name: kafka}}, username: plant}}}}}}",
            kafka.listener("LOGIN")
        );
        let plant = Self::with(Some(kafka), sink);
        let secret = plant.folder.path().join("kafka");
        std::fs::create_dir(&secret).expect("a folder");
        std::fs::copy(authority.certificate(), secret.join("ca.crt")).expect("a file");
        std::fs::write(secret.join("password"), PASSWORD).expect("a file");
        plant
    }

    fn with(own: Option<Kafka>, sink: String) -> Self {
        let kafka = own.as_ref().unwrap_or_else(|| Kafka::shared());
        Self {
            mosquitto: Mosquitto::builder().start(),
            topic: kafka.unique_topic("redriven", 2),
            dead: kafka.unique_topic("dead", 3),
            folder: tempfile::tempdir().expect("a folder"),
            own,
            sink,
        }
    }

    fn kafka(&self) -> &Kafka {
        self.own.as_ref().unwrap_or_else(|| Kafka::shared())
    }

    /// Manifests with a route of this spec; `{topic}` is the topic.
    fn manifests(&self, name: &str, spec: &str) -> PathBuf {
        let path = self.folder.path().join(format!("{name}.yaml"));
        let text = format!(
            "apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {{name: plant}}
spec: {{urls: [mqtt://{}]}}
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {{name: main}}
spec: {}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: {name}}}
spec:
  onError: {{action: DeadLetter, deadLetter: {{topic: {}}}}}
{}",
            self.mosquitto.address(),
            self.sink,
            self.dead,
            spec.replace("TOPIC", &self.topic)
        );
        std::fs::write(&path, text).expect("a file");
        path
    }

    /// Runs manifests until there are so many dead letters.
    fn run(&self, manifests: &PathBuf, give: impl FnOnce(), letters: u64) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
        command.arg("run").arg("-f").arg(manifests);
        command.arg("--secret-dir").arg(self.folder.path());
        let mut process = Process::spawn("millrace", command);
        give();
        wait_until(DEADLINE, &format!("{letters} dead letters"), || {
            self.kafka().end_offsets(&self.dead) == letters
        });
        process.terminate();
        process.wait(DEADLINE);
    }

    /// The values in the topic, sorted, if there are so many records and no more.
    fn values(&self, count: usize) -> Vec<String> {
        assert_eq!(self.kafka().end_offsets(&self.topic), count as u64);
        let records = consume(&self.kafka().bootstrap(), &self.topic, count, DEADLINE);
        let mut values: Vec<String> = records.iter().map(|record| record.text().to_owned()).collect();
        values.sort();
        values
    }

    fn client(&self, name: &str) -> (Client, Connection) {
        let mut options = MqttOptions::new(name, "127.0.0.1", self.mosquitto.port());
        options.set_keep_alive(Duration::from_secs(30));
        Client::new(options, 100)
    }
}

fn redrive(manifests: &PathBuf, route: &str, more: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millrace"));
    command
        .arg("redrive")
        .arg(manifests)
        .args(["--route", route])
        .args(more);
    let Output {
        status,
        stdout,
        stderr,
    } = spawn(
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
    )
    .and_then(std::process::Child::wait_with_output)
    .expect("millrace runs");
    let text = [stdout, stderr].concat();
    (status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// Publishes all, in order, and waits until the broker has answered. Whether somebody is subscribed.
fn publish(plant: &Plant, messages: &[&str]) -> bool {
    publish_to(plant, "readings/press", messages)
}

fn publish_to(plant: &Plant, topic: &str, messages: &[&str]) -> bool {
    let (client, mut connection) = plant.client("publisher");
    for message in messages {
        client
            .publish(topic, QoS::AtLeastOnce, false, message.to_string())
            .expect("room");
    }
    let answers = connection
        .iter()
        .filter_map(|event| match event.expect("a connection") {
            Event::Incoming(Packet::PubAck(ack)) => Some(ack.reason),
            _ => None,
        });
    answers
        .take(messages.len())
        .all(|reason| reason == PubAckReason::Success)
}

const FROM: &str = "mqtt: {brokerRef: {name: plant}, subscriptions: [{filter: readings/+machine}], ordering: PerTopic, lanes: 1";

#[test]
fn letters_go_again_once_and_what_still_fails_is_not_forgotten() {
    let plant = Plant::start();
    let route = |format: &str, value: &str| {
        format!(
            "  from: {{{FROM}, payload: {{format: {format}}}}}}}
  to: {{kafka: {{sinkRef: {{name: main}}, topic: TOPIC{value}}}}}
"
        )
    };
    let wrong = plant.manifests(
        "readings",
        &route("Text", ", value: 'string(1 / (int(payload) - int(payload)))'"),
    );
    let give = || {
        wait_until(DEADLINE, "a subscriber", || publish(&plant, &["0"]));
        publish(&plant, &["1", "two", "3", "four", "5"]);
    };
    plant.run(&wrong, give, 6);

    let (code, text) = redrive(&wrong, "readings", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("6 still failing with ExpressionFailed"), "{text}");

    // It takes numbers only: two letters still fail.
    let better = plant.manifests("readings", &route("Text", ", value: 'string(int(payload) * 2)'"));
    let (code, text) = redrive(&better, "readings", &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("4 would go to") && text.contains("2 still failing"),
        "{text}"
    );
    assert!(text.contains("nothing was delivered: add --execute"), "{text}");
    assert_eq!(plant.values(0), [] as [String; 0]);

    let (code, text) = redrive(&better, "readings", &["--execute"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("correct the route, or pass such letters over"),
        "{text}"
    );
    assert_eq!(plant.values(2), ["0", "2"]);

    let (code, text) = redrive(&better, "readings", &["--execute", "--skip-failing"]);
    assert_eq!(code, Some(1), "two are left: {text}");
    assert_eq!(plant.values(4), ["0", "10", "2", "6"]);

    // It takes all: the two that were passed over go, and no other.
    let best = plant.manifests("readings", &route("Text", ""));
    let (code, text) = redrive(&best, "readings", &["--execute", "--reason", "Other"]);
    assert_eq!((code, text.trim()), (Some(0), "no dead letters to redrive"));
    let (code, text) = redrive(&best, "readings", &["--execute"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("2 delivered to"), "{text}");
    assert_eq!(plant.values(6), ["0", "10", "2", "6", "four", "two"]);
    let (code, text) = redrive(&best, "readings", &["--execute"]);
    assert_eq!((code, text.trim()), (Some(0), "no dead letters to redrive"));
    assert_eq!(
        Kafka::shared().end_offsets(&plant.dead),
        6,
        "nothing is written there"
    );
}

#[test]
fn letters_of_commands_reach_the_devices_with_their_properties() {
    let plant = Plant::start();
    let route = |allowed: &str| {
        format!(
            "  from: {{kafka: {{sinkRef: {{name: main}}, topics: [TOPIC], start: Earliest}}}}
  to: {{mqtt: {{brokerRef: {{name: plant}}, topic: 'plants/{{record.key}}/cmd', allowedTopics: [{allowed}], qos: QOS}}}}
"
        )
    };
    let wrong = plant.manifests("commands", &route("plants/none/cmd").replace("QOS", "1"));
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", Kafka::shared().bootstrap())
        .create()
        .expect("a producer");
    let correlation: &[u8] = &[0xff, 0, 7];
    for number in 0..4 {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "mqtt.correlationData",
                value: Some(correlation),
            })
            .insert(Header {
                key: "mqtt.contentType",
                value: Some("text/plain"),
            });
        let (key, value) = ("press", format!("command {number}"));
        let record = BaseRecord::to(&plant.topic)
            .key(key)
            .payload(&value)
            .headers(headers);
        producer.send(record).map_err(|(error, _)| error).expect("room");
    }
    producer.flush(DEADLINE).expect("Kafka has them");
    plant.run(&wrong, || {}, 4);

    let (client, mut connection) = plant.client("device");
    client.subscribe("plants/+/cmd", QoS::ExactlyOnce).expect("room");
    let subscribed = connection.iter().find(|event| {
        matches!(
            event.as_ref().expect("a connection"),
            Event::Incoming(Packet::SubAck(_))
        )
    });
    assert!(subscribed.is_some());
    for (qos, limit, count) in [("1", "2", 2), ("2", "2", 2)] {
        let right = plant.manifests("commands", &route("plants/+/cmd").replace("QOS", qos));
        let (code, text) = redrive(&right, "default/commands", &["--execute", "--limit", limit]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("2 delivered to plants/press/cmd"), "{text}");
        let commands = connection
            .iter()
            .filter_map(|event| match event.expect("a connection") {
                Event::Incoming(Packet::Publish(publish)) => Some(publish),
                _ => None,
            });
        let commands: Vec<Publish> = commands.take(count).collect();
        for command in &commands {
            let properties = command.properties.clone().expect("properties");
            assert_eq!(properties.correlation_data.as_deref(), Some(correlation));
            assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
            assert!(command.payload.starts_with(b"command "));
        }
    }
    let right = plant.manifests("commands", &route("plants/+/cmd").replace("QOS", "1"));
    let (code, text) = redrive(&right, "default/commands", &["--execute"]);
    assert_eq!((code, text.trim()), (Some(0), "no dead letters to redrive"));
}

#[test]
fn letters_of_one_reason_go_again_no_faster_than_asked_to_a_kafka_that_wants_tls_and_a_password() {
    let plant = Plant::secured();
    let route = |topic: &str, value: &str| {
        format!(
            "  from: {{{FROM}, payload: {{format: Text}}}}}}
  to: {{kafka: {{sinkRef: {{name: main}}, topic: {topic}, allowedTopics: [TOPIC], value: '{value}'}}}}
"
        )
    };
    // Topics of other machines than this one are forbidden, and no value can be made of what it says.
    let wrong = plant.manifests("readings", &route("'{machine}'", "string(int(payload))"));
    let forbidden = ["a", "b", "c"];
    let failing: Vec<String> = (0..20).map(|number| format!("value {number:02}")).collect();
    let failing: Vec<&str> = failing.iter().map(String::as_str).collect();
    let give = || {
        wait_until(DEADLINE, "a subscriber", || publish(&plant, &["0"]));
        publish(&plant, &forbidden);
        publish_to(&plant, &format!("readings/{}", plant.topic), &failing);
    };
    plant.run(&wrong, give, 1 + 3 + 20);

    let secrets = plant.folder.path().display().to_string();
    let secrets = ["--secret-dir", &secrets];
    let right = plant.manifests("readings", &route("TOPIC", "payload"));
    let only = ["--execute", "--reason", "ExpressionFailed", "--rate", "10"];
    let started = Instant::now();
    let (code, text) = redrive(&right, "readings", &[&only[..], &secrets].concat());
    // Nineteen pauses of a tenth of a second.
    assert!(
        started.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(plant.values(20), failing);

    let (code, text) = redrive(&right, "readings", &[&["--execute"][..], &secrets].concat());
    assert_eq!(code, Some(0), "{text}");
    let mut all = ["0"]
        .into_iter()
        .chain(forbidden)
        .chain(failing)
        .collect::<Vec<_>>();
    all.sort_unstable();
    assert_eq!(plant.values(24), all);
    assert!(!text.contains(PASSWORD), "{text}");
}

#[test]
fn a_kafka_that_wants_tokens_is_refused_beforehand() {
    let sink = "{bootstrapServers: [\"localhost:1\"], tls: {}, sasl: {mechanism: OAUTHBEARER, oauthBearer: {token: {audience: kafka}}}}";
    let plant = Plant::with(None, sink.to_owned());
    let token = plant.folder.path().join("token");
    std::fs::create_dir(&token).expect("a folder");
    std::fs::write(token.join("kafka"), "e30.e30.x").expect("a file");
    let manifests = plant.manifests(
        "readings",
        &format!("  from: {{{FROM}}}}}\n  to: {{kafka: {{sinkRef: {{name: main}}, topic: TOPIC}}}}\n"),
    );
    let secrets = plant.folder.path().display().to_string();
    let (code, text) = redrive(&manifests, "readings", &["--secret-dir", &secrets]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("with a password or a certificate"), "{text}");
}

//! `millrace redrive`: dead letters that a route has written, through the corrected route again. With a real broker and a
//! real Kafka.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use millrace_testkit::{Kafka, Mosquitto, Process, consume, spawn, wait_until};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, Publish};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};

const DEADLINE: Duration = Duration::from_secs(60);

/// A broker, two topics, and a place for manifests.
struct Plant {
    mosquitto: Mosquitto,
    topic: String,
    dead: String,
    folder: tempfile::TempDir,
}

impl Plant {
    fn start() -> Self {
        let kafka = Kafka::shared();
        Self {
            mosquitto: Mosquitto::builder().start(),
            topic: kafka.unique_topic("redriven", 2),
            dead: kafka.unique_topic("dead", 3),
            folder: tempfile::tempdir().expect("a folder"),
        }
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
spec: {{bootstrapServers: [\"{}\"]}}
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: {name}}}
spec:
  onError: {{action: DeadLetter, deadLetter: {{topic: {}}}}}
{}",
            self.mosquitto.address(),
            Kafka::shared().bootstrap(),
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
        let mut process = Process::spawn("millrace", command);
        give();
        wait_until(DEADLINE, &format!("{letters} dead letters"), || {
            Kafka::shared().end_offsets(&self.dead) == letters
        });
        process.terminate();
        process.wait(DEADLINE);
    }

    /// The values in the topic, sorted, if there are so many records and no more.
    fn values(&self, count: usize) -> Vec<String> {
        assert_eq!(Kafka::shared().end_offsets(&self.topic), count as u64);
        let records = consume(&Kafka::shared().bootstrap(), &self.topic, count, DEADLINE);
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
    let (client, mut connection) = plant.client("publisher");
    for message in messages {
        client
            .publish("readings/press", QoS::AtLeastOnce, false, message.to_string())
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

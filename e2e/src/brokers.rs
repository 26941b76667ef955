use std::net::SocketAddr;

use crate::kubectl::{kubectl, kubectl_with};
use crate::namespace::restrict;
use crate::outside::{manifests_with, node_port, wait_listens};

/// The namespace of the brokers, which all tests use.
pub const BROKERS: &str = "e2e-brokers";

/// An MQTT broker in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mqtt {
    /// Has a queue for each session, in share groups too, and drops what is in it with the session.
    #[default]
    Mosquitto,
    /// Has one queue for a share group.
    HiveMq,
}

impl Mqtt {
    /// The name of its StatefulSet and its Service.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mosquitto => "mosquitto",
            Self::HiveMq => "hivemq",
        }
    }

    /// The folder of its manifests: `cargo test` runs tests in the folder of their crate.
    fn manifests(self) -> &'static str {
        match self {
            Self::Mosquitto => "kind/brokers",
            Self::HiveMq => "kind/brokers/hivemq",
        }
    }
}

/// What HiveMQ counts.
fn hivemq<const N: usize>(names: [&str; N]) -> [u64; N] {
    let metrics = format!("/api/v1/namespaces/{BROKERS}/pods/hivemq-0:8080/proxy/");
    let metrics = kubectl(&["get", "--raw", &metrics]);
    names.map(|name| {
        let name = format!("com.hivemq.{name}.current ");
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
        count.expect("the metric").parse().expect("a number")
    })
}

/// Starts an MQTT broker and Kafka in a namespace, unless they run, by the manifests in folders. Returns where clients on this
/// machine reach them.
pub fn start_brokers(namespace: &str, mqtt: &str, folders: &[&str]) -> [SocketAddr; 2] {
    let addresses = [(mqtt, 1883), ("kafka", 9094)].map(|(app, port)| node_port(namespace, app, port));
    for folder in folders {
        let manifests = manifests_with(folder, addresses[1]);
        kubectl_with(&["apply", "-n", namespace, "-f", "-"], &manifests);
    }
    for set in [mqtt, "kafka"] {
        let set = format!("statefulset/{set}");
        kubectl(&["rollout", "status", "-n", namespace, &set, "--timeout=180s"]);
    }
    addresses.into_iter().for_each(wait_listens);
    addresses
}

/// An MQTT broker and Kafka inside the cluster, and the way to them.
#[derive(Debug)]
pub struct Brokers {
    server: Mqtt,
    mqtt: SocketAddr,
    kafka: SocketAddr,
}

impl Brokers {
    /// Starts mosquitto and Kafka, unless they run.
    pub fn start() -> Self {
        Self::start_with(Mqtt::Mosquitto)
    }

    /// Starts an MQTT broker and Kafka, unless they run.
    pub fn start_with(server: Mqtt) -> Self {
        restrict(BROKERS);
        // Kafka's manifests are beside those of mosquitto.
        let folders = [Mqtt::Mosquitto.manifests(), server.manifests()];
        let [mqtt, kafka] = start_brokers(BROKERS, server.name(), &folders);
        Self { server, mqtt, kafka }
    }

    /// Which MQTT broker it is.
    pub fn server(&self) -> Mqtt {
        self.server
    }

    /// The MQTT broker, for clients on this machine.
    pub fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    /// Kafka, for clients on this machine.
    pub fn bootstrap(&self) -> String {
        self.kafka.to_string()
    }

    /// How many sessions the MQTT broker has, whoever's they are. None if it does not say: mosquitto counts whoever asks as well.
    pub fn sessions(&self) -> Option<u64> {
        if self.server != Mqtt::HiveMq {
            return None;
        }
        let [sessions] = hivemq(["sessions.overall"]);
        Some(sessions)
    }

    /// How many sessions it has that nobody is connected to, whoever's they are.
    pub fn sessions_left(&self) -> u64 {
        match self.server {
            Mqtt::HiveMq => {
                let [sessions, connections] = hivemq(["sessions.overall", "networking.connections"]);
                // Not counted at one moment.
                sessions.saturating_sub(connections)
            }
            Mqtt::Mosquitto => {
                let topic = "$SYS/broker/clients/disconnected";
                let said = self.in_mosquitto(&["mosquitto_sub", "-C", "1", "-W", "10", "-t", topic]);
                said.trim().parse().expect("a number")
            }
        }
    }

    /// What a command inside mosquitto's pod prints.
    pub fn in_mosquitto(&self, command: &[&str]) -> String {
        kubectl(&[&["exec", "-n", BROKERS, "mosquitto-0", "--"], command].concat())
    }
}

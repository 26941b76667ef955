use millrace_testkit::Port;

use crate::forward::Forward;
use crate::kubectl::kubectl;
use crate::namespace::restrict;

/// The namespace of mosquitto and Kafka, which all tests use.
pub const BROKERS: &str = "e2e-brokers";

/// `cargo test` runs tests in the folder of their crate.
const MANIFESTS: &str = "kind/brokers";

/// mosquitto and Kafka inside the cluster, and the way to them.
#[derive(Debug)]
pub struct Brokers {
    mqtt: Forward,
    kafka: Forward,
}

impl Brokers {
    /// Starts them, unless they run.
    pub fn start() -> Self {
        restrict(BROKERS);
        kubectl(&["apply", "-n", BROKERS, "-f", MANIFESTS]);
        for set in ["statefulset/mosquitto", "statefulset/kafka"] {
            kubectl(&["rollout", "status", "-n", BROKERS, set, "--timeout=180s"]);
        }
        Self {
            mqtt: Forward::start(BROKERS, "service/mosquitto", Port::free().number(), 1883),
            // The address that Kafka tells clients outside.
            kafka: Forward::start(BROKERS, "pod/kafka-0", 9094, 9094),
        }
    }

    /// The port of this machine that leads to mosquitto.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt.port()
    }

    /// Kafka, for clients on this machine.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka.port())
    }

    /// What a command inside mosquitto's pod prints.
    pub fn in_mosquitto(&self, command: &[&str]) -> String {
        kubectl(&[&["exec", "-n", BROKERS, "mosquitto-0", "--"], command].concat())
    }
}

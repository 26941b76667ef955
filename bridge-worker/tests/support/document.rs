//! The document of a worker, with the settings that matter to these tests.

use millrace_contract::{
    Broker, Compression, Document, ErrorAction, Lanes, Live, Mapping, OnError, Ordering, PayloadFormat,
    Producer, ProtocolVersion, RouteId, Settings, SharedSubscriptions, Sink, Source, Subscription, Timeouts,
    VERSION,
};
use std::collections::BTreeMap;

/// The topics of a route are in so many parts, each with a filter of its own where there are several lanes: enough that
/// every lane has some.
const PARTS: u32 = 8;

/// A route from `<name>/...` at an MQTT broker on the loopback address to one Kafka topic, keyed by the MQTT topic.
#[derive(Clone, Debug)]
pub struct Route {
    pub name: String,
    /// Where the MQTT broker, or the network in front of it, listens.
    pub mqtt_port: u16,
    /// `bootstrap.servers`.
    pub kafka: String,
    /// The Kafka topic.
    pub topic: String,
    pub qos: u8,
    pub ordering: Ordering,
    pub lanes: u16,
    /// Short, so that a network which swallows everything is noticed within seconds.
    pub keep_alive_seconds: u16,
    pub linger_ms: u64,
}

impl Route {
    /// QoS 1, one lane that reads one filter, a keep-alive of 3 seconds, a linger of 5 milliseconds.
    pub fn new(name: &str, mqtt_port: u16, kafka: &str, topic: &str) -> Route {
        Route {
            name: name.into(),
            mqtt_port,
            kafka: kafka.into(),
            topic: topic.into(),
            qos: 1,
            ordering: Ordering::PerTopic,
            lanes: 1,
            keep_alive_seconds: 3,
            linger_ms: 5,
        }
    }

    /// The MQTT topic of a key: with several lanes, each reads some of the parts.
    pub fn topic_of(name: &str) -> impl Fn(u32) -> String + Send + Sync + 'static {
        let name = name.to_owned();
        move |key| format!("{name}/{}/{key}", key % PARTS)
    }

    /// As the worker reads it.
    pub fn document(&self) -> Document {
        let filters = match self.ordering {
            Ordering::PerTopic if self.lanes > 1 => (0..PARTS)
                .map(|part| format!("{}/{part}/+key", self.name))
                .collect(),
            _ => vec![format!("{}/+part/+key", self.name)],
        };
        Document {
            settings: Settings {
                version: VERSION,
                route: RouteId {
                    namespace: "tests".into(),
                    name: self.name.clone(),
                    uid: None,
                    session_id: self.name.clone(),
                },
                broker: Broker {
                    urls: vec![format!("mqtt://127.0.0.1:{}", self.mqtt_port)],
                    protocol_version: ProtocolVersion::Auto,
                    credentials: None,
                    client_id_prefix: "millrace".into(),
                    session_expiry_seconds: 3_600,
                    keep_alive_seconds: self.keep_alive_seconds,
                    receive_maximum: 10_000,
                    shared_subscriptions: SharedSubscriptions::Auto,
                },
                lanes: Lanes {
                    count: self.lanes,
                    ordering: self.ordering,
                },
                sink: Sink {
                    bootstrap_servers: vec![self.kafka.clone()],
                    librdkafka: BTreeMap::new(),
                    topics: Vec::new(),
                    producer: Producer {
                        linger_ms: self.linger_ms,
                        compression: Compression::None,
                    },
                },
            },
            live: Live {
                source: Source {
                    subscriptions: filters
                        .into_iter()
                        .map(|filter| Subscription { filter })
                        .collect(),
                    qos: self.qos,
                    payload: PayloadFormat::Bytes,
                },
                mapping: Mapping {
                    when: None,
                    topic: self.topic.clone(),
                    allowed_topics: vec![self.topic.clone()],
                    key: "{message.topic}".into(),
                    headers: BTreeMap::new(),
                    propagate: Vec::new(),
                    value: None,
                },
                retired: Vec::new(),
                on_error: OnError {
                    action: ErrorAction::Stop,
                    dead_letter_topic: None,
                },
                max_message_bytes: 1 << 20,
                timeouts: Timeouts {
                    drain_ms: 30_000,
                    failover_ms: 15_000,
                },
            },
        }
    }
}

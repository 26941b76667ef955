//! The document of a worker, with the settings that matter to these tests.

use millrace_contract::survey::Survey;
use millrace_contract::{
    Broker, Compression, Consumer, Document, ErrorAction, FAILBACK_MS, Lanes, Live, LiveToMqtt, Mapping,
    NoMatchingSubscribers, OnError, Ordering, PayloadFormat, Producer, ProtocolVersion, Publishing, RouteId,
    Settings, SharedSubscriptions, Sink, Source, Start, Subscription, Timeouts, VERSION,
};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::xxh3_64_with_seed;

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

    /// The MQTT topic of a key: with two lanes, each reads every other key.
    pub fn topic_of(name: &str) -> impl Fn(u32) -> String + Send + Sync + 'static {
        let halves = halves(name);
        move |key| format!("{}/{key}", halves[key as usize % 2])
    }

    /// As the worker reads it.
    pub fn document(&self) -> Document {
        let filters = match self.ordering {
            Ordering::PerTopic if self.lanes > 1 => {
                halves(&self.name).map(|half| format!("{half}/+key")).into()
            }
            _ => vec![format!("{}/+half/+key", self.name)],
        };
        Document {
            settings: self.settings(None),
            live: Live {
                source: Source {
                    subscriptions: filters
                        .into_iter()
                        .map(|filter| Subscription { filter })
                        .collect(),
                    qos: self.qos,
                    payload: PayloadFormat::Bytes,
                },
                lanes: Lanes {
                    count: self.lanes,
                    ordering: self.ordering,
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
                    skip: Vec::new(),
                },
                max_message_bytes: 1 << 20,
                timeouts: Timeouts {
                    drain_ms: 30_000,
                    failover_ms: 15_000,
                },
                survey: Survey::default(),
            },
        }
    }

    /// The other way: from the Kafka topic, read from its beginning, to `<name>/<the record's key>`.
    pub fn delivery(&self) -> Document<LiveToMqtt> {
        Document {
            settings: self.settings(Some(Consumer {
                topics: vec![self.topic.clone()],
                group: self.group(),
                start: Start::Earliest,
            })),
            live: LiveToMqtt {
                payload: PayloadFormat::Bytes,
                publishing: Publishing {
                    qos: self.qos,
                    no_matching_subscribers: NoMatchingSubscribers::Wait,
                    ..Publishing::to(
                        format!("{}/{{record.key}}", self.name),
                        vec![format!("{}/+", self.name)],
                    )
                },
                on_error: OnError {
                    action: ErrorAction::Stop,
                    dead_letter_topic: None,
                    skip: Vec::new(),
                },
                max_message_bytes: 1 << 20,
                timeouts: Timeouts {
                    drain_ms: 30_000,
                    // As short as Kafka allows.
                    failover_ms: 6_000,
                },
                survey: Survey::default(),
            },
        }
    }

    /// The consumer group of [`Route::delivery`].
    pub fn group(&self) -> String {
        format!("millrace.tests.{}", self.name)
    }

    fn settings(&self, consumer: Option<Consumer>) -> Settings {
        Settings {
            version: VERSION,
            route: RouteId {
                namespace: "tests".into(),
                name: self.name.clone(),
                uid: None,
                session_id: self.name.clone(),
            },
            broker: Broker {
                tls: None,
                urls: vec![format!("mqtt://127.0.0.1:{}", self.mqtt_port)],
                protocol_version: ProtocolVersion::Auto,
                credentials: None,
                client_id_prefix: "millrace".into(),
                session_expiry_seconds: 3_600,
                keep_alive_seconds: self.keep_alive_seconds,
                receive_maximum: 10_000,
                failback_ms: FAILBACK_MS,
                shared_subscriptions: SharedSubscriptions::Auto,
            },
            sink: Sink {
                tls: None,
                sasl: None,
                bootstrap_servers: vec![self.kafka.clone()],
                librdkafka: BTreeMap::new(),
                topics: Vec::new(),
                producer: Producer {
                    linger_ms: self.linger_ms,
                    compression: Compression::None,
                },
            },
            consumer,
        }
    }
}

/// Two parts of a route's topics, `<name>/<number>`, of which the first is read by the first of two lanes and the other
/// by the second: a filter's lane is the one whose hash with the filter is the largest.
fn halves(name: &str) -> [String; 2] {
    let lane = |part: &String| {
        let filter = format!("{part}/+");
        (0..2).max_by_key(|lane| xxh3_64_with_seed(filter.as_bytes(), *lane))
    };
    [0, 1].map(|wanted| {
        let mut parts = (0..1_000).map(|number| format!("{name}/{number}"));
        parts
            .find(|part| lane(part) == Some(wanted))
            .expect("a filter for the lane")
    })
}

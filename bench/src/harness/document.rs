//! The document that both bridges read.

use std::collections::BTreeMap;

use millrace_contract::survey::Survey;
use millrace_contract::{
    Broker, Compression, Consumer, Document, ErrorAction, FAILBACK_MS, Lanes, Live, LiveToMqtt, Mapping,
    OnError, Ordering, PayloadFormat, Producer, ProtocolVersion, Publishing, RouteId, Settings,
    SharedSubscriptions, Sink, Source, Start, Subscription, Timeouts, VERSION,
};

/// The sites of the benchmark, each a Kafka topic.
pub const SITES: usize = 2;

/// The window asked for: at a round trip of 5 ms it allows two million messages per second.
pub const RECEIVE_MAXIMUM: u16 = 10_000;

/// The Kafka topics that messages of [`SITES`] sites go to.
pub fn kafka_topics() -> Vec<String> {
    (0..SITES).map(|site| format!("bench.site{site}")).collect()
}

/// A route that takes topic and key of each record from the MQTT topic, and adds no headers.
pub fn document(
    mqtt_port: u16,
    bootstrap: &str,
    qos: u8,
    linger_ms: u64,
    compression: Compression,
) -> Document {
    Document {
        settings: settings(mqtt_port, bootstrap, linger_ms, compression),
        live: Live {
            source: Source {
                subscriptions: vec![Subscription {
                    filter: "bench/+site/+plant/line".into(),
                }],
                qos,
                payload: PayloadFormat::Bytes,
            },
            lanes: Lanes {
                count: 1,
                ordering: Ordering::PerTopic,
            },
            mapping: Mapping {
                when: None,
                topic: "bench.{site}".into(),
                allowed_topics: vec!["bench.*".into()],
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
            max_message_bytes: 1024 * 1024,
            timeouts: Timeouts {
                drain_ms: 10_000,
                failover_ms: 15_000,
            },
            survey: Survey::default(),
        },
    }
}

/// The topic that is delivered from.
pub const COMMANDS: &str = "bench.commands";

/// A route the other way: takes the MQTT topic from each record's key, and adds no properties.
pub fn delivery(mqtt_port: u16, bootstrap: &str, group: &str) -> Document<LiveToMqtt> {
    let mut settings = settings(mqtt_port, bootstrap, 5, Compression::None);
    settings.consumer = Some(Consumer {
        topics: vec![COMMANDS.into()],
        group: group.into(),
        start: Start::Earliest,
    });
    Document {
        settings,
        live: LiveToMqtt {
            payload: PayloadFormat::Bytes,
            publishing: Publishing::to("bench/{record.key}/command", vec!["bench/+/command".into()]),
            on_error: OnError {
                action: ErrorAction::Stop,
                dead_letter_topic: None,
                skip: Vec::new(),
            },
            max_message_bytes: 1024 * 1024,
            timeouts: Timeouts {
                drain_ms: 10_000,
                failover_ms: 15_000,
            },
            survey: Survey::default(),
        },
    }
}

fn settings(mqtt_port: u16, bootstrap: &str, linger_ms: u64, compression: Compression) -> Settings {
    Settings {
        version: VERSION,
        route: RouteId {
            namespace: "bench".into(),
            name: "bench".into(),
            uid: None,
            session_id: "bench".into(),
        },
        broker: Broker {
            tls: None,
            urls: vec![format!("mqtt://127.0.0.1:{mqtt_port}")],
            protocol_version: ProtocolVersion::V5,
            credentials: None,
            client_id_prefix: "millrace".into(),
            session_expiry_seconds: 3600,
            keep_alive_seconds: 30,
            receive_maximum: RECEIVE_MAXIMUM,
            failback_ms: FAILBACK_MS,
            shared_subscriptions: SharedSubscriptions::Auto,
        },
        sink: Sink {
            bootstrap_servers: vec![bootstrap.into()],
            tls: None,
            sasl: None,
            librdkafka: BTreeMap::new(),
            topics: Vec::new(),
            producer: Producer {
                linger_ms,
                compression,
            },
        },
        consumer: None,
    }
}

//! The route under test, and what goes over its connections.

use millrace_contract::survey::Survey;
use millrace_contract::{
    Broker, Compression, Consumer, Document, ErrorAction, FAILBACK_MS, Lanes, Live, LiveToMqtt, Mapping,
    OnError, Ordering, PayloadFormat, Producer, ProtocolVersion, Publishing, RouteId, Settings,
    SharedSubscriptions, Sink, Source, Start, Subscription, Timeouts, VERSION,
};
use millrace_testkit::wire::Publish;
use millrace_testkit::{Connection, ScriptedBroker};

/// The other way, between the same broker and the same Kafka: commands from the topic `commands`, to `devices/<key>`.
pub(crate) fn commands(of_messages: Document) -> Document<LiveToMqtt> {
    let Document { mut settings, live } = of_messages;
    settings.consumer = Some(Consumer {
        topics: vec!["commands".into()],
        group: "commands".into(),
        start: Start::Earliest,
    });
    Document {
        settings,
        live: LiveToMqtt {
            payload: PayloadFormat::Bytes,
            publishing: Publishing::to("devices/{record.key}", vec!["devices/+".into()]),
            on_error: live.on_error,
            max_message_bytes: live.max_message_bytes,
            timeouts: live.timeouts,
            survey: live.survey,
        },
    }
}

/// A route with one lane and QoS 1, from `in/<stream>/...` to the Kafka topic `out.<stream>`; dead letters go to
/// `dead`. Kafka is tried again quickly, and a lane that was taken over waits half a second.
pub(crate) fn route(broker: &ScriptedBroker, bootstrap: &str) -> Document {
    Document {
        settings: Settings {
            version: VERSION,
            route: RouteId {
                namespace: "default".into(),
                name: "test".into(),
                uid: None,
                session_id: "0a1b2c3d".into(),
            },
            broker: Broker {
                tls: None,
                urls: vec![format!("mqtt://127.0.0.1:{}", broker.port())],
                protocol_version: ProtocolVersion::Auto,
                credentials: None,
                client_id_prefix: "millrace".into(),
                session_expiry_seconds: 3600,
                keep_alive_seconds: 30,
                receive_maximum: 10_000,
                failback_ms: FAILBACK_MS,
                shared_subscriptions: SharedSubscriptions::Auto,
            },
            sink: Sink {
                bootstrap_servers: vec![bootstrap.into()],
                tls: None,
                sasl: None,
                librdkafka: [
                    ("reconnect.backoff.ms", "20"),
                    ("reconnect.backoff.max.ms", "50"),
                    ("retry.backoff.ms", "10"),
                    ("retry.backoff.max.ms", "20"),
                    ("topic.metadata.refresh.fast.interval.ms", "20"),
                ]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
                topics: Vec::new(),
                producer: Producer {
                    linger_ms: 0,
                    compression: Compression::None,
                },
            },
            consumer: None,
        },
        live: Live {
            source: Source {
                subscriptions: vec![Subscription {
                    filter: "in/+stream/#".into(),
                }],
                qos: 1,
                payload: PayloadFormat::Bytes,
            },
            lanes: Lanes {
                count: 1,
                ordering: Ordering::PerTopic,
            },
            mapping: Mapping {
                when: None,
                topic: "out.{stream}".into(),
                allowed_topics: vec!["out.*".into()],
                key: "{message.topic}".into(),
                headers: Default::default(),
                propagate: Vec::new(),
                value: None,
            },
            retired: Vec::new(),
            on_error: OnError {
                action: ErrorAction::DeadLetter,
                dead_letter_topic: Some("dead".into()),
                skip: Vec::new(),
            },
            max_message_bytes: 1024 * 1024,
            timeouts: Timeouts {
                drain_ms: 3_000,
                failover_ms: 500,
            },
            survey: Survey::default(),
        },
    }
}

/// The worker's next connection, subscribed.
#[track_caller]
pub(crate) fn session(broker: &ScriptedBroker, session_present: bool) -> Connection {
    let mut connection = broker.accept();
    connection.accept_session(session_present);
    connection
}

/// A message of QoS 1 on `in/<stream>/x`, for the first time.
pub(crate) fn message(stream: &str, packet_id: u16, payload: &str) -> Publish {
    Publish::new(&format!("in/{stream}/x"), payload.to_owned()).qos(1, packet_id)
}

/// The same with DUP set.
pub(crate) fn repeat(stream: &str, packet_id: u16, payload: &str) -> Publish {
    message(stream, packet_id, payload).dup()
}

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use millrace_contract::{Compression, Document, Settings, Sink};
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use thiserror::Error;

use super::security::KafkaCredentials;
use crate::certificates::CertificatesError;
use crate::value::Unreadable;

/// The largest batch, in bytes, where no topic takes less: under Kafka's default `max.message.bytes` of 1,048,588,
/// because librdkafka never splits a batch that a topic refuses.
pub(crate) const MAX_BATCH_BYTES: u64 = 1_000_000;

/// What the worker sets itself, and no document may change: a promise hangs on each.
const RESERVED: [&str; 25] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "enable.gapless.guarantee",
    "transactional.id",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "retries",
    "message.send.max.retries",
    "message.timeout.ms",
    "delivery.timeout.ms",
    "request.timeout.ms",
    "transaction.timeout.ms",
    "message.max.bytes",
    "batch.size",
    "batch.num.messages",
    "queue.buffering.max.messages",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.ms",
    "linger.ms",
    "compression.type",
    "compression.codec",
    // By which a client that has lost sight of the cluster is noticed.
    "statistics.interval.ms",
];

/// Why a document's Kafka settings cannot be used.
#[derive(Debug, Error)]
pub enum OptionsError {
    /// A setting that the worker keeps to itself.
    #[error("sink.librdkafka.{0}: the worker sets this itself, because a guarantee depends on it; remove it")]
    Reserved(String),
    /// What logging in needs cannot be read.
    #[error(
        "cannot read the credentials: {0}; check the Secret that the KafkaSink's spec.sasl names, and its keys"
    )]
    Credentials(#[from] Unreadable),
    /// No TLS can be made of what was read.
    #[error("KafkaSink: {0}")]
    Certificates(#[from] CertificatesError),
    /// No tokens can be asked for with what is written, or was read.
    #[error("{0}")]
    TokenEndpoint(String),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[from] std::io::Error),
    /// librdkafka does not know the setting, or not the value.
    #[error("sink.librdkafka: librdkafka refuses the settings")]
    Invalid(#[from] rdkafka::error::KafkaError),
}

/// What a Kafka client is made from.
#[derive(Clone)]
pub(crate) struct ClientSettings {
    pub(crate) sink: Sink,
    pub(crate) credentials: Arc<KafkaCredentials>,
    /// The client's name in Kafka's logs and quotas.
    pub(crate) client_id: String,
    /// Largest payload of a message, in bytes.
    pub(crate) max_message_bytes: u64,
}

impl ClientSettings {
    /// What a route's producer is made from.
    ///
    /// # Errors
    /// When what they come in with cannot be read.
    pub(crate) fn of(document: &Document) -> Result<Self, OptionsError> {
        Self::for_route(&document.settings, document.live.max_message_bytes)
    }

    /// What a route's clients are made from.
    ///
    /// # Errors
    /// When what they come in with cannot be read.
    pub(crate) fn for_route(settings: &Settings, max_message_bytes: u64) -> Result<Self, OptionsError> {
        let route = &settings.route;
        Ok(Self {
            sink: settings.sink.clone(),
            credentials: KafkaCredentials::read(&settings.sink)?,
            client_id: format!("millrace-{}-{}", route.namespace, route.name),
            max_message_bytes,
        })
    }
}

/// The settings of a route's producer. `batch_bytes` is the largest batch that every topic takes; `alone` makes
/// every record a batch of its own.
pub(crate) fn client_config(
    settings: &ClientSettings,
    batch_bytes: u64,
    alone: bool,
) -> Result<ClientConfig, OptionsError> {
    let sink = &settings.sink;
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("client.id", settings.client_id.clone()),
        ("bootstrap.servers", sink.bootstrap_servers.join(",")),
        // The promise: confirmed by all in-sync replicas, in order, for as long as it takes.
        ("enable.idempotence", "true".into()),
        ("acks", "all".into()),
        ("max.in.flight.requests.per.connection", "5".into()),
        ("message.timeout.ms", "0".into()),
        // Java clients put a key into the same partition.
        ("partitioner", "murmur2_random".into()),
        // Lanes keep their own, tighter bound: these only have to be above it.
        ("queue.buffering.max.messages", "1000000".into()),
        ("queue.buffering.max.kbytes", "1048576".into()),
        // What the message may have, and as much again for key and headers.
        (
            "message.max.bytes",
            (2 * settings.max_message_bytes + 65_536)
                .clamp(1_000_000, 1_000_000_000)
                .to_string(),
        ),
        ("batch.size", batch_bytes.to_string()),
        ("batch.num.messages", if alone { "1" } else { "10000" }.into()),
        (
            "linger.ms",
            if alone {
                "0".into()
            } else {
                linger(sink.producer.linger_ms)
            },
        ),
        (
            "sticky.partitioning.linger.ms",
            sink.producer.linger_ms.to_string(),
        ),
        ("compression.type", compression(sink.producer.compression).into()),
        // How soon added partitions and a returned broker are noticed.
        ("topic.metadata.refresh.interval.ms", "10000".into()),
        ("reconnect.backoff.max.ms", "2000".into()),
        ("retry.backoff.max.ms", "500".into()),
        ("socket.keepalive.enable", "true".into()),
        ("socket.nagle.disable", "true".into()),
        ("log.connection.close", "false".into()),
    ] {
        config.set(name, value);
    }
    settings.credentials.apply(&mut config);
    for (name, value) in &sink.librdkafka {
        if RESERVED.contains(&name.as_str()) {
            return Err(OptionsError::Reserved(name.clone()));
        }
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.create_native_config()?;
    Ok(config)
}

/// What the worker sets itself of a consumer, and no document may change.
const RESERVED_OF_CONSUMERS: [&str; 12] = [
    "group.id",
    "group.instance.id",
    "group.protocol",
    "partition.assignment.strategy",
    "enable.auto.commit",
    "auto.commit.enable",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "isolation.level",
    "enable.partition.eof",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];

/// Kilobytes of records that librdkafka fetches ahead.
const FETCHED_KBYTES: &str = "8192";

/// What Kafka takes of a member, unless its operator has changed that: `group.min.session.timeout.ms` and `.max.`.
const SESSION_TIMEOUTS: RangeInclusive<Duration> = Duration::from_secs(6)..=Duration::from_secs(1_800);

/// The settings of a route's consumer, whose partitions others get when it has been away for `failover`.
pub(crate) fn consumer_config(
    settings: &ClientSettings,
    group: &str,
    failover: Duration,
) -> Result<ClientConfig, OptionsError> {
    let failover = failover.clamp(*SESSION_TIMEOUTS.start(), *SESSION_TIMEOUTS.end());
    let sink = &settings.sink;
    let mut config = ClientConfig::new();
    for (name, value) in [
        ("client.id", settings.client_id.clone()),
        ("bootstrap.servers", sink.bootstrap_servers.join(",")),
        ("group.id", group.to_owned()),
        // The promise: committed only after the broker has confirmed, by whom the partition was read.
        ("enable.auto.commit", "false".into()),
        ("enable.auto.offset.store", "false".into()),
        // Where records are gone that were to be read, a person decides.
        ("auto.offset.reset", "error".into()),
        ("isolation.level", "read_committed".into()),
        ("partition.assignment.strategy", "cooperative-sticky".into()),
        // When others get the partitions of a process that has died.
        ("session.timeout.ms", failover.as_millis().to_string()),
        ("queued.max.messages.kbytes", FETCHED_KBYTES.into()),
        // Of all partitions, which share a queue; a record that waits takes some 400 bytes beside its own, which the limit above
        // does not count.
        ("queued.min.messages", "1000".into()),
        // How long a partition is not asked for more once so many waited.
        ("fetch.queue.backoff.ms", "10".into()),
        ("fetch.message.max.bytes", "262144".into()),
        ("fetch.wait.max.ms", "100".into()),
        // How soon added partitions and a returned broker are noticed.
        ("topic.metadata.refresh.interval.ms", "10000".into()),
        ("reconnect.backoff.max.ms", "2000".into()),
        ("statistics.interval.ms", "2000".into()),
        ("socket.keepalive.enable", "true".into()),
        ("socket.nagle.disable", "true".into()),
        ("log.connection.close", "false".into()),
    ] {
        config.set(name, value);
    }
    settings.credentials.apply(&mut config);
    for (name, value) in &sink.librdkafka {
        let is_reserved = |list: &[&str]| list.contains(&name.as_str());
        if is_reserved(&RESERVED) || is_reserved(&RESERVED_OF_CONSUMERS) {
            return Err(OptionsError::Reserved(name.clone()));
        }
        config.set(name, value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config.create_native_config()?;
    Ok(config)
}

/// librdkafka sleeps in whole milliseconds, rounded up, so a batch leaves half of one late in the mean: that much less
/// is asked for.
fn linger(milliseconds: u64) -> String {
    match milliseconds.checked_sub(1) {
        None => "0".into(),
        Some(whole) => format!("{whole}.5"),
    }
}

fn compression(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    }
}

#[cfg(test)]
mod tests {
    use millrace_contract::Producer;

    use super::*;

    fn settings(librdkafka: &[(&str, &str)]) -> ClientSettings {
        let setting = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let sink = Sink {
            bootstrap_servers: vec!["127.0.0.1:1".into()],
            tls: None,
            sasl: None,
            librdkafka: librdkafka.iter().map(setting).collect(),
            topics: Vec::new(),
            producer: Producer {
                linger_ms: 5,
                compression: Compression::None,
            },
        };
        ClientSettings {
            credentials: KafkaCredentials::read(&sink).unwrap(),
            sink,
            client_id: "test".into(),
            max_message_bytes: 1024,
        }
    }

    fn of_consumer(settings: &ClientSettings) -> Result<ClientConfig, OptionsError> {
        consumer_config(settings, "group", Duration::from_secs(10))
    }

    #[track_caller]
    fn is_refused(result: Result<ClientConfig, OptionsError>, name: &str) {
        match result {
            Err(OptionsError::Reserved(refused)) => assert_eq!(refused, name),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn nobody_changes_what_a_promise_hangs_on() {
        for name in RESERVED {
            let settings = settings(&[(name, "1")]);
            is_refused(client_config(&settings, MAX_BATCH_BYTES, false), name);
            is_refused(of_consumer(&settings), name);
        }
        for name in RESERVED_OF_CONSUMERS {
            is_refused(of_consumer(&settings(&[(name, "1")])), name);
        }
    }

    #[test]
    fn all_else_is_taken_and_what_librdkafka_does_not_know_is_said() {
        let settings_of = settings(&[("socket.timeout.ms", "5000"), ("client.rack", "a")]);
        let producer = client_config(&settings_of, MAX_BATCH_BYTES, false).unwrap();
        let consumer = of_consumer(&settings_of).unwrap();
        for config in [&producer, &consumer] {
            assert_eq!(config.get("socket.timeout.ms"), Some("5000"));
            assert_eq!(config.get("client.rack"), Some("a"));
        }
        for wrong in [("sockets.timeout.ms", "5000"), ("socket.timeout.ms", "soon")] {
            let result = client_config(&settings(&[wrong]), MAX_BATCH_BYTES, false);
            assert!(matches!(result, Err(OptionsError::Invalid(_))), "{result:?}");
        }
    }

    #[test]
    fn no_batch_is_larger_than_what_every_topic_takes() {
        let settings = settings(&[]);
        let many = client_config(&settings, 4_096, false).unwrap();
        assert_eq!(many.get("batch.size"), Some("4096"));
        assert_eq!(many.get("batch.num.messages"), Some("10000"));
        assert_eq!(many.get("linger.ms"), Some("4.5"));
        let alone = client_config(&settings, 4_096, true).unwrap();
        assert_eq!(alone.get("batch.num.messages"), Some("1"));
        assert_eq!(alone.get("linger.ms"), Some("0"));
        assert_eq!(alone.get("acks"), Some("all"));
        assert_eq!(alone.get("enable.idempotence"), Some("true"));
    }
}

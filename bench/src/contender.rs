//! The straightforward bridge: rumqttc's event loop, rdkafka's `FutureProducer`, a task per message that awaits
//! the delivery and then acks. What a good Rust engineer writes first, with sensible settings and the same
//! promise (acks after delivery, order per topic). It is here to be measured and is no part of the product.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use millrace_contract::{Compression, Document};
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};

/// Where the contender's document is.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The worker's document. Only what the benchmark uses is understood.
    #[arg(long)]
    pub document: PathBuf,
}

/// Bridges until it is killed.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(&options.document)
        .with_context(|| format!("cannot read {}", options.document.display()))?;
    let document: Document = serde_json::from_str(&text).context("not a document of this version")?;
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?
        .block_on(bridge(&document))
}

async fn bridge(document: &Document) -> anyhow::Result<()> {
    let producer = producer(document)?;
    let (client, mut events) = connect(document)?;
    let qos = rumqttc::v5::mqttbytes::qos(document.live.source.qos).context("qos is 0, 1 or 2")?;
    let filters: Vec<String> = document
        .live
        .source
        .subscriptions
        .iter()
        .map(|s| plain(&s.filter))
        .collect();
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                for filter in &filters {
                    client.subscribe(filter, qos).await?;
                }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                let delivery = enqueue(&producer, &publish).await?;
                tokio::spawn(acknowledge(client.clone(), publish, delivery, qos));
            }
            Ok(_) => {}
            Err(error) => {
                eprintln!("mqtt: {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Enqueues in the order of receipt, so records of a topic keep their order.
async fn enqueue(producer: &FutureProducer, publish: &Publish) -> anyhow::Result<DeliveryFuture> {
    let topic = std::str::from_utf8(&publish.topic)?;
    let destination = kafka_topic(topic);
    let mut record = FutureRecord::to(&destination)
        .key(topic)
        .payload(&publish.payload[..]);
    loop {
        match producer.send_result(record) {
            Ok(delivery) => return Ok(delivery),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

/// Awaits the delivery of one message, then acknowledges it.
async fn acknowledge(client: AsyncClient, publish: Publish, delivery: DeliveryFuture, qos: QoS) {
    match delivery.await {
        Ok(Ok(_)) if qos == QoS::AtMostOnce => {}
        Ok(Ok(_)) => {
            if let Err(error) = client.ack(&publish).await {
                eprintln!("ack: {error}");
            }
        }
        Ok(Err((error, _))) => eprintln!("not delivered: {error}"),
        Err(_) => eprintln!("not delivered: the producer is gone"),
    }
}

fn connect(document: &Document) -> anyhow::Result<(AsyncClient, EventLoop)> {
    let broker = &document.settings.broker;
    let address = broker
        .urls
        .first()
        .and_then(|url| url.strip_prefix("mqtt://"))
        .context("one mqtt:// URL")?;
    let (host, port) = address.rsplit_once(':').context("a URL with a port")?;
    let id = format!(
        "{}-{}-0",
        broker.client_id_prefix, document.settings.route.session_id
    );
    let mut options = MqttOptions::new(id, host, port.parse()?);
    options
        .set_keep_alive(Duration::from_secs(u64::from(broker.keep_alive_seconds)))
        .set_clean_start(false)
        .set_manual_acks(true);
    // Each setter of a property replaces none of the others.
    options.set_session_expiry_interval(Some(broker.session_expiry_seconds));
    options.set_receive_maximum(Some(broker.receive_maximum));
    options.set_max_packet_size(Some(u32::try_from(document.live.max_message_bytes + 64 * 1024)?));
    // Room for every ack of a window, so that no task waits for the event loop.
    Ok(AsyncClient::new(options, usize::from(broker.receive_maximum)))
}

fn producer(document: &Document) -> anyhow::Result<Arc<FutureProducer>> {
    let sink = &document.settings.sink;
    let mut settings: BTreeMap<String, String> = sink.librdkafka.clone();
    let linger = sink.producer.linger_ms.to_string();
    let compression = match sink.producer.compression {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    for (name, value) in [
        ("bootstrap.servers", sink.bootstrap_servers.join(",").as_str()),
        ("acks", "all"),
        ("enable.idempotence", "true"),
        ("linger.ms", &linger),
        ("compression.type", compression),
        ("message.timeout.ms", "0"),
        ("partitioner", "murmur2_random"),
    ] {
        settings.insert(name.into(), value.into());
    }
    Ok(Arc::new(
        ClientConfig::from_iter(settings)
            .create()
            .context("cannot create the producer")?,
    ))
}

/// `bench/+site/+plant/line` as brokers know it: `bench/+/+/line`.
fn plain(filter: &str) -> String {
    let levels = filter.split('/').map(|level| match level.as_bytes().first() {
        Some(b'+') => "+",
        Some(b'#') => "#",
        _ => level,
    });
    levels.collect::<Vec<_>>().join("/")
}

/// The benchmark's mapping, written by hand: `bench.{site}` for `bench/+site/+plant/line`.
fn kafka_topic(topic: &str) -> String {
    format!("bench.{}", topic.split('/').nth(1).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_as_the_document_of_the_benchmark_says() {
        assert_eq!(plain("bench/+site/+plant/line"), "bench/+/+/line");
        assert_eq!(plain("bench/#rest"), "bench/#");
        assert_eq!(kafka_topic("bench/site1/plant007/line"), "bench.site1");
    }
}

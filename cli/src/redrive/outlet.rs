//! Delivers, at a bounded rate, and waits until the other side has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use millrace_contract::AnyDocument;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::again::Made;
use super::mqtt::Publisher;

/// How long the other side may take.
pub(super) const ANSWER: Duration = Duration::from_secs(30);

pub(super) struct Outlet {
    side: Side,
    /// Between two letters.
    pause: Duration,
    next: Instant,
}

enum Side {
    Kafka(ThreadedProducer<Answers>),
    Mqtt(Publisher),
}

impl Outlet {
    pub(super) fn open(document: &AnyDocument, rate: u32) -> anyhow::Result<Self> {
        let side = match document {
            AnyDocument::ToKafka(document) => {
                let sink = &document.settings.sink;
                let mut config = bridge_worker::reaching(sink)?;
                config
                    .set("client.id", "millrace-redrive")
                    .set("partitioner", "murmur2_random")
                    .set("enable.idempotence", "true")
                    .set("acks", "all")
                    .set("message.timeout.ms", ANSWER.as_millis().to_string())
                    // What the message may have, and as much again for key and headers.
                    .set(
                        "message.max.bytes",
                        (2 * document.live.max_message_bytes + 65_536)
                            .clamp(1_000_000, 1_000_000_000)
                            .to_string(),
                    );
                Side::Kafka(config.create_with_context(Answers::default())?)
            }
            AnyDocument::ToMqtt(document) => Side::Mqtt(Publisher::connect(
                &document.settings.broker,
                document.live.publishing.no_matching_subscribers,
            )?),
        };
        Ok(Self {
            side,
            pause: Duration::from_secs(1) / rate.max(1),
            next: Instant::now(),
        })
    }

    /// Delivers those that there are, and returns when all have arrived, or one does not. Returns how many of all are done
    /// with, from the first on.
    pub(super) fn deliver<'m>(
        &mut self,
        all: impl Iterator<Item = Option<&'m Made>>,
    ) -> (usize, anyhow::Result<()>) {
        let mut count = 0;
        for made in all {
            if let Some(made) = made {
                std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
                self.next = Instant::now().max(self.next) + self.pause;
                let outcome = match &mut self.side {
                    Side::Kafka(producer) => write(producer, made),
                    Side::Mqtt(publisher) => publisher.publish(made),
                };
                if let Err(error) = outcome {
                    // What Kafka has been given may have arrived or not.
                    let arrived = if matches!(self.side, Side::Mqtt(_)) {
                        count
                    } else {
                        0
                    };
                    return (arrived, Err(error));
                }
            }
            count += 1;
        }
        let outcome = match &self.side {
            Side::Kafka(producer) => flush(producer),
            Side::Mqtt(_) => Ok(()),
        };
        (if outcome.is_ok() { count } else { 0 }, outcome)
    }
}

fn flush(producer: &ThreadedProducer<Answers>) -> anyhow::Result<()> {
    producer.flush(ANSWER)?;
    match producer.context().take() {
        Some(error) => Err(error).context("Kafka does not take a record"),
        None => Ok(()),
    }
}

fn write(producer: &ThreadedProducer<Answers>, made: &Made) -> anyhow::Result<()> {
    let headers = made
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header {
                key,
                value: Some(value),
            })
        });
    let mut record = BaseRecord::to(&made.topic)
        .payload(&made.value)
        .timestamp(made.timestamp_ms)
        .headers(headers);
    if let Some(key) = &made.key {
        record = record.key(key);
    }
    producer.send(record).map_err(|(error, _)| error)?;
    Ok(())
}

/// The first error that Kafka has reported.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Option<KafkaError>>>);

impl Answers {
    fn take(&self) -> Option<KafkaError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ClientContext for Answers {}

impl ProducerContext for Answers {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert_with(|| error.clone());
        }
    }
}

//! A client that is there to learn whether Kafka answers, and if not, why.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer as _, ProducerContext};

use super::callbacks::log;
use super::{Armed, Bearer, Trouble};

/// How long one question may take.
const ANSWER: Duration = Duration::from_secs(3);
/// Brokers that all refuse are asked for so long: they may be starting.
const REFUSED: Duration = Duration::from_secs(5);
/// Complaints taken at once.
const EVENTS: usize = 50;
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks Kafka until a deadline.
pub(crate) struct Caller {
    client: BaseProducer<Heard>,
    bearer: Bearer,
    armed: Armed,
    started: Instant,
    deadline: Instant,
}

impl Caller {
    /// # Errors
    /// When librdkafka refuses the settings.
    pub(crate) fn new(config: &ClientConfig, bearer: &Bearer, deadline: Instant) -> KafkaResult<Self> {
        let client = BaseProducer::from_config_and_context(config, Heard::default())?;
        Ok(Self {
            client,
            bearer: bearer.clone(),
            armed: Armed::default(),
            started: Instant::now(),
            deadline,
        })
    }

    /// Whether the time is over.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Waits between two questions.
    pub(crate) fn pause(&self) {
        self.client.poll(PAUSE);
    }

    /// The cluster's id, if it says it.
    pub(crate) fn cluster_id(&self) -> Option<String> {
        self.client.client().fetch_cluster_id(self.left())
    }

    /// What the cluster says of a topic, or of itself. The error is librdkafka's last word.
    pub(crate) fn metadata(&self, topic: Option<&str>) -> Result<Metadata, Trouble> {
        if let Err(why) = self.bearer.arm_now(self.client.client()) {
            return Err(Trouble::of_token(&why));
        }
        loop {
            self.bearer.arm(self.client.client(), &self.armed);
            let error = match self.client.client().fetch_metadata(topic, self.left()) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => error,
            };
            self.hear();
            let heard = self.client.context();
            let is_hopeless = heard.all_down() && self.started.elapsed() >= REFUSED;
            if is_hopeless || self.is_late() {
                let silence = || Trouble::of(&error, &error.to_string());
                return Err(heard.last().unwrap_or_else(silence));
            }
            // An answer that came at once was no wait.
            self.pause();
        }
    }

    fn left(&self) -> Duration {
        let left = self.deadline.saturating_duration_since(Instant::now());
        left.clamp(Duration::from_millis(1), ANSWER)
    }

    /// Takes what librdkafka complains about: one event a call.
    fn hear(&self) {
        for _ in 0..EVENTS {
            self.client.poll(Duration::ZERO);
        }
    }
}

/// What librdkafka complains about.
#[derive(Default)]
struct Heard(Mutex<(Option<Trouble>, bool)>);

impl Heard {
    fn all_down(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn last(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::AllBrokersDown) => inner.1 = true,
            _ => inner.0 = Some(Trouble::or_newer(inner.0.take(), Trouble::of(&error, reason))),
        }
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
}

impl ProducerContext for Heard {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

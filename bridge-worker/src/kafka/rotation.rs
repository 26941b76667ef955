//! Changed credentials for Kafka: tried by a client of their own, then taken over by a second producer while the first one
//! flushes. librdkafka reads certificates and passwords once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_contract::status::Reason;

use super::doctor;
use super::options::{MAX_BATCH_BYTES, client_config};
use super::security::Entry;
use super::{Bearer, Caller, ClientSettings, KafkaState, OptionsError, Producer, diagnose};
use crate::backoff::Backoff;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long Kafka may take to answer what is tried.
const ANSWER: Duration = Duration::from_secs(10);
/// How often TLS that fails is looked into.
const LOOK_INTO: Duration = Duration::from_secs(10);

/// Looks at the files, and into TLS that fails, until the producer has stopped, in a thread of its own. Not waited for at the
/// end: it holds nothing of a message.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn spawn(
    settings: ClientSettings,
    producer: Arc<Producer>,
    state: Arc<KafkaState>,
) -> std::io::Result<()> {
    let mut watch = Watch {
        settings,
        producer,
        unfit: None,
        tried: None,
        again: None,
        backoff: Backoff::default(),
    };
    std::thread::Builder::new()
        .name("kafka-entry".into())
        .spawn(move || {
            let can_change = watch.settings.credentials.can_change();
            let mut again = Instant::now();
            let mut look_at = Instant::now();
            while !watch.producer.has_stopped() {
                std::thread::sleep(LOOK);
                if can_change {
                    watch.look();
                }
                let now = Instant::now();
                if watch.settings.sink.tls.is_some() && now >= look_at && state.has_answered() {
                    let shown = doctor::server(&watch.settings.sink);
                    look_at = shown.map_or(now + LOOK_INTO, |shown| shown.next_look(now));
                    // A look that fails says nothing of what is shown.
                    if shown.is_some() {
                        watch.settings.credentials.known().has_seen(shown);
                    }
                }
                if state.could_be_tls() && Instant::now() >= again {
                    again = Instant::now() + LOOK_INTO;
                    if let Some(cause) = diagnose(&watch.settings.sink) {
                        state.diagnosed(cause);
                    }
                }
            }
        })?;
    Ok(())
}

struct Watch {
    settings: ClientSettings,
    producer: Arc<Producer>,
    /// What was said last of what cannot even be tried.
    unfit: Option<String>,
    tried: Option<Entry>,
    again: Option<Instant>,
    backoff: Backoff,
}

impl Watch {
    fn look(&mut self) {
        let credentials = Arc::clone(&self.settings.credentials);
        let entry = match credentials.changed() {
            None => {
                (self.unfit, self.tried) = (None, None);
                return;
            }
            Some(Err(error)) => {
                let why = error.to_string();
                if self.unfit.as_ref() != Some(&why) {
                    credentials.known().was_refused(&why);
                    self.unfit = Some(why);
                }
                return;
            }
            Some(Ok(entry)) => entry,
        };
        self.unfit = None;
        if self.tried.as_ref() != Some(&entry) {
            self.backoff = entry.backoff();
            (self.tried, self.again) = (Some(entry.clone()), None);
        }
        if self.again.is_some_and(|again| Instant::now() < again) {
            return;
        }
        match self.attempt(&entry) {
            Ok(bearer) => {
                credentials.has_worked(entry, &bearer);
                tracing::info!("changed credentials for Kafka work: a new producer takes them over");
                if let Err(error) = self.producer.renew() {
                    // The one there is goes on.
                    tracing::error!(%error, "no producer can be made with the changed credentials");
                }
            }
            Err(why) => {
                // A Kafka that is away says nothing of credentials.
                if let Some(why) = why {
                    credentials.known().was_refused(&why);
                }
                self.again = Some(Instant::now() + LOOK + self.backoff.next());
            }
        }
    }

    /// Comes in with them once. Returns the token that it took; an error without words is not about them.
    fn attempt(&self, entry: &Entry) -> Result<Bearer, Option<String>> {
        let unusable = |error: &dyn std::fmt::Display| Some(error.to_string());
        let mut config = client_config(&self.settings, MAX_BATCH_BYTES, true)
            .map_err(|error: OptionsError| unusable(&error))?;
        entry.apply(&mut config);
        let bearer = entry.bearer(&self.settings.credentials);
        let bearer = bearer.map_err(|why| (!why.is_away()).then(|| why.text().to_owned()))?;
        let caller =
            Caller::new(&config, &bearer, Instant::now() + ANSWER).map_err(|error| unusable(&error))?;
        let answer = caller.metadata(None);
        answer.map(|_| bearer).map_err(|trouble| {
            let trouble = trouble.looked_into(&self.settings.sink);
            let is_away = trouble.reason() == Reason::KafkaUnreachable;
            (!is_away).then(|| trouble.told(""))
        })
    }
}

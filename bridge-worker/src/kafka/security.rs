//! TLS and SASL: what a document says, in librdkafka's words.

use std::fmt;
use std::sync::Arc;

use millrace_contract::status::{CertificateOf, CertificateStatus, Problem, Reason};
use millrace_contract::{Sasl, Sink, Value};
use rdkafka::ClientConfig;

use super::tokens::{Bearer, Client, NoToken, Source, patience};
use super::{KafkaState, OptionsError};
use crate::backoff::Backoff;
use crate::certificates::{Certificates, Validity};
use crate::credentials::{Known, Presented};
use crate::value::text;

/// How a client of another kind reaches the same Kafka.
///
/// # Errors
/// When what it needs cannot be read.
pub fn reaching(sink: &Sink) -> Result<ClientConfig, OptionsError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", sink.bootstrap_servers.join(","));
    Entry::read(sink)?.apply(&mut config);
    for (name, value) in &sink.librdkafka {
        config.set(name, value);
    }
    Ok(config)
}

/// What the files said at one moment. Nothing of it is ever printed.
#[derive(Clone, PartialEq, Eq)]
struct Read {
    certificates: Option<Certificates>,
    /// User name and password.
    login: Option<(String, String)>,
    /// Who asks for tokens.
    client: Option<Client>,
}

impl Read {
    fn now(sink: &Sink) -> Result<Self, OptionsError> {
        let certificates = sink.tls.as_ref().map(Certificates::read);
        let login = match &sink.sasl {
            Some(Sasl::Basic { credentials, .. }) => {
                Some((text(&credentials.username)?, text(&credentials.password)?))
            }
            // Tokens come and go: see [`Bearer`].
            Some(Sasl::Token(_) | Sasl::ClientCredentials(_)) | None => None,
        };
        let client = match &sink.sasl {
            Some(Sasl::ClientCredentials(client)) => Some(Client::read(client)?),
            _ => None,
        };
        Ok(Self {
            certificates: certificates.transpose()?,
            login,
            client,
        })
    }
}

/// How a client comes in, in librdkafka's settings.
#[derive(Clone)]
pub(crate) struct Entry {
    read: Read,
    settings: Vec<(&'static str, String)>,
    validities: (Option<Validity>, Option<Validity>),
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entry(..)")
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.read == other.read
    }
}

impl Entry {
    /// # Errors
    /// When something cannot be read, or is no certificate or key.
    pub(crate) fn read(sink: &Sink) -> Result<Self, OptionsError> {
        Self::of(sink, Read::now(sink)?)
    }

    fn of(sink: &Sink, read: Read) -> Result<Self, OptionsError> {
        let protocol = match (&sink.tls, &sink.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        let mut settings = vec![("security.protocol", protocol.to_owned())];
        let mut validities = (None, None);
        if let Some(certificates) = &read.certificates {
            settings.extend(certificates.librdkafka()?);
            validities = certificates.validities();
        }
        match &sink.sasl {
            None => {}
            Some(Sasl::Basic { mechanism, .. }) => settings.push(("sasl.mechanism", mechanism.clone())),
            Some(Sasl::Token(_) | Sasl::ClientCredentials(_)) => {
                settings.push(("sasl.mechanism", "OAUTHBEARER".into()));
            }
        }
        if let Some(client) = &read.client {
            client.check()?;
        }
        if let Some((username, password)) = &read.login {
            settings.push(("sasl.username", username.clone()));
            settings.push(("sasl.password", password.clone()));
        }
        Ok(Self {
            read,
            settings,
            validities,
        })
    }

    /// What a client is given that is to try this; `now` is what clients are given that are in use.
    ///
    /// # Errors
    /// When there is no token to try.
    pub(crate) fn bearer(&self, now: &KafkaCredentials) -> Result<Bearer, NoToken> {
        match &self.read.client {
            Some(client) if !now.asks_as(client) => Bearer::once(client),
            _ => Ok(now.bearer.clone()),
        }
    }

    /// How long to wait between attempts to come in with it.
    pub(crate) fn backoff(&self) -> Backoff {
        match &self.read.client {
            // Each is a question to the provider.
            Some(_) => patience(),
            None => Backoff::default(),
        }
    }

    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        for (name, value) in &self.settings {
            config.set(*name, value);
        }
    }
}

impl Presented for Entry {
    const CERTIFICATES: [CertificateOf; 3] = [
        CertificateOf::KafkaServer,
        CertificateOf::KafkaClient,
        CertificateOf::KafkaAuthority,
    ];

    fn validities(&self) -> (Option<Validity>, Option<Validity>) {
        self.validities
    }
}

/// What a route's clients of Kafka come in with.
#[derive(Debug)]
pub(crate) struct KafkaCredentials {
    sink: Sink,
    bearer: Bearer,
    known: Known<Entry>,
}

impl KafkaCredentials {
    /// With what the files say now, until something else has worked.
    ///
    /// # Errors
    /// As [`Entry::read`].
    pub(crate) fn read(sink: &Sink) -> Result<Arc<Self>, OptionsError> {
        let entry = Entry::read(sink)?;
        let source = match (&sink.sasl, &entry.read.client) {
            (Some(Sasl::Token(value)), _) => Some(Source::Place(value.clone())),
            (_, Some(client)) => Some(Source::Endpoint(Box::new(client.clone()))),
            _ => None,
        };
        let bearer = source.map_or_else(|| Ok(Bearer::none()), Bearer::spawn)?;
        Ok(Arc::new(Self {
            sink: sink.clone(),
            bearer,
            known: Known::with("Kafka", Some(entry)),
        }))
    }

    /// What has worked so far.
    pub(crate) fn known(&self) -> &Known<Entry> {
        &self.known
    }

    /// Whether they can change while the process runs. Tokens do so by themselves.
    pub(crate) fn can_change(&self) -> bool {
        let (login, endpoint) = match &self.sink.sasl {
            Some(Sasl::Basic { credentials, .. }) => {
                (Some([&credentials.username, &credentials.password]), None)
            }
            Some(Sasl::ClientCredentials(client)) => (
                Some([&client.client_id, &client.client_secret]),
                Some(&client.tls),
            ),
            Some(Sasl::Token(_)) | None => (None, None),
        };
        let tls = self
            .sink
            .tls
            .iter()
            .chain(endpoint)
            .flat_map(Certificates::values);
        let mut values = login.into_iter().flatten().chain(tls);
        values.any(|value| matches!(value, Value::File(_)))
    }

    /// What clients are given beside their settings.
    pub(crate) fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// What to make a client with.
    pub(crate) fn apply(&self, config: &mut ClientConfig) {
        if let Some(entry) = self.known.good() {
            entry.apply(config);
        }
    }

    /// What the files say now, if that is other than what is in use. Files that cannot be read are as they were: they
    /// may be gone for the moment in which they are replaced.
    pub(crate) fn changed(&self) -> Option<Result<Entry, OptionsError>> {
        let now = Read::now(&self.sink).ok()?;
        let is_as_before = self.known.is_as_before(|good| good.read == now);
        (is_as_before != Some(true)).then(|| Entry::of(&self.sink, now))
    }

    /// Clients are made with this from now on, and given what `bearer` has.
    pub(crate) fn has_worked(&self, entry: Entry, bearer: &Bearer) {
        if entry
            .read
            .client
            .as_ref()
            .is_some_and(|client| !self.asks_as(client))
        {
            self.bearer.take_over(bearer);
        }
        self.known.has_worked(entry, Entry::ne);
    }

    /// The certificates in use on the way to Kafka.
    pub(crate) fn certificates(&self) -> Vec<CertificateStatus> {
        let mut certificates = self.known.certificates();
        certificates.extend(self.bearer.certificates());
        certificates
    }

    /// What is wrong on the way to Kafka.
    pub(crate) fn problems(&self, state: &KafkaState, servers: &str) -> Vec<Problem> {
        let of_token = self.bearer.problem(servers, state.is_usable());
        let of_state = state.problems(servers);
        // Without a token nothing else is to be expected.
        let of_state = match &of_token {
            Some(problem) if problem.reason == Reason::TokenUnavailable => Vec::new(),
            _ => of_state,
        };
        of_token.into_iter().chain(of_state).collect()
    }

    fn asks_as(&self, client: &Client) -> bool {
        let good = self.known.good();
        good.is_some_and(|good| good.read.client.as_ref() == Some(client))
    }
}

impl Drop for KafkaCredentials {
    fn drop(&mut self) {
        self.bearer.end();
    }
}

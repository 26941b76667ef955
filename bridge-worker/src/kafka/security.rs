//! TLS and SASL: what a document says, in librdkafka's words.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millrace_contract::status::CertificateOf;
use millrace_contract::{Sasl, Sink, Value};
use millrace_librdkafka::set_token;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::{ClientConfig, ClientContext};
use serde::Deserialize;

use super::OptionsError;
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
}

impl Read {
    fn now(sink: &Sink) -> Result<Self, OptionsError> {
        let certificates = sink.tls.as_ref().map(Certificates::read);
        let login = match &sink.sasl {
            Some(Sasl::Basic { credentials, .. }) => {
                Some((text(&credentials.username)?, text(&credentials.password)?))
            }
            // The token itself is asked for again and again: see [`Bearer`].
            Some(Sasl::Token(_)) | None => None,
        };
        Ok(Self {
            certificates: certificates.transpose()?,
            login,
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
            Some(Sasl::Token(_)) => settings.push(("sasl.mechanism", "OAUTHBEARER".into())),
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
        Ok(Arc::new(Self {
            sink: sink.clone(),
            bearer: Bearer::of(sink),
            known: Known::with("Kafka", Some(entry)),
        }))
    }

    /// What has worked so far.
    pub(crate) fn known(&self) -> &Known<Entry> {
        &self.known
    }

    /// Whether they can change while the process runs. Tokens do so by themselves.
    pub(crate) fn can_change(&self) -> bool {
        let login = match &self.sink.sasl {
            Some(Sasl::Basic { credentials, .. }) => Some([&credentials.username, &credentials.password]),
            _ => None,
        };
        let tls = self.sink.tls.iter().flat_map(Certificates::values);
        let mut values = login.into_iter().flatten().chain(tls);
        values.any(|value| matches!(value, Value::File(_)))
    }

    /// Where tokens are, if they are needed.
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

    /// Clients are made with this from now on.
    pub(crate) fn has_worked(&self, entry: Entry) {
        self.known.has_worked(entry, Entry::ne);
    }
}

/// Where a client of OAUTHBEARER finds its tokens.
#[derive(Clone, Debug)]
pub(crate) struct Bearer(Option<Value>);

/// What is read of a token; the rest is for Kafka.
#[derive(Deserialize)]
struct Claims {
    /// When it expires, in seconds since the epoch.
    exp: f64,
    /// Whose it is.
    #[serde(default)]
    sub: String,
}

impl Bearer {
    fn of(sink: &Sink) -> Self {
        Self(match &sink.sasl {
            Some(Sasl::Token(value)) => Some(value.clone()),
            _ => None,
        })
    }

    /// The token as it is now.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        let value = self.0.as_ref().ok_or("no token is configured")?;
        let token = text(value)?;
        let claims = token.split('.').nth(1).ok_or("the token is no JWT")?;
        let claims = URL_SAFE_NO_PAD
            .decode(claims)
            .map_err(|_| "the token is no JWT")?;
        let claims: Claims =
            serde_json::from_slice(&claims).map_err(|_| "the token does not say when it expires")?;
        Ok(OAuthToken {
            token,
            principal_name: claims.sub,
            lifetime_ms: (claims.exp * 1e3) as i64,
        })
    }

    /// Gives a client the token of the moment: one that is not polled cannot ask for it.
    pub(crate) fn arm<C: ClientContext>(&self, client: &Client<C>) {
        if self.0.is_none() {
            return;
        }
        let armed = self.token().map_err(|error| error.to_string());
        if let Err(why) = armed.and_then(|token| set_token(client, token)) {
            tracing::warn!("no token for Kafka: {why}");
        }
    }
}

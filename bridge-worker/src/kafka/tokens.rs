//! Tokens for OAUTHBEARER: where they come from, and when the next is had.
//!
//! librdkafka is not asked for them: it would ask only while a client is polled, and could not be told SASL extensions by
//! rdkafka. Every client is given each new token instead.

mod answer;
mod endpoint;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millrace_contract::Value;
use millrace_contract::status::{CertificateOf, CertificateStatus, Problem, Reason};
use millrace_librdkafka::set_token;
use rdkafka::ClientContext;
use rdkafka::client::{Client as KafkaClient, OAuthToken};
use serde::Deserialize;

use crate::backoff::Backoff;
use crate::certificates::{Validity, statuses};
use crate::random;
use crate::value::text;
pub(super) use endpoint::Client;

/// How often a file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a question to Kafka waits for the first token.
const FIRST: Duration = Duration::from_secs(5);
/// Between two attempts, as Kafka's own clients have it (`sasl.login.retry.backoff.max.ms`).
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// No endpoint is asked more often than that, however short its tokens live.
const SHORTEST: Duration = Duration::from_secs(1);

/// What certificates are called between here and an endpoint: its own, the one it is shown, and who is trusted there.
const CERTIFICATES: [CertificateOf; 3] = [
    CertificateOf::TokenEndpointServer,
    CertificateOf::TokenEndpointClient,
    CertificateOf::TokenEndpointAuthority,
];

/// What Kafka is shown. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token {
    text: String,
    /// Whose it is.
    principal: String,
    expires: SystemTime,
    extensions: BTreeMap<String, String>,
    /// The certificate of the endpoint that gave it.
    endpoint: Option<Validity>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// Why there is no token, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NoToken {
    text: String,
    /// Who gives them is away: nothing is said against who asks.
    is_away: bool,
}

impl NoToken {
    fn refused(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_away: false,
        }
    }

    fn away(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_away: true,
        }
    }

    pub(super) fn is_away(&self) -> bool {
        self.is_away
    }

    /// Cause and fix.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// What is read of a token; the rest is for Kafka.
#[derive(Debug, Deserialize)]
struct Claims {
    /// When it expires, in seconds since the epoch.
    exp: Option<f64>,
    /// Whose it is.
    #[serde(default)]
    sub: String,
}

impl Claims {
    /// Of a JWT; nothing of another token.
    fn of(token: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    fn expires(&self) -> Option<SystemTime> {
        let since = Duration::try_from_secs_f64(self.exp?).ok()?;
        UNIX_EPOCH.checked_add(since)
    }
}

/// Whether librdkafka takes it: of what it does not take it would print all.
fn can_be_sent(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Where tokens come from. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Somebody else renews it.
    Place(Value),
    /// They are asked for.
    Endpoint(Box<Client>),
}

impl Source {
    fn token(&self) -> Result<Token, NoToken> {
        match self {
            Self::Place(value) => placed(value),
            Self::Endpoint(client) => client.ask(),
        }
    }
}

/// The token at a place that Kubernetes, or somebody else, renews.
fn placed(value: &Value) -> Result<Token, NoToken> {
    const FIX: &str = "check what renews it, and the KafkaSink's spec.sasl.oauthBearer.token";
    let wrong =
        |what: &dyn fmt::Display| NoToken::refused(format!("the token for OAUTHBEARER {what}; {FIX}"));
    let text = text(value).map_err(|error| wrong(&format_args!("cannot be read: {error}")))?;
    let claims = Claims::of(&text).filter(|_| can_be_sent(&text));
    let claims = claims.ok_or_else(|| wrong(&"is no JWT"))?;
    let expires = claims.expires();
    let expires = expires.ok_or_else(|| wrong(&"does not say when it expires"))?;
    if expires <= SystemTime::now() {
        return Err(wrong(&format_args!("has expired at {}", moment(expires))));
    }
    Ok(Token {
        text,
        principal: claims.sub,
        expires,
        extensions: BTreeMap::new(),
        endpoint: None,
    })
}

/// A moment for a person. Not how long ago: what is told in status stays the same from one look to the next.
fn moment(time: SystemTime) -> String {
    let time = jiff::Timestamp::try_from(time).unwrap_or(jiff::Timestamp::MAX);
    format!("{time:.0}")
}

/// What clients of OAUTHBEARER are given; nothing for others.
#[derive(Clone)]
pub(crate) struct Bearer(Option<Arc<Tokens>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(..)")
    }
}

/// The number of the token that a client has been given.
#[derive(Debug, Default)]
pub(crate) struct Armed(AtomicU64);

struct Tokens {
    /// Grows with every token.
    number: AtomicU64,
    inner: Mutex<Inner>,
    changed: Condvar,
}

struct Inner {
    source: Source,
    token: Option<Token>,
    /// Why there is no newer one.
    failed: Option<NoToken>,
    ended: bool,
}

impl Inner {
    fn valid(&self) -> Option<&Token> {
        self.token
            .as_ref()
            .filter(|token| token.expires > SystemTime::now())
    }
}

impl Bearer {
    /// None are needed.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Tokens of a source, each had before the one before it expires, by a thread that runs until [`Bearer::end`].
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn spawn(source: Source) -> std::io::Result<Self> {
        let tokens = Arc::new(Tokens::of(source, None));
        let keeper = Arc::clone(&tokens);
        std::thread::Builder::new()
            .name("kafka-token".into())
            .spawn(move || keeper.run())?;
        Ok(Self(Some(tokens)))
    }

    /// The one token that an endpoint gives now.
    pub(super) fn once(client: &Client) -> Result<Self, NoToken> {
        let token = client.ask()?;
        let source = Source::Endpoint(Box::new(client.clone()));
        Ok(Self(Some(Arc::new(Tokens::of(source, Some(token))))))
    }

    /// Goes on with the source of another, and its token.
    pub(super) fn take_over(&self, other: &Self) {
        let (Some(tokens), Some(other)) = (&self.0, &other.0) else {
            return;
        };
        let (source, token) = {
            let other = other.lock();
            (other.source.clone(), other.token.clone())
        };
        let mut inner = tokens.lock();
        (inner.source, inner.failed) = (source, None);
        tokens.put(inner, token);
    }

    /// Nothing is had any more.
    pub(super) fn end(&self) {
        if let Some(tokens) = &self.0 {
            tokens.lock().ended = true;
            tokens.changed.notify_all();
        }
    }

    /// Gives a client the newest token, unless it has it.
    pub(crate) fn arm<C: ClientContext>(&self, client: &KafkaClient<C>, armed: &Armed) {
        let Some(tokens) = &self.0 else { return };
        if tokens.number.load(Ordering::Acquire) == armed.0.load(Ordering::Relaxed) {
            return;
        }
        let (token, number) = {
            let inner = tokens.lock();
            (inner.valid().cloned(), tokens.number.load(Ordering::Acquire))
        };
        if let Some(token) = token {
            give(client, token);
        }
        armed.0.store(number, Ordering::Relaxed);
    }

    /// Gives a client that is about to ask something the newest token; waits for the first.
    pub(crate) fn arm_now<C: ClientContext>(&self, client: &KafkaClient<C>) -> Result<(), NoToken> {
        match &self.0 {
            None => Ok(()),
            Some(tokens) => tokens
                .wait(Instant::now() + FIRST)
                .map(|token| give(client, token)),
        }
    }

    /// The certificates in use between here and an endpoint.
    pub(super) fn certificates(&self) -> Vec<CertificateStatus> {
        let Some(tokens) = &self.0 else { return Vec::new() };
        let inner = tokens.lock();
        let Source::Endpoint(client) = &inner.source else {
            return Vec::new();
        };
        let shown = inner.token.as_ref().and_then(|token| token.endpoint);
        let (client, authority) = client.validities();
        statuses(CERTIFICATES, [shown, client, authority])
    }

    /// What is to be said when there is no newer token; `is_usable` says whether Kafka can be used with the one there is.
    pub(super) fn problem(&self, servers: &str, is_usable: bool) -> Option<Problem> {
        let inner = self.0.as_ref()?.lock();
        let why = &inner.failed.as_ref()?.text;
        Some(match inner.valid() {
            Some(token) if is_usable => Problem {
                reason: Reason::CredentialsRefused,
                message: format!(
                    "no newer token for Kafka: {why}; the one in use is valid until {}, and it is tried again",
                    moment(token.expires)
                ),
            },
            None if is_usable => Problem {
                reason: Reason::CredentialsRefused,
                message: format!(
                    "no valid token for Kafka: {why}; connections go on as long as Kafka lets them, and it is tried again"
                ),
            },
            // Kafka says itself what it has against a token that is valid.
            Some(_) => return None,
            None => Problem {
                reason: Reason::TokenUnavailable,
                message: format!(
                    "Kafka at {servers} cannot be used without a token: {why}; nothing is lost, messages wait where they \
                     come from"
                ),
            },
        })
    }
}

fn give<C: ClientContext>(client: &KafkaClient<C>, token: Token) {
    let lifetime = token.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
    let given = OAuthToken {
        token: token.text,
        principal_name: token.principal,
        lifetime_ms: i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX),
    };
    if let Err(why) = set_token(client, given, &token.extensions) {
        tracing::warn!("librdkafka does not take a token: {why}");
    }
}

/// How long to wait before an endpoint is asked again.
pub(super) fn patience() -> Backoff {
    Backoff::between(PAUSES.0, PAUSES.1)
}

impl Tokens {
    fn of(source: Source, token: Option<Token>) -> Self {
        Self {
            number: AtomicU64::new(u64::from(token.is_some())),
            inner: Mutex::new(Inner {
                source,
                token,
                failed: None,
                ended: false,
            }),
            changed: Condvar::new(),
        }
    }

    fn run(&self) {
        let mut backoff = patience();
        loop {
            let source = {
                let inner = self.lock();
                if inner.ended {
                    return;
                }
                inner.source.clone()
            };
            let had = source.token();
            let inner = self.lock();
            if inner.source != source {
                continue;
            }
            let pause = self.take(inner, had, &mut backoff);
            let inner = self.lock();
            let waits = |inner: &mut Inner| !inner.ended && inner.source == source;
            let waited = self.changed.wait_timeout_while(inner, pause, waits);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Takes what was had; returns how long to wait.
    fn take(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        had: Result<Token, NoToken>,
        backoff: &mut Backoff,
    ) -> Duration {
        let is_placed = matches!(inner.source, Source::Place(_));
        match had {
            Ok(token) => {
                backoff.reset();
                if inner.failed.take().is_some() {
                    tracing::info!("there is a token for Kafka again");
                }
                let left = token.expires.duration_since(SystemTime::now());
                if inner.token.as_ref() != Some(&token) {
                    self.put(inner, Some(token));
                }
                match is_placed {
                    true => LOOK,
                    false => share(left.unwrap_or_default()),
                }
            }
            // It may be gone for the moment in which it is replaced.
            Err(_) if is_placed && inner.valid().is_some() => LOOK,
            Err(why) => {
                if inner.failed.is_none() {
                    tracing::warn!("no newer token for Kafka: {}", why.text);
                }
                inner.failed = Some(why);
                drop(inner);
                self.changed.notify_all();
                backoff.next()
            }
        }
    }

    fn put(&self, mut inner: MutexGuard<'_, Inner>, token: Option<Token>) {
        inner.token = token;
        self.number.fetch_add(1, Ordering::AcqRel);
        drop(inner);
        self.changed.notify_all();
    }

    /// The token in use, or the first, or why there is none.
    fn wait(&self, until: Instant) -> Result<Token, NoToken> {
        let inner = self.lock();
        let left = until.saturating_duration_since(Instant::now());
        let waits = |inner: &mut Inner| inner.valid().is_none() && inner.failed.is_none();
        let waited = self.changed.wait_timeout_while(inner, left, waits);
        let (inner, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match (inner.valid(), &inner.failed) {
            (Some(token), _) => Ok(token.clone()),
            (None, Some(why)) => Err(why.clone()),
            (None, None) => Err(NoToken::away(format!(
                "there is no token for Kafka yet: its endpoint does not answer; check {}.tokenEndpointUrl and the network",
                answer::FIELD
            ))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a token is used before the next is asked for: some three quarters of what is left of its life. Kafka's clients
/// show theirs again when nine tenths are over; not all workers ask at once.
fn share(left: Duration) -> Duration {
    let spread = (random::number() % 1024) as f64 / 1024.0;
    left.mul_f64(0.7 + 0.05 * spread).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str, life: Duration) -> Token {
        Token {
            text: text.into(),
            principal: String::new(),
            expires: SystemTime::now() + life,
            extensions: BTreeMap::new(),
            endpoint: None,
        }
    }

    fn tokens(of: Option<Token>) -> Tokens {
        Tokens::of(Source::Place(Value::Literal(String::new())), of)
    }

    #[test]
    fn a_token_is_used_for_three_quarters_of_its_life_and_an_endpoint_is_not_asked_in_a_rush() {
        let hour = Duration::from_secs(3_600);
        for _ in 0..100 {
            let share = share(hour);
            assert!(
                share >= hour.mul_f64(0.7) && share <= hour.mul_f64(0.75),
                "{share:?}"
            );
        }
        assert_eq!(share(Duration::ZERO), SHORTEST);
    }

    #[test]
    fn what_fails_keeps_the_token_there_is_and_is_said_as_long_as_it_lasts() {
        let hour = Duration::from_secs(3_600);
        let client = Client::sample();
        let bearer = Bearer(Some(Arc::new(Tokens::of(
            Source::Endpoint(Box::new(client)),
            Some(token("a", hour)),
        ))));
        let tokens = bearer.0.as_ref().unwrap();
        let mut backoff = Backoff::default();
        assert_eq!(bearer.problem("k:9092", true), None);
        let failed = || Err(NoToken::refused("it says no: ask it"));
        let pause = tokens.take(tokens.lock(), failed(), &mut backoff);
        assert!(pause < Duration::from_secs(1));
        assert_eq!(tokens.wait(Instant::now()).unwrap().text, "a");
        let problem = bearer.problem("k:9092", true).unwrap();
        assert_eq!(problem.reason, Reason::CredentialsRefused);
        assert!(
            problem
                .message
                .contains("it says no: ask it; the one in use is valid"),
            "{problem:?}"
        );
        // One that has expired is none.
        tokens.put(tokens.lock(), Some(token("a", Duration::ZERO)));
        assert_eq!(
            tokens.wait(Instant::now()),
            Err(NoToken::refused("it says no: ask it"))
        );
        assert_eq!(
            bearer.problem("k:9092", false).unwrap().reason,
            Reason::TokenUnavailable
        );
        tokens.take(tokens.lock(), Ok(token("b", hour)), &mut backoff);
        assert_eq!(bearer.problem("k:9092", false), None);
        assert_eq!(tokens.wait(Instant::now()).unwrap().text, "b");
    }

    #[test]
    fn a_file_that_is_gone_for_a_moment_says_nothing_against_its_token() {
        let tokens = tokens(Some(token("a", Duration::from_secs(60))));
        let had = placed(&Value::File("/nowhere/token".into()));
        assert!(had.is_err());
        assert_eq!(tokens.take(tokens.lock(), had, &mut Backoff::default()), LOOK);
        assert_eq!(tokens.lock().failed, None);
    }

    #[test]
    fn of_a_token_that_cannot_be_used_the_reason_is_said_and_nothing_of_it() {
        let encode = |claims: &str| format!("e30.{}.secret", URL_SAFE_NO_PAD.encode(claims));
        for (text, says) in [
            ("secret".to_owned(), "is no JWT"),
            (encode(r#"{"sub":"secret"}"#), "does not say when it expires"),
            (encode(r#"{"exp":1}"#), "has expired"),
            (format!("{}\u{1}", encode(r#"{"exp":9999999999}"#)), "is no JWT"),
        ] {
            let why = placed(&Value::Literal(text)).unwrap_err();
            assert!(why.text.contains(says), "{why:?}");
            assert!(!why.text.contains("secret"), "{why:?}");
        }
    }
}

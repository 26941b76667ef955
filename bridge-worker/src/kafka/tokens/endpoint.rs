//! The request of the client credentials grant (RFC 6749, section 4.4): one for each token.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use millrace_contract::{ClientCredentials, Value};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::answer::{self, Answer, FIELD};
use super::{NoToken, Token};
use crate::certificates::{Certificates, CertificatesError, Peer, Validity, explain};
use crate::kafka::OptionsError;
use crate::value::text;

/// How long an endpoint may take, from the look for its address to the last byte.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
/// What needs no escape in a form (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const ENDPOINT: Peer = Peer {
    who: "the token endpoint",
    kind: "KafkaSink",
    addresses: "spec.sasl.oauthBearer.clientCredentials.tokenEndpointUrl",
    tls: "spec.sasl.oauthBearer.clientCredentials.tls",
    other_name: "give the endpoint a certificate with this one",
};

/// Who asks for tokens, and where. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Client {
    url: Uri,
    id: String,
    /// The document has the id as it is: it may be printed.
    id_is_written: bool,
    secret: String,
    scope: Option<String>,
    audience: Option<String>,
    extensions: BTreeMap<String, String>,
    certificates: Certificates,
    validities: (Option<Validity>, Option<Validity>),
}

impl Client {
    /// Reads what a document names.
    ///
    /// # Errors
    /// When a value cannot be read, or the url is not one with TLS.
    pub(crate) fn read(written: &ClientCredentials) -> Result<Self, OptionsError> {
        let wrong = || {
            let url = &written.token_endpoint_url;
            // A login may stand before it.
            let url = url.rsplit_once('@').map_or(url.as_str(), |(_, rest)| rest);
            OptionsError::TokenEndpoint(format!(
                "{FIELD}.tokenEndpointUrl: {url:?} is not of the form https://host/path: without TLS the client's secret \
                 would be sent for everybody to read; correct it"
            ))
        };
        let url: Uri = written.token_endpoint_url.parse().map_err(|_| wrong())?;
        let has_user = url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if url.scheme_str() != Some("https") || url.host().is_none() || has_user {
            return Err(wrong());
        }
        let certificates = Certificates::read(&written.tls).map_err(|error| about_tls(&error))?;
        Ok(Self {
            url,
            id: text(&written.client_id)?,
            id_is_written: matches!(written.client_id, Value::Literal(_)),
            secret: text(&written.client_secret)?,
            scope: written.scope.clone(),
            audience: written.audience.clone(),
            extensions: written.extensions.clone(),
            validities: certificates.validities(),
            certificates,
        })
    }

    /// # Errors
    /// When what was read is no certificate.
    pub(crate) fn check(&self) -> Result<(), OptionsError> {
        let config = self.certificates.client_config();
        config.map(|_| ()).map_err(|error| about_tls(&error))
    }

    /// Its id, for those who know it.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Its id, for a person. What a Secret has is not printed: it may be the wrong key of it.
    pub(super) fn name(&self) -> String {
        match self.id_is_written {
            true => format!("{:?}", self.id),
            false => format!("that {FIELD}.clientIdKey names"),
        }
    }

    pub(super) fn extensions(&self) -> &BTreeMap<String, String> {
        &self.extensions
    }

    /// Until when what is shown to the endpoint is valid, and the first to expire of whom is trusted there.
    pub(super) fn validities(&self) -> (Option<Validity>, Option<Validity>) {
        self.validities
    }

    /// The endpoint, for a person.
    pub(super) fn place(&self) -> String {
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        format!("the token endpoint https://{authority}{}", self.url.path())
    }

    /// Whether a text has something in it that is out of a Secret.
    pub(super) fn is_told_by(&self, text: &str) -> bool {
        let is_in =
            |secret: &str| !secret.is_empty() && (text.contains(secret) || text.contains(&escaped(secret)));
        is_in(&self.secret) || (!self.id_is_written && is_in(&self.id)) || text.contains(&self.login())
    }

    /// Asks for a token. Blocks, for [`PATIENCE`] at most.
    pub(super) fn ask(&self) -> Result<Token, NoToken> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime =
            runtime.map_err(|error| NoToken::away(format!("no token can be asked for: {error}")))?;
        let asked = SystemTime::now();
        let answered = runtime.block_on(async { tokio::time::timeout(PATIENCE, self.exchange()).await });
        // Whoever looks for its address may take longer.
        runtime.shutdown_background();
        let answer = answered.unwrap_or_else(|_| Err(self.silent(&"it does not answer in time")))?;
        answer::read(self, &answer, asked)
    }

    async fn exchange(&self) -> Result<Answer, NoToken> {
        let host = self.url.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = self.url.port_u16().unwrap_or(443);
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| self.failed(&io::Error::other(error)))?;
        let config = self.certificates.client_config();
        let config = config.map_err(|error| self.failed(&io::Error::other(error)))?;
        let socket = TcpStream::connect((host, port)).await;
        let socket = socket.map_err(|error| self.failed(&error))?;
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, socket).await;
        let stream = stream.map_err(|error| self.failed(&error))?;
        let (_, session) = stream.get_ref();
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let shown = shown.and_then(|certificate| Validity::of(certificate));
        let silent = |error: hyper::Error| self.silent(&error);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(silent)?;
        tokio::spawn(connection);
        let response = sender.send_request(self.request()?).await.map_err(silent)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await;
        let body = body.map_err(|error| match error.is::<LengthLimitError>() {
            true => answer::unusable(self, "its answer is longer than 64 KiB"),
            false => self.silent(&error),
        })?;
        Ok(Answer {
            status: head.status,
            body: body.to_bytes(),
            shown,
        })
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, NoToken> {
        let unwritable =
            |error: hyper::http::Error| NoToken::refused(format!("no request can be made: {error}"));
        let mut form = "grant_type=client_credentials".to_owned();
        for (name, value) in [("scope", &self.scope), ("audience", &self.audience)] {
            if let Some(value) = value {
                form = format!("{form}&{name}={}", escaped(value));
            }
        }
        let login = format!("Basic {}", self.login());
        let mut login = HeaderValue::try_from(login).map_err(|error| unwritable(error.into()))?;
        login.set_sensitive(true);
        let authority = self.url.authority().map_or("", |authority| authority.as_str());
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        Request::post(path)
            .header(HOST, authority)
            .header(AUTHORIZATION, login)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(form.into()))
            .map_err(unwritable)
    }

    /// `client_secret_basic` (RFC 6749, section 2.3.1).
    fn login(&self) -> String {
        STANDARD.encode(format!("{}:{}", escaped(&self.id), escaped(&self.secret)))
    }

    /// No connection, or no TLS.
    fn failed(&self, error: &io::Error) -> NoToken {
        match explain(error, false, &ENDPOINT) {
            Some(why) => NoToken::refused(format!("{}: {why}", self.place())),
            None => self.silent(error),
        }
    }

    fn silent(&self, error: &dyn std::fmt::Display) -> NoToken {
        NoToken::away(format!(
            "{} cannot be reached: {error}; check {FIELD}.tokenEndpointUrl and the network",
            self.place()
        ))
    }

    #[cfg(test)]
    pub(super) fn sample() -> Self {
        Self::sample_of(Value::Literal("bridge".into()))
    }

    #[cfg(test)]
    pub(super) fn sample_of(client_id: Value) -> Self {
        use millrace_contract::Tls;
        Self::read(&ClientCredentials {
            token_endpoint_url: "https://idp.example/token".into(),
            client_id,
            client_secret: Value::Literal("canary secret".into()),
            scope: None,
            audience: None,
            extensions: BTreeMap::new(),
            tls: Tls::default(),
        })
        .unwrap()
    }
}

/// What is wrong with certificates, by the field that names them.
fn about_tls(error: &CertificatesError) -> OptionsError {
    let told = error.to_string().replace("spec.tls", &format!("{FIELD}.tls"));
    OptionsError::TokenEndpoint(told)
}

fn escaped(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use millrace_contract::Tls;

    use super::*;

    fn written(url: &str) -> ClientCredentials {
        ClientCredentials {
            token_endpoint_url: url.into(),
            client_id: Value::Literal("bridge:1".into()),
            client_secret: Value::Literal("a b%+/é".into()),
            scope: Some("kafka write".into()),
            audience: Some("https://kafka/&x".into()),
            extensions: BTreeMap::new(),
            tls: Tls::default(),
        }
    }

    #[tokio::test]
    async fn who_asks_is_escaped_before_it_is_encoded_and_what_is_asked_is_a_form() {
        let client = Client::read(&written("https://idp.example:8443/realms/plant/token?x=y")).unwrap();
        let request = client.request().unwrap();
        assert_eq!(request.uri(), "/realms/plant/token?x=y");
        assert_eq!(request.headers()[HOST], "idp.example:8443");
        let login = request.headers()[AUTHORIZATION].to_str().unwrap();
        let login = STANDARD.decode(login.strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(login, b"bridge%3A1:a%20b%25%2B%2F%C3%A9");
        let form = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            form,
            "grant_type=client_credentials&scope=kafka%20write&audience=https%3A%2F%2Fkafka%2F%26x"
        );
    }

    #[test]
    fn a_url_without_tls_is_refused_before_anything_is_sent() {
        for url in [
            "http://idp.example/token",
            "idp.example/token",
            "https://",
            "https://id:canary@idp/token",
            "https://id:canary@idp/tok en",
        ] {
            let error = Client::read(&written(url)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("is not of the form https://host/path"), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }
}

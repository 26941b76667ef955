//! Where the values are that are in no manifest: passwords, certificates, keys, tokens.

use std::time::Duration;

use crate::api::{
    BasicAuth, CertificateSource, ClientCertificate, ClientCredentials, KafkaSink, MqttBroker, Named,
    SecretRef,
};
use crate::units::GepDuration;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place<'a> {
    /// One key of a Secret.
    Secret(Key<'a>),
    /// One key of a ConfigMap.
    ConfigMap(Key<'a>),
    /// A token of the workers' ServiceAccount.
    Token {
        /// Whom it is for.
        audience: &'a str,
        /// How long it is valid, in seconds.
        expiration_seconds: u32,
    },
}

impl<'a> Place<'a> {
    /// The same in another namespace.
    pub fn within(self, namespace: &'a str) -> Self {
        match self {
            Self::Secret(key) => Self::Secret(Key { namespace, ..key }),
            Self::ConfigMap(key) => Self::ConfigMap(Key { namespace, ..key }),
            Self::Token { .. } => self,
        }
    }
}

/// One key of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key<'a> {
    /// The object's namespace.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
    /// The key in it.
    pub key: &'a str,
}

/// The places that a broker names.
pub fn broker_places(broker: &MqttBroker) -> Vec<Place<'_>> {
    of_broker(broker).into_iter().map(|(_, place)| place).collect()
}

/// The places that a Kafka cluster's object names.
pub fn sink_places(sink: &KafkaSink) -> Vec<Place<'_>> {
    of_sink(sink).into_iter().map(|(_, place)| place).collect()
}

/// The places that a broker names, each with the field that does.
pub(crate) fn of_broker(broker: &MqttBroker) -> Vec<(String, Place<'_>)> {
    let namespace = broker.namespace();
    let spec = &broker.spec;
    let auth = spec.auth.as_ref();
    let basic = auth.and_then(|auth| auth.basic.as_ref());
    let token = auth.and_then(|auth| auth.token.as_ref());
    let tls = spec.tls.as_ref();
    let mut places = Vec::new();
    places.extend(
        basic
            .into_iter()
            .flat_map(|basic| of_basic(namespace, "spec.auth.basic", basic)),
    );
    places.extend(token.map(|token| {
        let place = self::token(&token.audience, &token.expiration);
        ("spec.auth.token".into(), place)
    }));
    places.extend(of_tls(
        namespace,
        "spec.tls",
        tls.and_then(|tls| tls.ca.as_ref()),
        tls.and_then(|tls| tls.client_certificate.as_ref()),
    ));
    places
}

/// The places that a Kafka cluster's object names, each with the field that does.
pub(crate) fn of_sink(sink: &KafkaSink) -> Vec<(String, Place<'_>)> {
    let namespace = sink.namespace();
    let sasl = sink.spec.sasl.as_ref();
    let basic = sasl.and_then(|sasl| sasl.basic.as_ref());
    let bearer = sasl.and_then(|sasl| sasl.oauth_bearer.as_ref());
    let token = bearer.and_then(|bearer| bearer.token.as_ref());
    let client = bearer.and_then(|bearer| bearer.client_credentials.as_ref());
    let tls = sink.spec.tls.as_ref();
    let mut places = Vec::new();
    places.extend(
        basic
            .into_iter()
            .flat_map(|basic| of_basic(namespace, "spec.sasl.basic", basic)),
    );
    places.extend(token.map(|token| {
        let place = self::token(&token.audience, &token.expiration);
        ("spec.sasl.oauthBearer.token".into(), place)
    }));
    places.extend(
        client
            .into_iter()
            .flat_map(|client| of_client(namespace, "spec.sasl.oauthBearer.clientCredentials", client)),
    );
    places.extend(of_tls(
        namespace,
        "spec.tls",
        tls.and_then(|tls| tls.ca.as_ref()),
        tls.and_then(|tls| tls.client_certificate.as_ref()),
    ));
    places
}

fn of_basic<'a>(namespace: &'a str, field: &str, basic: &'a BasicAuth) -> Vec<(String, Place<'a>)> {
    let username = basic.username.is_none().then(|| {
        let place = secret(namespace, &basic.secret_ref, basic.username_key());
        (format!("{field}.usernameKey"), place)
    });
    let password = secret(namespace, &basic.secret_ref, &basic.password_key);
    let password = (format!("{field}.passwordKey"), password);
    username.into_iter().chain([password]).collect()
}

fn of_client<'a>(namespace: &'a str, field: &str, client: &'a ClientCredentials) -> Vec<(String, Place<'a>)> {
    let id = client.client_id.is_none().then(|| {
        let place = secret(namespace, &client.secret_ref, client.client_id_key());
        (format!("{field}.clientIdKey"), place)
    });
    let of_secret = secret(namespace, &client.secret_ref, &client.client_secret_key);
    let of_secret = (format!("{field}.clientSecretKey"), of_secret);
    let ca = client.tls.as_ref().and_then(|tls| tls.ca.as_ref());
    let of_tls = of_tls(namespace, &format!("{field}.tls"), ca, None);
    id.into_iter().chain([of_secret]).chain(of_tls).collect()
}

fn of_tls<'a>(
    namespace: &'a str,
    above: &str,
    ca: Option<&'a CertificateSource>,
    client: Option<&'a ClientCertificate>,
) -> Vec<(String, Place<'a>)> {
    let mut places = Vec::new();
    if let Some((field, place)) = ca.and_then(|ca| certificates(namespace, ca)) {
        places.push((format!("{above}.ca.{field}.key"), place));
    }
    if let Some(client) = client {
        for (field, key) in [
            ("certificateKey", &client.certificate_key),
            ("privateKeyKey", &client.private_key_key),
        ] {
            let place = secret(namespace, &client.secret_ref, key);
            places.push((format!("{above}.clientCertificate.{field}"), place));
        }
    }
    places
}

/// Where certificates are, and the field that says it.
pub(crate) fn certificates<'a>(
    namespace: &'a str,
    source: &'a CertificateSource,
) -> Option<(&'static str, Place<'a>)> {
    let key = |key_ref: &'a crate::api::KeyRef| Key {
        namespace,
        name: &key_ref.name,
        key: &key_ref.key,
    };
    match (&source.config_map_key_ref, &source.secret_key_ref) {
        (Some(found), _) => Some(("configMapKeyRef", Place::ConfigMap(key(found)))),
        (None, Some(found)) => Some(("secretKeyRef", Place::Secret(key(found)))),
        (None, None) => None,
    }
}

pub(crate) fn secret<'a>(namespace: &'a str, named: &'a SecretRef, key: &'a str) -> Place<'a> {
    Place::Secret(Key {
        namespace,
        name: &named.name,
        key,
    })
}

pub(crate) fn token<'a>(audience: &'a str, expiration: &GepDuration) -> Place<'a> {
    let expiration = expiration.parse().unwrap_or(Duration::from_secs(3600));
    Place::Token {
        audience,
        expiration_seconds: u32::try_from(expiration.as_secs()).unwrap_or(u32::MAX),
    }
}

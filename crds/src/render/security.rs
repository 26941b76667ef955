//! How connections are made: addresses, certificates, passwords, tokens.

use millrace_contract as contract;

use super::RenderOptions;
use crate::api::{
    BasicAuth, BrokerAuth, BrokerTls, CertificateSource, ClientCertificate, ClientCredentials, KafkaTls,
    OAuthBearer, Sasl, SaslMechanism, SystemRoots,
};
use crate::places;

/// A url with its port, as a document has it.
pub(super) fn complete(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("mqtt", url));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (port, path) = match scheme {
        "mqtts" => (8883, ""),
        "ws" => (80, path),
        "wss" => (443, path),
        _ => (1883, ""),
    };
    // The colons of an IPv6 address are inside its brackets.
    let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
    match after_address.contains(':') {
        true => format!("{scheme}://{host}{path}"),
        false => format!("{scheme}://{host}:{port}{path}"),
    }
}

pub(super) fn of_broker(namespace: &str, tls: &BrokerTls, options: &RenderOptions<'_>) -> contract::Tls {
    contract::Tls {
        server_name: tls.server_name.clone(),
        ..trust(
            namespace,
            tls.ca.as_ref(),
            tls.system_roots,
            tls.client_certificate.as_ref(),
            options,
        )
    }
}

pub(super) fn of_kafka(namespace: &str, tls: &KafkaTls, options: &RenderOptions<'_>) -> contract::Tls {
    let client = tls.client_certificate.as_ref();
    trust(namespace, tls.ca.as_ref(), tls.system_roots, client, options)
}

fn trust(
    namespace: &str,
    ca: Option<&CertificateSource>,
    system: SystemRoots,
    client: Option<&ClientCertificate>,
    options: &RenderOptions<'_>,
) -> contract::Tls {
    let ca = ca.and_then(|ca| places::certificates(namespace, ca));
    contract::Tls {
        ca: ca.map(|(_, place)| (options.places)(&place)),
        and_system: system == SystemRoots::Always,
        client: client.map(|client| {
            let value = |key| (options.places)(&places::secret(namespace, &client.secret_ref, key));
            contract::ClientCertificate {
                certificate: value(&client.certificate_key),
                private_key: value(&client.private_key_key),
            }
        }),
        server_name: None,
    }
}

/// User name and password for a broker.
pub(super) fn login(
    namespace: &str,
    auth: &BrokerAuth,
    options: &RenderOptions<'_>,
) -> Option<contract::Credentials> {
    if let Some(basic) = &auth.basic {
        return Some(credentials(namespace, basic, options));
    }
    let token = auth.token.as_ref()?;
    Some(contract::Credentials {
        username: contract::Value::Literal(token.username.clone()),
        password: (options.places)(&places::token(&token.audience, &token.expiration)),
    })
}

/// How to log in to Kafka.
pub(super) fn sasl(namespace: &str, sasl: &Sasl, options: &RenderOptions<'_>) -> Option<contract::Sasl> {
    let mechanism = match sasl.mechanism {
        SaslMechanism::Plain => "PLAIN",
        SaslMechanism::ScramSha256 => "SCRAM-SHA-256",
        SaslMechanism::ScramSha512 => "SCRAM-SHA-512",
        SaslMechanism::OAuthBearer => {
            return bearer(namespace, sasl.oauth_bearer.as_ref()?, options);
        }
    };
    Some(contract::Sasl::Basic {
        mechanism: mechanism.into(),
        credentials: credentials(namespace, sasl.basic.as_ref()?, options),
    })
}

fn bearer(namespace: &str, bearer: &OAuthBearer, options: &RenderOptions<'_>) -> Option<contract::Sasl> {
    if let Some(client) = &bearer.client_credentials {
        let client = client_credentials(namespace, client, options);
        return Some(contract::Sasl::ClientCredentials(Box::new(client)));
    }
    let token = bearer.token.as_ref()?;
    let place = places::token(&token.audience, &token.expiration);
    Some(contract::Sasl::Token((options.places)(&place)))
}

fn client_credentials(
    namespace: &str,
    client: &ClientCredentials,
    options: &RenderOptions<'_>,
) -> contract::ClientCredentials {
    let value = |key| (options.places)(&places::secret(namespace, &client.secret_ref, key));
    let tls = client.tls.clone().unwrap_or_default();
    contract::ClientCredentials {
        token_endpoint_url: client.token_endpoint_url.clone(),
        client_id: match &client.client_id {
            Some(id) => contract::Value::Literal(id.clone()),
            None => value(client.client_id_key()),
        },
        client_secret: value(&client.client_secret_key),
        scope: client.scope.clone(),
        audience: client.audience.clone(),
        extensions: client.extensions.clone(),
        tls: trust(namespace, tls.ca.as_ref(), tls.system_roots, None, options),
    }
}

fn credentials(namespace: &str, basic: &BasicAuth, options: &RenderOptions<'_>) -> contract::Credentials {
    let value = |key| (options.places)(&places::secret(namespace, &basic.secret_ref, key));
    contract::Credentials {
        username: match &basic.username {
            Some(name) => contract::Value::Literal(name.clone()),
            None => value(basic.username_key()),
        },
        password: value(&basic.password_key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gets_the_port_it_does_not_name() {
        for (written, rendered) in [
            ("mqtt://localhost", "mqtt://localhost:1883"),
            ("mqtt://localhost:1884", "mqtt://localhost:1884"),
            ("mqtt://localhost/", "mqtt://localhost:1883"),
            ("mqtt://[::1]", "mqtt://[::1]:1883"),
            ("mqtt://[::1]:1884/", "mqtt://[::1]:1884"),
            ("mqtts://plant", "mqtts://plant:8883"),
            ("ws://plant/a:b", "ws://plant:80/a:b"),
            ("wss://plant:8084/mqtt", "wss://plant:8084/mqtt"),
            ("wss://plant", "wss://plant:443"),
        ] {
            assert_eq!(complete(written), rendered);
        }
    }
}

//! The patterns of the schemas, each with what a user is told who wrote something else.

use crate::units::{GepDuration, Quantity};

/// Name of a Kubernetes object (DNS subdomain).
pub(crate) const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Namespace (DNS label).
pub(crate) const NAMESPACE: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Key in a Secret.
pub(crate) const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";
/// Address of an MQTT broker.
pub(crate) const MQTT_URL: &str = r"^(mqtts?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?|wss?://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:%/?-]*)?)$";
/// Whom a token is for.
pub(crate) const AUDIENCE: &str = "^[!-~]+$";
/// Scopes of OAuth 2.0 (RFC 6749, section 3.3).
pub(crate) const SCOPE: &str = "^[!#-\\[\\]-~]+( [!#-\\[\\]-~]+)*$";
/// An endpoint that is sent secrets: with TLS.
pub(crate) const HTTPS_URL: &str = r"^https://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*)?([?][A-Za-z0-9._~!$&'()*+,;=:@%/?-]*)?$";
/// The value of a SASL extension (RFC 7628, section 3.1).
pub(crate) const EXTENSION: &str = "^[ -~]*$";
/// The name in a server's certificate: of a host, or an IP address.
pub(crate) const SERVER_NAME: &str = "^[A-Za-z0-9_]([A-Za-z0-9._:-]*[A-Za-z0-9])?$";
/// First part of a client id.
pub(crate) const CLIENT_ID_PREFIX: &str = "^[a-z0-9][-a-z0-9]*$";
/// Second part of a client id.
pub(crate) const SESSION_ID: &str = "^[a-z0-9]{1,8}$";
/// Address of a Kafka broker.
pub(crate) const BOOTSTRAP_SERVER: &str = r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
/// Kafka topic, or a prefix of topics followed by `*`.
pub(crate) const TOPIC_PATTERN: &str = r"^([A-Za-z0-9._-]+[*]?|[*])$";
/// Kafka consumer group.
pub(crate) const GROUP: &str = "^[A-Za-z0-9._:-]+$";
/// Kafka topic.
pub(crate) const TOPIC: &str = "^[A-Za-z0-9._-]+$";
/// Kubernetes' own quantities, `100m` included; the API server checks them again in the pod.
pub(crate) const RESOURCE: &str = "^[0-9]+([.][0-9]+)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$";

/// What a user is told whose text `value` does not match `pattern`, after the text itself.
pub(crate) fn advice(pattern: &str, value: &str) -> String {
    match pattern {
        OBJECT_NAME => {
            "is not a name that Kubernetes takes: write lower-case letters, digits, `-` and `.`, beginning and ending with a \
             letter or digit"
        }
        NAMESPACE => "is not a namespace: write lower-case letters, digits and `-`",
        SECRET_KEY => "is not a key of a Secret: write letters, digits, `-`, `_` and `.`",
        MQTT_URL => return mqtt_url(value),
        SCOPE => "is no list of scopes: write ASCII characters without quotes, and one space between two scopes",
        HTTPS_URL => return https_url(value),
        EXTENSION => "is not the value of an extension: write ASCII characters",
        AUDIENCE => "is not an audience: write ASCII characters without spaces",
        SERVER_NAME => "is not a name that a certificate can have: write a host name or an IP address",
        CLIENT_ID_PREFIX => {
            "cannot begin a client id: write lower-case letters, digits and `-`, beginning with a letter or digit"
        }
        SESSION_ID => "is not a session id: write 1 to 8 lower-case letters and digits",
        BOOTSTRAP_SERVER => return bootstrap_server(value),
        TOPIC_PATTERN => {
            "is not a Kafka topic or the beginning of one: write letters, digits, `.`, `_` and `-`, and `*` at the end \
             only"
        }
        RESOURCE => "is not a quantity: write a number with a unit of Kubernetes, like 100m, 0.5 or 256Mi",
        GROUP => "cannot be the name of a consumer group: write letters, digits, `.`, `_`, `:` and `-`",
        TOPIC => "is not a Kafka topic: write letters, digits, `.`, `_` and `-`",
        GepDuration::PATTERN => "is not a duration: write whole numbers with h, m, s or ms, like 1h30m, 15s or 500ms",
        Quantity::PATTERN => {
            "is not a size: write a number of bytes, or a number with Ki, Mi, Gi, k, M or G, like 512Ki or 1Mi"
        }
        other => return format!("does not match {other}: write it so that it does"),
    }
    .to_owned()
}

fn mqtt_url(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    let has_user = rest.contains('@');
    match scheme {
        _ if has_user => "has a user name in it: put it in spec.auth.basic and write mqtt://host:port".into(),
        "" => format!("has no scheme: write mqtt://{rest}"),
        "tcp" => format!("has scheme tcp, which is called mqtt here: write mqtt://{rest}"),
        "ssl" | "tls" => format!("has scheme {scheme}, which is called mqtts here: write mqtts://{rest}"),
        "mqtt" | "mqtts" => format!("is not an address: write {scheme}://host:port and nothing after it"),
        "ws" | "wss" => format!("is not an address: write {scheme}://host:port/path"),
        _ => "is not the address of an MQTT broker: write mqtt://host:port, or mqtts, ws or wss instead of mqtt".into(),
    }
}

fn https_url(value: &str) -> String {
    let (scheme, rest) = value.split_once("://").unwrap_or(("", value));
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    match scheme {
        _ if host.contains('@') => {
            "has a user name in it: write the client's id and secret below clientCredentials, and https://host/path here".into()
        }
        "http" => format!("would have the client's secret sent for everybody to read: write https://{rest}"),
        "" => format!("has no scheme: write https://{rest}"),
        "https" => "is not an address: write https://host/path, without a fragment".into(),
        _ => "is not the address of a token endpoint: write https://host/path".into(),
    }
}

fn bootstrap_server(value: &str) -> String {
    match value.rsplit_once("://") {
        Some((_, rest)) => format!("has a scheme, which Kafka does not use: write {rest}"),
        None if value.contains(',') => "names several brokers: write one in each item of the list".into(),
        None if !value.contains(':') => format!("has no port: write {value}:9092"),
        None => "is not the address of a Kafka broker: write host:port".into(),
    }
}

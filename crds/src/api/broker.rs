use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::security::token_expiration;
use super::{
    AllowedRoutes, BasicAuth, CertificateSource, ClientCertificate, MqttBrokerStatus, SystemRoots, patterns,
};
use crate::units::GepDuration;

/// How to reach an MQTT broker. Routes refer to it by name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "MqttBroker",
    namespaced,
    status = "MqttBrokerStatus",
    shortname = "mrbroker",
    category = "millrace",
    derive = "PartialEq",
    doc = "An MQTT broker: how to reach it, and how sessions with it are kept.",
    printcolumn(name = "URL", type_ = "string", json_path = ".spec.urls[0]"),
    printcolumn(
        name = "Protocol",
        type_ = "string",
        json_path = ".status.capabilities.protocolVersion"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.tls) || self.urls.exists(u, u.startsWith('mqtts://') || u.startsWith('wss://'))")
    .message("has `tls` and no url with TLS: write one that begins with mqtts:// or wss://, or remove `tls`"))]
pub struct MqttBrokerSpec {
    /// Where the broker is: `mqtt://host:port`, or with TLS `mqtts://host:port`; in WebSockets `ws://host:port/path` and
    /// `wss://host:port/path`. Without port: 1883, 8883, 80 and 443; without path: `/mqtt`. Several are of one cluster and
    /// are tried in order, each time from the first; connections go back to an earlier one when it works again. User name and
    /// password belong in `auth`.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 512), regex(pattern = patterns::MQTT_URL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub urls: Vec<String>,
    /// Which MQTT version to speak. Auto: 5, then 3.1.1 if the broker refuses 5. V5: 5 only. V311: 3.1.1 only.
    #[serde(default)]
    pub protocol_version: ProtocolVersion,
    /// Whose certificates are trusted, and which is shown, where a url begins with `mqtts` or `wss`. Absent: the system's
    /// authorities, and none is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BrokerTls>,
    /// How to log in. Absent: without user name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<BrokerAuth>,
    /// How sessions with the broker are kept.
    #[serde(default)]
    pub session: Session,
    /// Whether the broker can share subscriptions, which routes with `ordering: Unordered` need. Auto: what the
    /// broker says (3.1.1 brokers say nothing). Supported: yes, whatever it says. Unsupported: no.
    #[serde(default)]
    pub shared_subscriptions: SharedSubscriptions,
    /// Which routes of other namespaces may refer to the broker. Absent: none. Their workers log in with Secrets of their
    /// own namespace, which have the names that are written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// Which MQTT version to speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProtocolVersion {
    /// 5, then 3.1.1 if the broker refuses 5.
    #[default]
    Auto,
    /// MQTT 5 only.
    V5,
    /// MQTT 3.1.1 only.
    V311,
}

/// Whether the broker can share subscriptions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SharedSubscriptions {
    /// What the broker says.
    #[default]
    Auto,
    /// Yes, whatever it says.
    Supported,
    /// No.
    Unsupported,
}

/// How to log in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.basic) || has(self.token)")
    .message("names no way to log in: write `basic` or `token`, or leave `auth` out"))]
#[x_kube(validation = Rule::new("!(has(self.basic) && has(self.token))")
    .message("names two ways to log in: remove `basic` or `token`"))]
pub struct BrokerAuth {
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// A token of the workers' ServiceAccount as password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
}

/// A token of the workers' ServiceAccount as password. Kubernetes makes it for this audience and renews it; workers take the
/// new one over without losing a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// Whom the token is for: what the broker expects in its `aud`.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::AUDIENCE))]
    pub audience: String,
    /// The user name beside it.
    #[serde(default = "token_username")]
    #[schemars(length(min = 1, max = 1024))]
    pub username: String,
    /// How long a token is valid. From 10m to 24h; it is renewed when four fifths of that are over.
    #[serde(default = "token_expiration")]
    pub expiration: GepDuration,
}

fn token_username() -> String {
    "millrace".into()
}

/// Whose certificates are trusted, and which is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokerTls {
    /// Where the certificates of the authorities are that are trusted, in PEM. Absent: the system's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// Whether the system's authorities are trusted. IfNoCa: if `ca` names none. Always: beside those.
    #[serde(default)]
    pub system_roots: SystemRoots,
    /// The certificate that is shown to a broker that asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
    /// The name that the broker's certificate must have. Absent: the host of the url.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SERVER_NAME))]
    pub server_name: Option<String>,
}

/// How sessions with the broker are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// First part of every client id: `<prefix>-<session id>-<lane>` of lanes, `<prefix>-<session id>-out-<n>` of routes from
    /// Kafka, `<prefix>-probe-<random>` of probes. Immutable: with another client id the
    /// broker would not resume the sessions, and would keep their messages for nobody.
    #[serde(default = "client_id_prefix")]
    #[schemars(length(min = 1, max = 32), regex(pattern = patterns::CLIENT_ID_PREFIX))]
    #[x_kube(validation = Rule::new("self == oldSelf")
        .message("is immutable: create another MqttBroker with the new prefix and let routes refer to it"))]
    pub client_id_prefix: String,
    /// How long the broker is asked to keep a session, and its messages, while the lane is away (MQTT 5). At
    /// least 1m; longer than any outage that must lose nothing.
    #[serde(default = "expiry_interval")]
    pub expiry_interval: GepDuration,
    /// The keep-alive: how soon a dead connection is noticed. From 5s to 18h.
    #[serde(default = "keep_alive")]
    pub keep_alive: GepDuration,
    /// The window: how many messages the broker may have unacknowledged on a connection (MQTT 5).
    #[serde(default = "receive_maximum")]
    #[schemars(range(min = 1, max = 65535))]
    pub receive_maximum: i32,
}

fn client_id_prefix() -> String {
    "millrace".into()
}

fn expiry_interval() -> GepDuration {
    GepDuration::new("24h")
}

fn keep_alive() -> GepDuration {
    GepDuration::new("30s")
}

fn receive_maximum() -> i32 {
    10_000
}

impl Default for Session {
    fn default() -> Self {
        Self {
            client_id_prefix: client_id_prefix(),
            expiry_interval: expiry_interval(),
            keep_alive: keep_alive(),
            receive_maximum: receive_maximum(),
        }
    }
}

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MqttBrokerStatus, SecretRef, patterns};
use crate::units::GepDuration;

/// How to reach an MQTT broker. Routes of the same namespace refer to it by name.
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
pub struct MqttBrokerSpec {
    /// Where the broker is: `mqtt://host:port`, port 1883 if none is given. Several are of one cluster and are
    /// tried in order. User name and password belong in `auth`.
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 512), regex(pattern = patterns::MQTT_URL)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub urls: Vec<String>,
    /// Which MQTT version to speak. Auto: 5, then 3.1.1 if the broker refuses 5. V5: 5 only. V311: 3.1.1 only.
    #[serde(default)]
    pub protocol_version: ProtocolVersion,
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
#[x_kube(validation = Rule::new("has(self.basic)")
    .message("names no way to log in: write `basic`, or leave `auth` out"))]
pub struct BrokerAuth {
    /// User name and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
}

/// User name and password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.username) && has(self.usernameKey))")
    .message("has two user names: remove `username` (the name itself) or `usernameKey` (its key in the Secret)"))]
pub struct BasicAuth {
    /// The Secret that holds the password, and the user name unless `username` gives it.
    pub secret_ref: SecretRef,
    /// The user name itself. Absent: it is read from the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub username: Option<String>,
    /// The Secret's key that holds the user name, if `username` is absent. Default: `username`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub username_key: Option<String>,
    /// The Secret's key that holds the password.
    #[serde(default = "password")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub password_key: String,
}

impl BasicAuth {
    /// The Secret's key that holds the user name, if `username` is absent.
    pub fn username_key(&self) -> &str {
        self.username_key.as_deref().unwrap_or("username")
    }
}

fn password() -> String {
    "password".into()
}

/// How sessions with the broker are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Session {
    /// First part of every client id, `<prefix>-<session id>-<lane>`. Immutable: with another client id the
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

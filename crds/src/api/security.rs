//! What certificates, passwords and tokens look like in both kinds that have them.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, patterns};
use crate::units::GepDuration;

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

/// One key of a Secret or ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub key: String,
}

/// Where certificates are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.configMapKeyRef) != has(self.secretKeyRef)")
    .message("needs one place: write `configMapKeyRef` or `secretKeyRef`"))]
pub struct CertificateSource {
    /// In a ConfigMap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<KeyRef>,
    /// In a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<KeyRef>,
}

/// A certificate and its key, in PEM, as cert-manager and Strimzi write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientCertificate {
    /// The Secret that holds both.
    pub secret_ref: SecretRef,
    /// The Secret's key that holds the certificate, and those of the authorities between it and one that the server knows.
    #[serde(default = "certificate_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub certificate_key: String,
    /// The Secret's key that holds the private key, not encrypted.
    #[serde(default = "private_key_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub private_key_key: String,
}

fn certificate_key() -> String {
    "tls.crt".into()
}

fn private_key_key() -> String {
    "tls.key".into()
}

/// Whether the system's authorities are trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SystemRoots {
    /// If no others are named.
    #[default]
    IfNoCa,
    /// Beside those that are named.
    Always,
}

/// How long a token is valid where nothing is written.
pub(super) fn token_expiration() -> GepDuration {
    GepDuration::new("1h")
}

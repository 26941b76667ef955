use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::security::token_expiration;
use super::{
    AllowedRoutes, BasicAuth, CertificateSource, ClientCertificate, KafkaSinkStatus, SecretRef, SystemRoots,
    patterns,
};
use crate::units::GepDuration;

/// How to reach a Kafka cluster. Routes refer to it by name.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "millrace.dev",
    version = "v1alpha1",
    kind = "KafkaSink",
    namespaced,
    status = "KafkaSinkStatus",
    shortname = "mrsink",
    category = "millrace",
    derive = "PartialEq",
    doc = "A Kafka cluster: how to reach it, and what may be done about its topics.",
    printcolumn(name = "Bootstrap", type_ = "string", json_path = ".spec.bootstrapServers[0]"),
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
pub struct KafkaSinkSpec {
    /// The brokers to ask first, as `host:port`. The others are learned from them.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 261), regex(pattern = patterns::BOOTSTRAP_SERVER)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub bootstrap_servers: Vec<String>,
    /// Whose certificates are trusted, and which is shown. Present, even if empty, the brokers are spoken to with TLS.
    /// Absent: without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// How to log in. Absent: without, or by the certificate in `tls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<Sasl>,
    /// Other settings, by librdkafka's names, as text. Settings that could weaken the guarantees (acks,
    /// idempotence, timeouts, retries, in-flight) or that Millrace sets itself are refused.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "settings")]
    #[x_kube(validation = Rule::new(LIBRDKAFKA_RULE).message(LIBRDKAFKA_MESSAGE))]
    pub librdkafka: BTreeMap<String, String>,
    /// What may be done about topics, by pattern; the longest pattern that matches wins. A topic that no pattern
    /// matches is never created.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pattern"])
    )]
    pub topics: Vec<TopicPolicy>,
    /// Consumer groups of others that are watched: how far behind they are, and whether more partitions would help them.
    /// Nothing is ever written to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["group"])
    )]
    pub watched_groups: Vec<WatchedGroup>,
    /// Which routes of other namespaces may refer to the sink. Absent: none. Their workers log in with Secrets of their own
    /// namespace, which have the names that are written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// Whose certificates are trusted, and which is shown. A broker's certificate must have the name by which Kafka advertises
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct KafkaTls {
    /// Where the certificates of the authorities are that are trusted, in PEM. Absent: the system's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// Whether the system's authorities are trusted. IfNoCa: if `ca` names none. Always: beside those.
    #[serde(default)]
    pub system_roots: SystemRoots,
    /// The certificate that is shown to brokers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<ClientCertificate>,
}

/// How to log in to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.mechanism == 'OAUTHBEARER' ? has(self.oauthBearer) && !has(self.basic) : true")
    .message("OAUTHBEARER takes tokens: write `oauthBearer`, and no `basic`"))]
#[x_kube(validation = Rule::new("self.mechanism != 'OAUTHBEARER' ? has(self.basic) && !has(self.oauthBearer) : true")
    .message("PLAIN and SCRAM take a password: write `basic`, and no `oauthBearer`"))]
pub struct Sasl {
    /// The mechanism, as Kafka spells it.
    pub mechanism: SaslMechanism,
    /// User name and password, for PLAIN and SCRAM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic: Option<BasicAuth>,
    /// Where tokens come from, for OAUTHBEARER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oauth_bearer: Option<OAuthBearer>,
}

/// A mechanism of SASL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password itself is sent: without TLS everybody on the way can read it.
    #[serde(rename = "PLAIN")]
    Plain,
    /// The password is proved, with SHA-256.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The password is proved, with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    /// A token is sent: without TLS everybody on the way can read it.
    #[serde(rename = "OAUTHBEARER")]
    OAuthBearer,
}

/// Where tokens come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.token) != has(self.clientCredentials)")
    .message("needs one source of tokens: write `token` or `clientCredentials`"))]
pub struct OAuthBearer {
    /// Tokens of the workers' ServiceAccount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<ServiceAccountToken>,
    /// Tokens of an OAuth 2.0 or OpenID Connect provider, got by the client credentials grant (RFC 6749, section 4.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_credentials: Option<ClientCredentials>,
}

/// Tokens that a provider gives for a client's id and secret, which are sent to it alone (`client_secret_basic`). They are
/// renewed when three quarters of their life are over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.clientId) && has(self.clientIdKey))")
    .message("has two client ids: remove `clientId` (the id itself) or `clientIdKey` (its key in the Secret)"))]
pub struct ClientCredentials {
    /// The provider's token endpoint, `token_endpoint` in its `/.well-known/openid-configuration`: `https://host/path`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = patterns::HTTPS_URL))]
    pub token_endpoint_url: String,
    /// The Secret that holds the client's secret, and its id unless `clientId` gives it.
    pub secret_ref: SecretRef,
    /// The client's id itself. Absent: it is read from the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub client_id: Option<String>,
    /// The Secret's key that holds the client's id, if `clientId` is absent. Default: `client-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub client_id_key: Option<String>,
    /// The Secret's key that holds the client's secret.
    #[serde(default = "client_secret")]
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::SECRET_KEY))]
    pub client_secret_key: String,
    /// What the token is to allow: scopes, separated by single spaces. Absent: what the provider gives by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::SCOPE))]
    pub scope: Option<String>,
    /// Whom the token is to be for, at providers that are to be told (`audience` of the request): what Kafka expects in its
    /// `aud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = patterns::AUDIENCE))]
    pub audience: Option<String>,
    /// What Kafka is told beside the token, by name (SASL extensions, RFC 7628): `logicalCluster` and `identityPoolId` for
    /// Confluent Cloud. They are no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "extensions")]
    pub extensions: BTreeMap<String, String>,
    /// Whose certificates are trusted at the endpoint. Absent: those of the system's authorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<EndpointTls>,
}

impl ClientCredentials {
    /// The Secret's key that holds the client's id, if `clientId` is absent.
    pub fn client_id_key(&self) -> &str {
        self.client_id_key.as_deref().unwrap_or("client-id")
    }
}

/// Whose certificates are trusted at an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointTls {
    /// Where the certificates of the authorities are that are trusted, in PEM. Absent: the system's are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CertificateSource>,
    /// Whether the system's authorities are trusted. IfNoCa: if `ca` names none. Always: beside those.
    #[serde(default)]
    pub system_roots: SystemRoots,
}

fn client_secret() -> String {
    "client-secret".into()
}

fn extensions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024, "pattern": patterns::EXTENSION},
    })
}

/// Tokens of the workers' ServiceAccount, which Kubernetes makes and renews.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountToken {
    /// Whom the token is for: what Kafka expects in its `aud`.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::AUDIENCE))]
    pub audience: String,
    /// How long a token is valid. From 10m to 24h; it is renewed when four fifths of that are over.
    #[serde(default = "token_expiration")]
    pub expiration: GepDuration,
}

/// A consumer group that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct WatchedGroup {
    /// The group's id.
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::GROUP))]
    pub group: String,
    /// The topics that count, as names or as beginnings followed by `*`. Default: all that it reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_PATTERN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub topics: Vec<String>,
    /// The sink warns when the group is further behind than so many records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_lag: Option<i64>,
}

macro_rules! librdkafka_settings {
    ($first:literal $(, $more:literal)*) => {
        /// The settings that `spec.librdkafka` takes: none touches acks, idempotence, timeouts, retries or
        /// in-flight, and but for `partitioner`, which has a default, none is set by the worker itself.
        pub const LIBRDKAFKA_SETTINGS: &[&str] = &[$first $(, $more)*];
        const LIBRDKAFKA_RULE: &str = concat!("self.all(k, k in ['", $first, "'" $(, ", '", $more, "'")*, "])");
        const LIBRDKAFKA_MESSAGE: &str =
            concat!("has a setting that is not taken: remove it. These are: ", $first $(, ", ", $more)*);
    };
}

librdkafka_settings!(
    "broker.address.family",
    "broker.address.ttl",
    "client.dns.lookup",
    "compression.level",
    "connections.max.idle.ms",
    "debug",
    "enable.metrics.push",
    "partitioner",
    "socket.receive.buffer.bytes",
    "socket.send.buffer.bytes"
);

/// What may be done about the topics that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.growth.policy != 'Grow' || self.growth.max >= self.partitions")
    .message("growth.max is less than partitions, with which a topic begins: raise growth.max, or write fewer partitions"))]
pub struct TopicPolicy {
    /// A topic, or the beginning of topics followed by `*`: `telemetry.*`.
    #[schemars(length(min = 1, max = 249), regex(pattern = patterns::TOPIC_PATTERN))]
    pub pattern: String,
    /// Whether a missing topic is created. Never: records for it are errors. IfMissing: created when a route
    /// first needs it.
    #[serde(default)]
    pub create: Create,
    /// At most so many topics are created for this pattern by one worker since it started: a bound on what devices can
    /// cause.
    #[serde(default = "max_topics")]
    #[schemars(range(min = 1, max = 10000))]
    pub max_topics: i32,
    /// Partitions of a created topic.
    #[serde(default = "partitions")]
    #[schemars(range(min = 1, max = 10000))]
    pub partitions: i32,
    /// Replicas of a created topic. With fewer than 3, one lost Kafka broker can stop or lose the topic.
    #[serde(default = "replication_factor")]
    #[schemars(range(min = 1, max = 9))]
    pub replication_factor: i32,
    /// Configuration of a created topic, by Kafka's names, as text.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "settings")]
    pub config: BTreeMap<String, String>,
    /// Whether partitions are added as load and consumers ask for them.
    #[serde(default)]
    pub growth: Growth,
}

/// Whether partitions are added to a topic. They are never taken away: Kafka cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    /// Fixed: no; a topic with other than `partitions` is reported. Recommend: no; how many are wanted, and why, is
    /// reported. Grow: yes.
    #[serde(default)]
    pub policy: GrowthPolicy,
    /// At most so many partitions.
    #[serde(default = "max")]
    #[schemars(range(min = 1, max = 10000))]
    pub max: i32,
    /// So many records per second are enough for one partition.
    #[serde(default = "rate_per_partition")]
    #[schemars(range(min = 1))]
    pub rate_per_partition: i32,
    /// What about topics whose records have keys: with more partitions keys move to others, and order across the change is
    /// lost for them. Forbid: no partitions are added. Allow: they are.
    #[serde(default)]
    pub key_remap: KeyRemap,
    /// How long to wait after partitions were added before more are.
    #[serde(default = "cooldown")]
    pub cooldown: GepDuration,
}

impl Default for Growth {
    fn default() -> Self {
        Self {
            policy: GrowthPolicy::default(),
            max: max(),
            rate_per_partition: rate_per_partition(),
            key_remap: KeyRemap::default(),
            cooldown: cooldown(),
        }
    }
}

/// Whether partitions are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GrowthPolicy {
    /// No; other than the written number is reported.
    Fixed,
    /// No; how many are wanted is reported.
    #[default]
    Recommend,
    /// Yes.
    Grow,
}

/// Whether partitions are added where records have keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyRemap {
    /// No.
    #[default]
    Forbid,
    /// Yes.
    Allow,
}

/// Whether a missing topic is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Create {
    /// No: records for it are errors.
    #[default]
    Never,
    /// Yes, when a route first needs it.
    IfMissing,
}

fn max_topics() -> i32 {
    100
}

fn partitions() -> i32 {
    6
}

fn max() -> i32 {
    48
}

fn rate_per_partition() -> i32 {
    10_000
}

fn cooldown() -> GepDuration {
    GepDuration::new("30m")
}

fn replication_factor() -> i32 {
    3
}

fn settings(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

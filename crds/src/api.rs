//! The API types, as users write them.
//!
//! The documentation of specs and their fields is what `kubectl explain` shows: it is written for users. Every
//! string, list and map has a bound, since the API server reckons the cost of CEL rules from the bounds.

mod broker;
mod grants;
pub(crate) mod patterns;
mod route;
mod security;
mod shared;
mod sink;
mod status;

pub use broker::{
    BrokerAuth, BrokerTls, MqttBroker, MqttBrokerSpec, ProtocolVersion, Session, SharedSubscriptions,
    TokenAuth,
};
pub use grants::{
    AllowedRoutes, FromNamespaces, LabelDemand, LabelOperator, Labels, NAMESPACE_NAME_LABEL,
    NamespaceSelector, RouteNamespaces,
};
pub use route::{
    Compression, DeadLetter, ErrorAction, KafkaDestination, KafkaSource, MAX_SKIPPED, MqttDestination,
    MqttSource, NoMatchingSubscribers, OnError, Ordering, Payload, PayloadFormat, PodMetadata, PodSpec,
    PodTemplate, Producer, Propagate, Resources, Retain, RouteDestination, RouteSource, SKIP, Start,
    Subscription, TaintEffect, Timeouts, Toleration, TolerationOperator, TopicRoute, TopicRouteSpec,
    WorkerPods,
};
pub use security::{BasicAuth, CertificateSource, ClientCertificate, KeyRef, SystemRoots};
pub use shared::{ObjectRef, Reference, SecretRef};
pub use sink::{
    ClientCredentials, Create, EndpointTls, Growth, GrowthPolicy, KafkaSink, KafkaSinkSpec, KafkaTls,
    KeyRemap, LIBRDKAFKA_SETTINGS, OAuthBearer, Sasl, SaslMechanism, ServiceAccountToken, TopicPolicy,
    WatchedGroup,
};
pub use status::{
    BrokerCapabilities, ConsumerCounts, KafkaSinkStatus, LaneCounts, LedgerStatus, MqttBrokerStatus,
    TopicLagStatus, TopicRouteStatus, TopicStatus, WatchedGroupStatus,
};

/// The API group of all kinds.
pub const GROUP: &str = "millrace.dev";

/// The version of all kinds.
pub const VERSION: &str = "v1alpha1";

/// What [`MqttBroker`], [`KafkaSink`] and [`TopicRoute`] have in common.
pub(crate) trait Named {
    /// `metadata.name`; empty if it has none.
    fn name(&self) -> &str;

    /// `metadata.namespace`; `default` if it has none, as for `kubectl`.
    fn namespace(&self) -> &str;
}

impl<K: kube::Resource> Named for K {
    fn name(&self) -> &str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.meta().namespace.as_deref().unwrap_or("default")
    }
}

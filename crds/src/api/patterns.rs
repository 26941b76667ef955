//! The patterns of the schemas, each with what a user is told who wrote something else.

/// Name of a Kubernetes object (DNS subdomain).
pub(crate) const OBJECT_NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Key in a Secret.
pub(crate) const SECRET_KEY: &str = "^[-._a-zA-Z0-9]+$";
/// Address of an MQTT broker.
pub(crate) const MQTT_URL: &str = r"^mqtt://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$";
/// First part of a client id.
pub(crate) const CLIENT_ID_PREFIX: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Second part of a client id.
pub(crate) const SESSION_ID: &str = "^[a-z0-9]{1,8}$";
/// Address of a Kafka broker.
pub(crate) const BOOTSTRAP_SERVER: &str = r"^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
/// Kafka topic, or a prefix of topics followed by `*`.
pub(crate) const TOPIC_PATTERN: &str = r"^([A-Za-z0-9._-]+[*]?|[*])$";
/// Kafka topic.
pub(crate) const TOPIC: &str = "^[A-Za-z0-9._-]+$";

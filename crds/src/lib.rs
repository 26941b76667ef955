//! The API of Millrace: its types, their rules, and what is made of them without a cluster.
//!
//! - [`api`]: `MqttBroker`, `KafkaSink` and `TopicRoute`, group `millrace.dev`, version `v1alpha1`.
//! - [`crd_yaml`], [`crd_files`]: the CustomResourceDefinitions, as `kubectl apply -f crds/` takes them; [`CRD_VERSION`] is
//!   their version.
//! - [`validate`]: checks a set of manifests as the API server would, and then what it cannot: references,
//!   filters, templates and expressions. It never panics and never does I/O.
//! - [`partitions`]: how many partitions a topic is to have, and why.
//! - [`document`]: turns a route and what it refers to into the document that a worker runs.
//!
//! The rules that one object can break are CEL rules inside the schemas. Feature `cel` evaluates them here as
//! well, without an API server.

#[allow(
    unreachable_pub,
    reason = "KubeSchema copies a struct, with its `pub`, into a function"
)]
#[allow(
    clippy::duplicated_attributes,
    reason = "each printer column has a type and a path"
)]
pub mod api;
mod feeds;
pub mod partitions;
mod places;
mod render;
mod schema;
pub mod units;
mod validate;

pub use api::{KafkaSink, MqttBroker, TopicRoute};
pub use feeds::cycle;
pub use places::{Key, Place, broker_places, sink_places};
pub use render::{
    RenderError, RenderOptions, SessionSource, broker_document, document, group, known_topics, name_at,
    session_id, shares_group, sink_document, written_topic,
};
pub use schema::{CRD_VERSION, CRD_VERSION_ANNOTATION, SchemaError, crd_files, crd_yaml, crds};
pub use validate::{Finding, ManifestFile, Objects, Report, Severity, validate};

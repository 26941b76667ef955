use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use super::{Named, patterns};

/// Another object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
    /// The object's namespace. Absent: the route's. The `allowedRoutes` of an object of another namespace must admit the
    /// route; the Secrets and ConfigMaps that it names are those of the route's namespace all the same, so refer to one
    /// only if its owner may have them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = patterns::NAMESPACE))]
    pub namespace: Option<String>,
}

/// What a route refers to.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The field that does.
    pub field: &'static str,
    /// The object's namespace.
    pub namespace: &'a str,
    /// The object's name.
    pub name: &'a str,
}

impl<'a> Reference<'a> {
    pub(super) fn new(field: &'static str, object: &'a ObjectRef, own_namespace: &'a str) -> Self {
        Self {
            field,
            namespace: object.namespace.as_deref().unwrap_or(own_namespace),
            name: &object.name,
        }
    }

    /// Whether it is to this object.
    pub fn is_to<K: kube::Resource>(&self, object: &K) -> bool {
        self.name == object.name() && self.namespace == object.namespace()
    }

    /// Whether another reference is to the same object, both being to objects of one kind.
    pub fn is_as(&self, other: &Self) -> bool {
        self.name == other.name && self.namespace == other.namespace
    }
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = patterns::OBJECT_NAME))]
    pub name: String,
}

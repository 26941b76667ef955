use serde::Serialize;
use serde_json::Value;

use crate::names;
use crate::observed::ChildKind;

/// An object as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All fields that the operator has a say in.
    pub body: Value,
}

impl Desired {
    /// From an object of one of Kubernetes' types.
    pub fn of<K>(kind: ChildKind, object: &K) -> Self
    where
        K: Serialize + kube::Resource<DynamicType = ()>,
    {
        let mut body = serde_json::to_value(object).unwrap_or_default();
        body["apiVersion"] = K::api_version(&()).into();
        body["kind"] = K::kind(&()).into();
        let meta = object.meta();
        Self {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            body,
        }
    }

    /// Tells this content from another.
    pub fn hash(&self) -> String {
        names::full_hash(self.body.to_string().as_bytes())
    }
}

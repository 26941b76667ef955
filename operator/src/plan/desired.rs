use serde::Serialize;
use serde_json::value::RawValue;

use crate::names;
use crate::observed::ChildKind;

/// An object as it is to be.
#[derive(Clone, Debug)]
pub struct Desired {
    /// Its kind.
    pub kind: ChildKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// All fields that the operator has a say in. As text: a route has ten children, and as a tree each takes some ten
    /// times as much memory.
    pub body: Box<RawValue>,
}

impl Desired {
    /// From an object of one of Kubernetes' types.
    pub fn of<K>(kind: ChildKind, object: &K) -> Self
    where
        K: Serialize + kube::Resource<DynamicType = ()>,
    {
        let meta = object.meta();
        Self {
            kind,
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            body: serde_json::value::to_raw_value(object).unwrap_or_default(),
        }
    }

    /// Tells this content from another.
    pub fn hash(&self) -> names::Digest {
        names::digest(self.body.get().as_bytes())
    }
}

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;

use crate::names;
use crate::observed::Owner;

/// Whose children are made: name, labels and owner reference of each come from here.
#[derive(Clone, Debug)]
pub struct Family {
    /// The owner.
    pub owner: Owner,
    reference: OwnerReference,
}

impl Family {
    /// The family of an object.
    pub fn of<K: Resource<DynamicType = ()>>(kind: &'static str, object: &K) -> Self {
        let meta = object.meta();
        Self {
            owner: Owner {
                kind,
                namespace: meta.namespace.clone().unwrap_or_default(),
                name: meta.name.clone().unwrap_or_default(),
            },
            reference: OwnerReference {
                api_version: K::api_version(&()).into_owned(),
                kind: K::kind(&()).into_owned(),
                name: meta.name.clone().unwrap_or_default(),
                uid: meta.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            },
        }
    }

    /// The metadata of a child that goes with its owner.
    pub fn child(&self, name: String, component: &str) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(vec![self.reference.clone()]),
            ..self.orphan(name, component)
        }
    }

    /// The metadata of a child that outlives its owner.
    pub fn orphan(&self, name: String, component: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name),
            namespace: Some(self.owner.namespace.clone()),
            labels: Some(self.labels(component)),
            ..ObjectMeta::default()
        }
    }

    /// The labels of all children.
    pub fn labels(&self, component: &str) -> BTreeMap<String, String> {
        let mut labels = self.selector_labels(component);
        labels.insert(names::MANAGED_BY.0.into(), names::MANAGED_BY.1.into());
        labels.insert("app.kubernetes.io/name".into(), names::CONTAINER.into());
        labels
    }

    /// The labels that tell the pods of one component of one owner from all others.
    pub fn selector_labels(&self, component: &str) -> BTreeMap<String, String> {
        [
            (names::OWNER_KIND, self.owner.kind),
            (names::INSTANCE, &self.owner.name),
            (names::COMPONENT, component),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// Selects those pods.
    pub fn selector(&self, component: &str) -> LabelSelector {
        LabelSelector {
            match_labels: Some(self.selector_labels(component)),
            match_expressions: None,
        }
    }

    /// The same as text, as `/scale` shows it.
    pub fn selector_text(&self, component: &str) -> String {
        let labels = self.selector_labels(component);
        labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    }
}

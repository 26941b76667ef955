//! The objects of a cluster, with the rules by which an API server changes them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use crate::objects::{now, uid};

/// The kinds that there are: plural, version and kind.
const KINDS: &[(&str, &str, &str)] = &[
    ("topicroutes", "millrace.dev/v1alpha1", "TopicRoute"),
    ("mqttbrokers", "millrace.dev/v1alpha1", "MqttBroker"),
    ("kafkasinks", "millrace.dev/v1alpha1", "KafkaSink"),
    ("statefulsets", "apps/v1", "StatefulSet"),
    ("pods", "v1", "Pod"),
    ("jobs", "batch/v1", "Job"),
    ("configmaps", "v1", "ConfigMap"),
    ("services", "v1", "Service"),
    ("serviceaccounts", "v1", "ServiceAccount"),
    ("poddisruptionbudgets", "policy/v1", "PodDisruptionBudget"),
    ("networkpolicies", "networking.k8s.io/v1", "NetworkPolicy"),
    ("events", "events.k8s.io/v1", "Event"),
    ("namespaces", "v1", "Namespace"),
];

/// Version and kind of a plural.
pub(crate) fn kind(plural: &str) -> (&'static str, &'static str) {
    let (_, version, kind) = KINDS
        .iter()
        .find(|(its, ..)| *its == plural)
        .unwrap_or_else(|| panic!("the fake API server knows no {plural}"));
    (version, kind)
}

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) plural: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    pub(crate) fn new(plural: &str, namespace: &str, name: &str) -> Self {
        Self {
            plural: plural.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

/// Something that happened, as a watch tells it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) version: u64,
    pub(crate) key: Key,
    pub(crate) removed: bool,
    pub(crate) object: Arc<Value>,
}

/// The objects of a cluster, and what has happened to them since the log was last emptied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Store {
    objects: BTreeMap<Key, Arc<Value>>,
    /// What each manager has applied last, without and with the status.
    applied: HashMap<(Key, String, bool), Value>,
    version: u64,
    made: u64,
    pub(crate) log: Vec<Change>,
    /// What there was before the log.
    before: (u64, BTreeMap<Key, Arc<Value>>),
}

impl Store {
    /// The resource version of the last change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Watches reach back to this version.
    pub(crate) fn oldest(&self) -> u64 {
        self.before.0
    }

    /// Forgets what has happened.
    pub(crate) fn compact(&mut self) {
        self.log.clear();
        self.before = (self.version, self.objects.clone());
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects of a kind.
    pub(crate) fn all<'a>(&'a self, plural: &'a str) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects.iter().filter(move |(key, _)| key.plural == plural)
    }

    /// All objects.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.iter()
    }

    /// The objects as they were when `version` was the newest.
    pub(crate) fn as_of(&self, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut objects = self.before.1.clone();
        for change in self.log.iter().take_while(|change| change.version <= version) {
            if change.removed {
                objects.remove(&change.key);
            } else {
                objects.insert(change.key.clone(), Arc::clone(&change.object));
            }
        }
        objects
    }

    /// Creates an object.
    pub(crate) fn create(&mut self, mut key: Key, mut object: Value) -> Result<Arc<Value>, Refusal> {
        if key.name.is_empty() {
            let prefix = object["metadata"]["generateName"].as_str().unwrap_or_default();
            key.name = format!("{prefix}{:05x}", self.made);
            object["metadata"]["name"] = key.name.clone().into();
        }
        if self.objects.contains_key(&key) {
            return Err(Refusal::exists(&key));
        }
        if !object["metadata"]["resourceVersion"].is_null() {
            return Err(Refusal::invalid(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        Ok(self.insert(key, object))
    }

    fn insert(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.made += 1;
        let (version, kind) = kind(&key.plural);
        object["apiVersion"] = version.into();
        object["kind"] = kind.into();
        let meta = &mut object["metadata"];
        meta["name"] = key.name.clone().into();
        // A Namespace is in none.
        if !key.namespace.is_empty() {
            meta["namespace"] = key.namespace.clone().into();
        }
        meta["uid"] = format!("{:08x}-0000-4000-8000-000000000000", self.made).into();
        meta["creationTimestamp"] = now().into();
        meta["generation"] = 1.into();
        self.commit(key, object)
    }

    /// Replaces an object that was read.
    pub(crate) fn replace(&mut self, key: &Key, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let old = self.objects.get(key).ok_or_else(|| Refusal::missing(key))?;
        check(key, old, &object["metadata"])?;
        if !old["status"].is_null() {
            object["status"] = old["status"].clone();
        }
        let meta = old["metadata"].clone();
        for field in ["uid", "creationTimestamp", "generation", "deletionTimestamp"] {
            if !meta[field].is_null() {
                object["metadata"][field] = meta[field].clone();
            }
        }
        self.change(key, object)
    }

    /// Server-side apply: sets what is applied, and removes what the same manager applied before and no longer does.
    pub(crate) fn apply(
        &mut self,
        key: &Key,
        manager: &str,
        body: &Value,
        status: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let mut body = body.clone();
        if let Some(fields) = body.as_object_mut() {
            // What belongs to the other of the two resources.
            fields.retain(|name, _| (name == "status") == status);
        }
        let id = (key.clone(), manager.to_owned(), status);
        let Some(old) = self.objects.get(key) else {
            if status {
                return Err(Refusal::missing(key));
            }
            self.applied.insert(id, body.clone());
            return Ok(self.insert(key.clone(), body));
        };
        let mut object = Value::clone(old);
        if let Some(before) = self.applied.get(&id) {
            withdraw(&mut object, before, &body);
        }
        merge(&mut object, &body);
        let object = self.change(key, object)?;
        self.applied.insert(id, body);
        Ok(object)
    }

    /// A merge patch, with the uid or the resource version in it as preconditions.
    pub(crate) fn merge(&mut self, key: &Key, patch: &Value) -> Result<Arc<Value>, Refusal> {
        let old = self.objects.get(key).ok_or_else(|| Refusal::missing(key))?;
        check(key, old, &patch["metadata"])?;
        let mut object = Value::clone(old);
        merge(&mut object, patch);
        self.change(key, object)
    }

    /// Deletes an object, or marks it if something holds it back.
    pub(crate) fn delete(&mut self, key: &Key, options: &Value) -> Result<Arc<Value>, Refusal> {
        let old = self.objects.get(key).ok_or_else(|| Refusal::missing(key))?;
        check(key, old, &options["preconditions"])?;
        if !old["metadata"]["deletionTimestamp"].is_null() {
            return Ok(Arc::clone(old));
        }
        let held = !is_empty(&old["metadata"]["finalizers"]);
        // A pod goes when its processes have.
        if held || key.plural == "pods" {
            let mut object = Value::clone(old);
            object["metadata"]["deletionTimestamp"] = now().into();
            return self.change(key, object);
        }
        Ok(self.remove(key))
    }

    /// Takes an object away.
    pub(crate) fn remove(&mut self, key: &Key) -> Arc<Value> {
        self.version += 1;
        let mut object = Value::clone(&self.objects.remove(key).unwrap_or_default());
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.applied.retain(|(its, ..), _| its != key);
        let object = Arc::new(object);
        self.log.push(Change {
            version: self.version,
            key: key.clone(),
            removed: true,
            object: Arc::clone(&object),
        });
        object
    }

    /// An object is as it is now: what follows from its old and its new content.
    pub(crate) fn change(&mut self, key: &Key, mut object: Value) -> Result<Arc<Value>, Refusal> {
        let old = self.objects.get(key).ok_or_else(|| Refusal::missing(key))?;
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if **old == object {
            return Ok(Arc::clone(old));
        }
        let same = |field: &str| old[field] == object[field];
        if old["immutable"] == true && !same("data") {
            return Err(Refusal::invalid("field is immutable when `immutable` is set"));
        }
        if key.plural == "pods" && !same("spec") {
            return Err(Refusal::invalid(
                "pod updates may not change fields other than the image",
            ));
        }
        if !same("spec") {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or_default();
            object["metadata"]["generation"] = (generation + 1).into();
        }
        let meta = &object["metadata"];
        let goes = !meta["deletionTimestamp"].is_null() && is_empty(&meta["finalizers"]);
        if goes && key.plural != "pods" {
            return Ok(self.remove(key));
        }
        Ok(self.commit(key.clone(), object))
    }

    fn commit(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let object = Arc::new(object);
        self.objects.insert(key.clone(), Arc::clone(&object));
        self.log.push(Change {
            version: self.version,
            key,
            removed: false,
            object: Arc::clone(&object),
        });
        object
    }

    /// Children of which no owner is left.
    pub(crate) fn orphans(&self) -> Vec<Key> {
        let alive: HashSet<&str> = self.objects.values().filter_map(|object| uid(object)).collect();
        let is_orphan = |object: &Value| match object["metadata"]["ownerReferences"].as_array() {
            Some(owners) if !owners.is_empty() => owners
                .iter()
                .all(|owner| !alive.contains(owner["uid"].as_str().unwrap_or_default())),
            _ => false,
        };
        let orphans = self.objects.iter().filter(|(_, object)| is_orphan(object));
        orphans.map(|(key, _)| key.clone()).collect()
    }
}

/// Whether `labels` are those of an object.
pub(crate) fn is_selected(object: &Value, labels: &[(String, String)]) -> bool {
    labels
        .iter()
        .all(|(name, value)| object["metadata"]["labels"][name] == **value)
}

fn check(key: &Key, old: &Value, asked: &Value) -> Result<(), Refusal> {
    for field in ["uid", "resourceVersion"] {
        let (is, wanted) = (&old["metadata"][field], &asked[field]);
        if !wanted.is_null() && is != wanted {
            return Err(Refusal::conflict(key, field, is, wanted));
        }
    }
    Ok(())
}

fn is_empty(list: &Value) -> bool {
    list.as_array().is_none_or(Vec::is_empty)
}

/// RFC 7396, which is enough for server-side apply too where lists have one owner.
fn merge(into: &mut Value, from: &Value) {
    let Value::Object(fields) = from else {
        *into = from.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().and_then(|into| into.remove(name));
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// Removes from `object` what `before` has and `now` has not.
fn withdraw(object: &mut Value, before: &Value, now: &Value) {
    let (Some(before), Some(fields)) = (before.as_object(), object.as_object_mut()) else {
        return;
    };
    for (name, old) in before {
        let Some(value) = fields.get_mut(name) else {
            continue;
        };
        match now.get(name) {
            Some(new) => withdraw(value, old, new),
            None if old.is_object() => {
                withdraw(value, old, &json!({}));
                if value.as_object().is_some_and(Map::is_empty) {
                    fields.remove(name);
                }
            }
            None => {
                fields.remove(name);
            }
        }
    }
}

//! Objects that users write, as they are now.
//!
//! A watch lags behind what the operator itself has written. A pass that decided from what the watch shows would write
//! the same news twice, tell people twice, and look after objects that it has let go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};

/// All objects of a kind: each as a watch showed it last, or as the operator has written it since.
pub struct Latest<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    seen: Store<DeserializeGuard<K>>,
    written: Mutex<HashMap<Name, Written<K>>>,
}

/// Namespace and name.
type Name = (String, String);

enum Written<K> {
    /// What the API server answered.
    Object(Arc<K>),
    /// The object of this uid has been let go: it has nothing that holds it any more.
    LetGo(Option<String>),
}

impl<K> Latest<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    /// All objects that a watch has seen.
    pub(super) fn new(seen: Store<DeserializeGuard<K>>) -> Self {
        Self {
            seen,
            written: Mutex::default(),
        }
    }

    /// What a watch has seen.
    pub(super) fn seen(&self) -> &Store<DeserializeGuard<K>> {
        &self.seen
    }

    /// An object that is there and can be read. One that cannot is as good as absent: its own controller says what is
    /// wrong with it.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        // Locked before the store is read: what `forget` drops has left the store before.
        let mut written = self.lock();
        let guard = self.seen.get(&ObjectRef::new(name).within(namespace))?;
        let seen = guard.0.as_ref().ok()?;
        let key = (namespace.to_owned(), name.to_owned());
        match written.get(&key) {
            Some(Written::LetGo(uid)) if *uid == seen.meta().uid => return None,
            Some(Written::Object(own)) if is_newer(own.meta(), seen.meta()) => return Some(Arc::clone(own)),
            _ => written.remove(&key),
        };
        Some(Arc::new(seen.clone()))
    }

    /// Whether there is such an object, of which nothing is known.
    pub(super) fn is_unreadable(&self, namespace: &str, name: &str) -> bool {
        let guard = self.seen.get(&ObjectRef::new(name).within(namespace));
        guard.is_some_and(|guard| guard.0.is_err())
    }

    /// Looks at all objects that can be read, as the watch has seen them. There may be many: they are not copied.
    pub(super) fn visit(&self, mut visit: impl FnMut(&K)) {
        for guard in self.seen.state() {
            if let Ok(object) = &guard.0 {
                visit(object);
            }
        }
    }

    /// An object has been written: this is what the API server answered, nothing if the object is gone.
    pub(super) fn wrote(&self, answer: Option<K>) {
        if let Some(mut object) = answer {
            object.meta_mut().managed_fields = None;
            self.lock()
                .insert(key(&object), Written::Object(Arc::new(object)));
        }
    }

    /// Whether a watch shows an object, which is in the store now, as the operator itself has just written it. It is
    /// kept once from then on: no pass need follow that would notice.
    pub(super) fn shows_own(&self, object: &DeserializeGuard<K>) -> bool {
        let Ok(seen) = &object.0 else { return false };
        let (key, mut written) = (key(seen), self.lock());
        let is_own = match written.get(&key) {
            Some(Written::Object(own)) => own.meta().resource_version == seen.meta().resource_version,
            _ => false,
        };
        if is_own {
            written.remove(&key);
        }
        is_own
    }

    /// Nothing holds an object any more, and it is being deleted.
    pub(super) fn let_go(&self, object: &K) {
        let uid = object.meta().uid.clone();
        self.lock().insert(key(object), Written::LetGo(uid));
    }

    /// A watch has seen that an object is gone.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        self.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Written<K>>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key<K: Resource<DynamicType = ()>>(object: &K) -> Name {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Whether an object is of a later version than another. Versions of one kind are numbers that grow.
fn is_newer(one: &ObjectMeta, other: &ObjectMeta) -> bool {
    let version = |meta: &ObjectMeta| meta.resource_version.as_deref()?.parse::<u64>().ok();
    one.uid == other.uid && version(one) > version(other)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::reflector::{self, store::Writer};
    use kube::runtime::watcher::Event;

    use super::*;

    fn object(uid: &str, version: &str) -> ConfigMap {
        ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("plant".into()),
                name: Some("route".into()),
                uid: Some(uid.into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        }
    }

    fn watched() -> (Latest<ConfigMap>, Writer<DeserializeGuard<ConfigMap>>) {
        let (store, writer) = reflector::store();
        (Latest::new(store), writer)
    }

    fn show(writer: &mut Writer<DeserializeGuard<ConfigMap>>, object: ConfigMap) {
        writer.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(object))));
    }

    fn version(latest: &Latest<ConfigMap>) -> Option<String> {
        latest.get("plant", "route")?.resource_version()
    }

    #[test]
    fn what_was_written_stands_until_the_watch_shows_it_or_something_later() {
        let (latest, mut writer) = watched();
        show(&mut writer, object("a", "9"));
        latest.wrote(Some(object("a", "11")));
        assert_eq!(version(&latest).as_deref(), Some("11"));
        // What somebody else wrote before.
        show(&mut writer, object("a", "10"));
        assert_eq!(version(&latest).as_deref(), Some("11"));
        assert!(!latest.shows_own(&DeserializeGuard(Ok(object("a", "10")))));
        show(&mut writer, object("a", "11"));
        assert!(latest.shows_own(&DeserializeGuard(Ok(object("a", "11")))));
        assert!(latest.lock().is_empty());
        show(&mut writer, object("a", "12"));
        assert_eq!(version(&latest).as_deref(), Some("12"));
        assert!(latest.lock().is_empty());
    }

    #[test]
    fn what_was_let_go_is_not_seen_again_but_another_of_its_name_is() {
        let (latest, mut writer) = watched();
        show(&mut writer, object("a", "9"));
        latest.let_go(&object("a", "9"));
        assert_eq!(version(&latest), None);
        show(&mut writer, object("b", "12"));
        assert_eq!(version(&latest).as_deref(), Some("12"));
        assert!(latest.lock().is_empty());
    }

    #[test]
    fn what_was_written_of_an_object_is_no_news_of_another_of_its_name() {
        let (latest, mut writer) = watched();
        latest.wrote(Some(object("a", "11")));
        show(&mut writer, object("b", "10"));
        assert_eq!(version(&latest).as_deref(), Some("10"));
    }
}

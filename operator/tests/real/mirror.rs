use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use millrace_operator::names;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{KINDS, resource};
use crate::news;

/// Between two looks at the state.
const LOOK: Duration = Duration::from_millis(100);

/// The objects of a namespace: `plural/namespace/name`.
pub(crate) type Objects = BTreeMap<String, Arc<Value>>;

/// What there is in a cluster, as watches tell it.
pub(crate) struct Mirror {
    namespaces: Mutex<BTreeMap<String, Objects>>,
    news: watch::Sender<()>,
    /// Every change, for who wants to hear each: the name, and the object unless it is gone.
    changes: tokio::sync::broadcast::Sender<(String, Option<Arc<Value>>)>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Mirror {
    pub(super) fn start(client: Client) -> Arc<Self> {
        let this = Arc::new(Self {
            namespaces: Mutex::default(),
            news: watch::Sender::new(()),
            changes: tokio::sync::broadcast::Sender::new(1 << 16),
            tasks: Mutex::default(),
        });
        for (group, version, kind, plural) in KINDS {
            let api: Api<DynamicObject> =
                Api::all_with(client.clone(), &resource(group, version, kind, plural));
            let ours = group.starts_with("millrace");
            let labels = format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1);
            let config = if ours {
                watcher::Config::default()
            } else {
                watcher::Config::default().labels(&labels)
            };
            let weak = Arc::downgrade(&this);
            let task = tokio::spawn(async move {
                let mut events = watcher(api, config).default_backoff().boxed();
                while let Some(event) = events.next().await {
                    let Some(this) = weak.upgrade() else { return };
                    match event {
                        Ok(Event::Apply(object) | Event::InitApply(object)) => {
                            this.see(plural, object, false)
                        }
                        Ok(Event::Delete(object)) => this.see(plural, object, true),
                        Ok(Event::Init | Event::InitDone) => {}
                        Err(error) => eprintln!("a watch of {plural} was interrupted: {error}"),
                    }
                }
            });
            lock(&this.tasks).push(task);
        }
        this
    }

    fn see(&self, plural: &str, mut object: DynamicObject, gone: bool) {
        object.metadata.managed_fields = None;
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let key = format!("{plural}/{namespace}/{name}");
        let value = Arc::new(serde_json::to_value(&object).expect("an object is JSON"));
        let mut namespaces = lock(&self.namespaces);
        let objects = namespaces.entry(namespace).or_default();
        if gone {
            objects.remove(&key);
        } else {
            objects.insert(key.clone(), Arc::clone(&value));
        }
        drop(namespaces);
        self.changes.send((key, (!gone).then_some(value))).ok();
        self.news.send_replace(());
    }

    /// Every change from now on.
    pub(super) fn changes(&self) -> tokio::sync::broadcast::Receiver<(String, Option<Arc<Value>>)> {
        self.changes.subscribe()
    }

    /// An object.
    pub(crate) fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Arc<Value>> {
        let namespaces = lock(&self.namespaces);
        namespaces
            .get(namespace)?
            .get(&format!("{plural}/{namespace}/{name}"))
            .cloned()
    }

    /// The objects of a namespace.
    pub(crate) fn objects(&self, namespace: &str) -> Objects {
        lock(&self.namespaces).get(namespace).cloned().unwrap_or_default()
    }

    /// Waits until the objects of a namespace are as `is` wants them; false if they are not in time.
    pub(crate) async fn until(
        &self,
        namespace: &str,
        patience: Duration,
        is: impl Fn(&Objects) -> bool,
    ) -> bool {
        let none = Objects::new();
        let looks = || is(lock(&self.namespaces).get(namespace).unwrap_or(&none));
        news::until(self.news.subscribe(), patience, LOOK, looks).await
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

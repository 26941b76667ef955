//! Watches: what the API server says, into the index of what has been seen.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::Store;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::kinds;
use crate::names;
use crate::observed::{self, ChildKind, Observed, Owner, Seen};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The whole cluster.
    All,
    /// One namespace.
    Namespace(String),
}

impl Scope {
    /// The API of a kind in this scope.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        match self {
            Self::All => Api::all(client),
            Self::Namespace(name) => Api::namespaced(client, name),
        }
    }

    fn metadata(&self, client: Client, resource: &ApiResource) -> Api<PartialObjectMeta<DynamicObject>> {
        match self {
            Self::All => Api::all_with(client, resource),
            Self::Namespace(name) => Api::namespaced_with(client, name, resource),
        }
    }
}

/// Objects that are listed at once: as many are in memory several times while they are read.
pub(crate) const PAGE: u32 = 20;

/// The kinds of children that are watched, and waited for. A PodMonitor is not waited for: its kind may not be there.
pub const KINDS: &[ChildKind] = &[
    ChildKind::StatefulSet,
    ChildKind::Pod,
    ChildKind::Job,
    ChildKind::ConfigMap,
    ChildKind::Service,
    ChildKind::ServiceAccount,
    ChildKind::PodDisruptionBudget,
    ChildKind::NetworkPolicy,
];

/// Whose children have changed, for as long as it is polled.
pub fn children(
    client: &Client,
    scope: &Scope,
    observed: &Arc<Observed>,
    pod_monitors: bool,
) -> impl Stream<Item = Owner> + Send + use<> {
    let mut all = vec![
        watch::<StatefulSet>(client, scope, observed, ChildKind::StatefulSet, observed::set),
        watch::<Pod>(client, scope, observed, ChildKind::Pod, observed::pod),
        watch::<Job>(client, scope, observed, ChildKind::Job, observed::job),
        watch::<ConfigMap>(
            client,
            scope,
            observed,
            ChildKind::ConfigMap,
            observed::config_map,
        ),
        watch_meta(client, scope, observed, ChildKind::Service),
        watch_meta(client, scope, observed, ChildKind::ServiceAccount),
        watch_meta(client, scope, observed, ChildKind::PodDisruptionBudget),
        watch_meta(client, scope, observed, ChildKind::NetworkPolicy),
    ];
    if pod_monitors {
        all.push(watch_meta(client, scope, observed, ChildKind::PodMonitor));
    }
    futures::stream::select_all(all)
}

/// Of which owners pods have changed, for as long as it is polled.
pub fn pods(
    client: &Client,
    scope: &Scope,
    observed: &Arc<Observed>,
) -> impl Stream<Item = Owner> + Send + use<> {
    watch::<Pod>(client, scope, observed, ChildKind::Pod, observed::pod)
}

/// The labels of namespaces, and which of them have changed, for as long as it is polled. An operator of one namespace is
/// told of none.
pub fn namespaces(client: &Client, scope: &Scope, writer: NamespaceWriter) -> BoxStream<'static, String> {
    if *scope != Scope::All {
        return futures::stream::pending().boxed();
    }
    let mut listed: Vec<String> = Vec::new();
    watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .modify(|namespace| {
        namespace.metadata.managed_fields = None;
        namespace.metadata.annotations = None;
    })
    .reflect(writer)
    .flat_map(move |event| {
        let changed: Vec<String> = match event {
            Ok(Event::Apply(namespace) | Event::Delete(namespace)) => {
                namespace.metadata.name.into_iter().collect()
            }
            Ok(Event::Init) => {
                listed.clear();
                Vec::new()
            }
            // The store has it when all are listed.
            Ok(Event::InitApply(namespace)) => {
                listed.extend(namespace.metadata.name);
                Vec::new()
            }
            Ok(Event::InitDone) => std::mem::take(&mut listed),
            Err(error) => {
                tracing::warn!(%error, kind = "Namespace", "a watch was interrupted; it starts again");
                Vec::new()
            }
        };
        futures::stream::iter(changed)
    })
    .boxed()
}

/// What is known of namespaces.
pub type NamespaceStore = Store<PartialObjectMeta<Namespace>>;
/// Who writes that.
pub type NamespaceWriter = Writer<PartialObjectMeta<Namespace>>;

type Owners = BoxStream<'static, Owner>;

fn watch<K>(
    client: &Client,
    scope: &Scope,
    observed: &Arc<Observed>,
    kind: ChildKind,
    see: fn(&K) -> Seen,
) -> Owners
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + 'static,
{
    index(
        watcher(scope.api::<K>(client.clone()), config()),
        observed,
        kind,
        see,
    )
}

/// Of these it is enough to know that they are there, and unchanged.
fn watch_meta(client: &Client, scope: &Scope, observed: &Arc<Observed>, kind: ChildKind) -> Owners {
    let api = scope.metadata(client.clone(), &kinds::resource(kind));
    index(watcher(api, config()), observed, kind, |_| Seen::Plain)
}

fn config() -> watcher::Config {
    watcher::Config::default()
        .labels(&format!("{}={}", names::MANAGED_BY.0, names::MANAGED_BY.1))
        .page_size(PAGE)
}

fn index<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    observed: &Arc<Observed>,
    kind: ChildKind,
    see: fn(&K) -> Seen,
) -> Owners
where
    K: Resource + Send + 'static,
{
    let observed = Arc::clone(observed);
    let mut listed: HashSet<String> = HashSet::new();
    events
        .default_backoff()
        .flat_map(move |event| {
            let changed: Vec<Owner> = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    Vec::new()
                }
                Ok(Event::InitApply(object)) => {
                    listed.extend(object.meta().uid.clone());
                    observed
                        .apply(kind, object.meta(), see(&object))
                        .into_iter()
                        .collect()
                }
                Ok(Event::InitDone) => {
                    observed.mark_listed(kind);
                    observed.retain(kind, &std::mem::take(&mut listed))
                }
                Ok(Event::Apply(object)) => observed
                    .apply(kind, object.meta(), see(&object))
                    .into_iter()
                    .collect(),
                Ok(Event::Delete(object)) => observed.delete(kind, object.meta()).into_iter().collect(),
                Err(error) => {
                    tracing::warn!(%error, ?kind, "a watch was interrupted; it starts again");
                    Vec::new()
                }
            };
            futures::stream::iter(changed)
        })
        .boxed()
}

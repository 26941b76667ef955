//! Everything that talks to the API server or to workers: thin, and each call has a deadline.

mod aggregation;
pub mod definitions;
mod error;
mod events;
mod kinds;
pub mod lease;
pub mod scrape;
mod topic_owners;
pub mod watch;

use std::collections::HashMap;
use std::fmt::Debug;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{
    Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy,
};
use kube::core::{DeserializeGuard, NamespaceResourceScope};
use kube::{Client, Resource};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::names;
use crate::observed::{Child, ChildKind, Family, Owner};
use crate::plan::{Desired, Rejection};
use crate::status::{self, Reason};
pub use error::{ClusterError, source_of};
pub use events::Note;
pub use topic_owners::{TopicOwners, TopicOwnersSeen};

/// How long one call may take. kube has no limit of its own, and retries for many minutes.
const DEADLINE: Duration = Duration::from_secs(15);

/// Calls at the same time: each has a connection, which takes memory for a minute and a half.
const AT_ONCE: usize = 16;

/// The cluster, as the operator writes to it.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    metrics: Metrics,
    /// For calls at the same time.
    turns: Arc<Semaphore>,
    /// What was last applied of each child: its content and the resource version that came of it.
    applied: Arc<Mutex<HashMap<Owner, HashMap<ChildId, Applied>>>>,
}

/// Kind and name.
type ChildId = (ChildKind, String);

#[derive(Debug)]
struct Applied {
    hash: names::Digest,
    resource_version: String,
}

/// A kind that users write: TopicRoute, MqttBroker, KafkaSink.
pub trait CustomResource:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + DeserializeOwned
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl CustomResource for TopicRoute {}
impl CustomResource for MqttBroker {}
impl CustomResource for KafkaSink {}

/// What the API server answered to a write: nothing if the object is gone, or cannot be read any more.
fn as_it_is_now<K>(answer: Result<DeserializeGuard<K>, ClusterError>) -> Result<Option<K>, ClusterError> {
    match answer {
        Ok(DeserializeGuard(object)) => Ok(object.ok()),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error),
    }
}

/// How what is merged into an object is told to be the operator's.
fn as_ourselves() -> PatchParams {
    PatchParams {
        field_manager: Some(names::FIELD_MANAGER.into()),
        ..PatchParams::default()
    }
}

/// Whether an object waits for the operator when it is deleted.
pub fn has_finalizer(meta: &ObjectMeta) -> bool {
    meta.finalizers
        .iter()
        .flatten()
        .any(|one| one == names::FINALIZER)
}

impl Cluster {
    /// A cluster that is reached by `client`.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self {
            client,
            metrics,
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            applied: Arc::default(),
        }
    }

    /// The client, for watches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Has a child be as it is to be. Writes nothing if it was so before and nobody has touched it since.
    ///
    /// # Errors
    /// If the API server does not take it, or if an object of another owner has its name.
    pub async fn apply(&self, owner: &Owner, desired: &Desired, family: &Family) -> Result<(), ClusterError> {
        let key = (desired.kind, desired.name.clone());
        let hash = desired.hash();
        let seen = family.get(&key);
        if seen.is_some_and(|child| !child.deleting && self.is_applied(owner, &key, &hash, child)) {
            return Ok(());
        }
        let api = self.dynamic(desired.kind, &desired.namespace);
        if seen.is_none() {
            self.check_name_is_free(&api, owner, desired).await?;
        }
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let patch = Patch::Apply(&desired.body);
        let written = self
            .call_in_turn("patch", api.patch(&desired.name, &params, &patch))
            .await?;
        let applied = Applied {
            hash,
            resource_version: written.metadata.resource_version.unwrap_or_default(),
        };
        self.applied()
            .entry(owner.clone())
            .or_default()
            .insert(key, applied);
        Ok(())
    }

    /// Forgets what was applied for an owner that is gone.
    pub fn forget(&self, owner: &Owner) {
        self.applied().remove(owner);
    }

    fn applied(&self) -> MutexGuard<'_, HashMap<Owner, HashMap<ChildId, Applied>>> {
        self.applied.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_applied(&self, owner: &Owner, key: &ChildId, hash: &names::Digest, child: &Child) -> bool {
        self.applied()
            .get(owner)
            .and_then(|children| children.get(key))
            .is_some_and(|applied| {
                applied.hash == *hash && applied.resource_version == child.resource_version
            })
    }

    /// An object that somebody else made is not taken from them.
    async fn check_name_is_free(
        &self,
        api: &Api<DynamicObject>,
        owner: &Owner,
        desired: &Desired,
    ) -> Result<(), ClusterError> {
        let Some(there) = self.call_in_turn("get", api.get_opt(&desired.name)).await? else {
            return Ok(());
        };
        let labels = there.metadata.labels.unwrap_or_default();
        let has = |label: &str, value: &str| labels.get(label).is_some_and(|its| its == value);
        if has(names::OWNER_KIND, owner.kind) && has(names::INSTANCE, &owner.name) {
            return Ok(());
        }
        Err(ClusterError::NameTaken {
            kind: kinds::name(desired.kind),
            name: desired.name.clone(),
        })
    }

    /// Removes a child, unless it has been replaced by another meanwhile. Children of it go as well.
    ///
    /// # Errors
    /// If the API server does not do it. A child that is gone already is none.
    pub async fn delete(
        &self,
        kind: ChildKind,
        owner: &Owner,
        name: &str,
        uid: &str,
    ) -> Result<(), ClusterError> {
        self.delete_within(kind, owner, name, uid, None).await
    }

    /// Gives up a pod whose node does not answer: another may have its name at once.
    ///
    /// # Errors
    /// If the API server does not do it. A pod that is gone already is none.
    pub async fn give_up(&self, owner: &Owner, name: &str, uid: &str) -> Result<(), ClusterError> {
        self.delete_within(ChildKind::Pod, owner, name, uid, Some(0))
            .await
    }

    async fn delete_within(
        &self,
        kind: ChildKind,
        owner: &Owner,
        name: &str,
        uid: &str,
        grace_period_seconds: Option<u32>,
    ) -> Result<(), ClusterError> {
        let api = self.dynamic(kind, &owner.namespace);
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: Some(uid.to_owned()),
                resource_version: None,
            }),
            propagation_policy: Some(PropagationPolicy::Background),
            grace_period_seconds,
            ..DeleteParams::default()
        };
        if let Some(children) = self.applied().get_mut(owner) {
            children.remove(&(kind, name.to_owned()));
        }
        match self.call_in_turn("delete", api.delete(name, &params)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_gone() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the children that are not wanted.
    ///
    /// # Errors
    /// If the API server does not do it.
    pub async fn prune(
        &self,
        owner: &Owner,
        family: &Family,
        is_wanted: impl Fn(ChildKind, &str) -> bool,
    ) -> Result<(), ClusterError> {
        for ((kind, name), child) in family {
            if !child.deleting && !is_wanted(*kind, name) {
                self.delete(*kind, owner, name, &child.uid).await?;
            }
        }
        Ok(())
    }

    /// Changes annotations of a pod, which must still be the one with `uid`.
    ///
    /// # Errors
    /// If the API server does not do it. A pod that is gone is none.
    pub async fn annotate_pod(
        &self,
        namespace: &str,
        name: &str,
        uid: &str,
        annotations: &[(&str, &str)],
    ) -> Result<(), ClusterError> {
        let annotations: serde_json::Map<String, Value> = annotations
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).into()))
            .collect();
        let patch = json!({"metadata": {"uid": uid, "annotations": annotations}});
        let api = self.dynamic(ChildKind::Pod, namespace);
        let params = as_ourselves();
        match self
            .call_in_turn("patch", api.patch_metadata(name, &params, &Patch::Merge(&patch)))
            .await
        {
            Ok(_) => Ok(()),
            // Another pod has the name now: it is told when it is seen.
            Err(error) if error.is_gone() || error.is_conflict() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Sets the number of workers and nothing else: while what is new is being tried, the template stays.
    ///
    /// # Errors
    /// If the API server does not do it.
    pub async fn scale(&self, owner: &Owner, name: &str, replicas: u16) -> Result<(), ClusterError> {
        let api = self.dynamic(ChildKind::StatefulSet, &owner.namespace);
        let patch = json!({"spec": {"replicas": replicas}});
        let params = as_ourselves();
        self.call_in_turn("patch", api.patch(name, &params, &Patch::Merge(&patch)))
            .await
            .map(drop)
    }

    /// Writes an object as a whole: creates it if it has no resource version, else replaces the one that was read.
    ///
    /// # Errors
    /// If the API server does not take it, or if somebody else has written it meanwhile.
    pub async fn write<K>(&self, object: &K) -> Result<K, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + Debug,
    {
        let meta = object.meta();
        let api: Api<K> = Api::namespaced(self.client.clone(), meta.namespace.as_deref().unwrap_or_default());
        let params = PostParams {
            field_manager: Some(names::FIELD_MANAGER.into()),
            dry_run: false,
        };
        let name = meta.name.clone().unwrap_or_default();
        if meta.resource_version.is_some() {
            self.call_in_turn("update", api.replace(&name, &params, object))
                .await
        } else {
            self.call_in_turn("create", api.create(&params, object)).await
        }
    }

    /// Writes the status of one of our kinds. Returns the object as it is then, unless it is gone or has become one that
    /// cannot be read.
    ///
    /// # Errors
    /// If the API server does not take it.
    pub async fn patch_status<K, S>(&self, object: &K, status: &S) -> Result<Option<K>, ClusterError>
    where
        K: CustomResource,
        S: Serialize,
    {
        self.patch_status_of(object.meta(), status).await
    }

    async fn patch_status_of<K, S>(&self, meta: &ObjectMeta, status: &S) -> Result<Option<K>, ClusterError>
    where
        K: CustomResource,
        S: Serialize,
    {
        let (api, name) = self.one_of_ours::<K>(meta);
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": name},
            "status": status,
        });
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let written = self
            .call_in_turn(
                "patch_status",
                api.patch_status(name, &params, &Patch::Apply(&patch)),
            )
            .await;
        as_it_is_now(written)
    }

    /// Says of an object that cannot be read that it cannot: the one thing that can be done about it. Never fails.
    pub async fn reject<K>(&self, meta: &ObjectMeta, why: &str)
    where
        K: CustomResource,
    {
        let rejection = Rejection::new(Reason::Invalid, format!("the object cannot be read: {why}"));
        let conditions = status::rejected(&rejection, meta.generation);
        if let Err(error) = self
            .patch_status_of::<K, _>(meta, &json!({"conditions": conditions}))
            .await
        {
            tracing::debug!(%error, "the status of an object that cannot be read could not be written");
        }
    }

    /// Adds or removes a route's finalizer, against the resource version that was seen. Returns the route as it is then,
    /// unless it is gone or has become one that cannot be read.
    ///
    /// # Errors
    /// If the API server does not take it, or if the object has changed meanwhile.
    pub async fn set_finalizer(
        &self,
        meta: &ObjectMeta,
        wanted: bool,
    ) -> Result<Option<TopicRoute>, ClusterError> {
        let mut finalizers = meta.finalizers.clone().unwrap_or_default();
        finalizers.retain(|finalizer| finalizer != names::FINALIZER);
        if wanted {
            finalizers.push(names::FINALIZER.to_owned());
        }
        let (api, name) = self.one_of_ours::<TopicRoute>(meta);
        let patch = json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
        let params = as_ourselves();
        let written = self
            .call_in_turn("patch", api.patch(name, &params, &Patch::Merge(&patch)))
            .await;
        as_it_is_now(written)
    }

    /// The API of one of our kinds where an object is, and the object's name.
    fn one_of_ours<'m, K: CustomResource>(
        &self,
        meta: &'m ObjectMeta,
    ) -> (Api<DeserializeGuard<K>>, &'m str) {
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let api = Api::namespaced(self.client.clone(), namespace);
        (api, meta.name.as_deref().unwrap_or_default())
    }

    fn dynamic(&self, kind: ChildKind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kinds::resource(kind))
    }

    /// Makes one call when it is its turn. The Lease does not wait for turns.
    async fn call_in_turn<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        // Never closed.
        let _turn = self.turns.acquire().await.ok();
        self.call(verb, call).await
    }

    /// Makes one call, with a deadline, and counts it.
    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ClusterError> {
        let result = match tokio::time::timeout(DEADLINE, call).await {
            Ok(result) => result.map_err(|error| ClusterError::Call {
                verb,
                error: Box::new(error),
            }),
            Err(_) => Err(ClusterError::Late { verb }),
        };
        self.metrics
            .api_call(verb, result.as_ref().err().map(ClusterError::category));
        result
    }
}

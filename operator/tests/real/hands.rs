use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::runtime::Handle;

use super::mirror::{Mirror, Objects};
use super::of;
use crate::journey::steps::Hands;
use crate::objects::plural_of;

/// A namespace, as a user works in it.
#[derive(Clone)]
pub(crate) struct Namespace {
    client: Client,
    mirror: Arc<Mirror>,
    pub(crate) name: String,
}

impl Namespace {
    pub(super) fn new(client: Client, mirror: Arc<Mirror>, name: &str) -> Self {
        Self {
            client,
            mirror,
            name: name.to_owned(),
        }
    }

    /// Has a user act in it.
    pub(crate) async fn lend(&self, act: fn(&dyn Hands)) {
        let own = self.clone();
        tokio::task::spawn_blocking(move || act(&own))
            .await
            .expect("what a user does");
    }

    /// The API of a plural.
    pub(crate) fn api(&self, plural: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.name, &of(plural))
    }

    /// Applies an object of ours, as `kubectl apply --server-side` does.
    pub(crate) async fn apply(&self, object: &Value) -> Result<(), kube::Error> {
        let plural = plural_of(object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply("user").force();
        self.api(plural)
            .patch(name, &params, &Patch::Apply(object))
            .await
            .map(drop)
    }

    /// Waits until all that was created before has been seen.
    pub(crate) async fn mark(&self) {
        for plural in ["topicroutes", "mqttbrokers", "kafkasinks"] {
            let list = self
                .api(plural)
                .list(&ListParams::default())
                .await
                .expect("a list");
            let names: Vec<String> = list.iter().map(ResourceExt::name_any).collect();
            let seen = self
                .until(Duration::from_secs(30), |objects| {
                    let has = |name: &String| objects.contains_key(&format!("{plural}/{}/{name}", self.name));
                    names.iter().all(has)
                })
                .await;
            assert!(seen, "{}: {names:?} are not seen", self.name);
        }
    }

    /// The Events about objects of a name, one in a line.
    pub(crate) async fn told(&self, name: &str) -> String {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.name);
        let events = api.list(&ListParams::default()).await.expect("a list");
        let lines = events.into_iter().filter_map(|event| {
            let regarding = event.regarding?;
            (regarding.name.as_deref() == Some(name)).then(|| {
                let (time, reason, note) = (event.event_time, event.reason, event.note);
                format!(
                    "{:?} {:?} {reason:?} {note:?}",
                    time.map(|time| time.0),
                    regarding.kind
                )
            })
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What there is.
    pub(crate) fn objects(&self) -> Objects {
        self.mirror.objects(&self.name)
    }

    /// An object.
    pub(crate) fn get(&self, plural: &str, name: &str) -> Option<Arc<Value>> {
        self.mirror.get(plural, &self.name, name)
    }

    /// Waits until all is as `is` wants it; false if it is not in time.
    pub(crate) async fn until(&self, patience: Duration, is: impl Fn(&Objects) -> bool) -> bool {
        self.mirror.until(&self.name, patience, is).await
    }
}

/// On a thread that may block only: see [`Namespace::lend`].
fn wait<F: Future>(future: F) -> F::Output {
    Handle::current().block_on(future)
}

impl Hands for Namespace {
    fn create(&self, manifest: &str) {
        for document in serde_yaml::Deserializer::from_str(manifest) {
            let object: Value = serde::Deserialize::deserialize(document).expect("a manifest is YAML");
            let api = self.api(plural_of(&object));
            let object = serde_json::from_value(object).expect("an object");
            wait(api.create(&PostParams::default(), &object)).expect("a new object");
        }
    }

    fn edit(&self, plural: &str, name: &str, edit: &dyn Fn(&mut Value)) {
        let api = self.api(plural);
        loop {
            let object = wait(api.get(name)).expect("the object that is edited");
            let mut object = serde_json::to_value(object).expect("an object is JSON");
            edit(&mut object);
            let object = serde_json::from_value(object).expect("an object");
            match wait(api.replace(name, &PostParams::default(), &object)) {
                Ok(_) => return,
                // The operator has written its status or its finalizer.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{plural} {name} cannot be changed: {error}"),
            }
        }
    }

    fn delete(&self, plural: &str, name: &str) {
        wait(self.api(plural).delete(name, &DeleteParams::default())).expect("an object to delete");
    }
}

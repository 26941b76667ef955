//! What else there is in a cluster: the controllers of StatefulSets and Jobs, the garbage collector, and kubelets that
//! run probes and workers. One small thing happens at a time, so what watches tell is never all at once.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use millrace_contract::status::Status;
use millrace_operator::names;
use serde_json::{Value, json};

use super::store::{Key, Store, is_selected};
use crate::kubelet::{Taken, mounted, probe_ended, running, worker};
use crate::objects::{annotation, is_deleting, uid};

/// The label that says which template a pod was made from.
const REVISION: &str = "controller-revision-hash";

/// A cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct World {
    pub(crate) store: Store,
    /// What workers have taken over, by the uid of their pods.
    pub(crate) taken: HashMap<String, Taken>,
    /// What probes have tried with success.
    pub(crate) tried: HashSet<String>,
}

impl World {
    /// Does one thing that is to be done. `address` gives a worker an address. False: there is nothing to do.
    pub(crate) fn step(&mut self, address: &mut dyn FnMut(&Key) -> String) -> bool {
        if let Some(orphan) = self.store.orphans().first() {
            self.store.delete(&orphan.clone(), &Value::Null).ok();
            self.end_pod();
            return true;
        }
        self.end_pod() || self.run_probe() || self.run_job() || self.roll() || self.run_worker(address)
    }

    /// All objects by their names: `plural/namespace/name`.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (String, &Value)> {
        self.store.objects().map(|(key, object)| {
            let Key {
                plural,
                namespace,
                name,
            } = key;
            (format!("{plural}/{namespace}/{name}"), object.as_ref())
        })
    }

    /// How many objects its state has.
    pub(crate) fn count(&self) -> usize {
        let counted = self.store.objects().filter(|(key, _)| key.plural != "events");
        counted.count()
    }

    fn end_pod(&mut self) -> bool {
        let ended = self.store.all("pods").find(|(_, pod)| is_deleting(pod));
        let Some(key) = ended.map(|(key, _)| key.clone()) else {
            return false;
        };
        let pod = self.store.remove(&key);
        self.taken.remove(uid(&pod).unwrap_or_default());
        true
    }

    fn run_probe(&mut self) -> bool {
        let is_probe = |pod: &Value| pod["metadata"]["labels"][names::COMPONENT] == names::component::PROBE;
        let is_running = |pod: &Value| is_probe(pod) && pod["status"]["phase"] != "Succeeded";
        let unfinished = self.store.all("pods").find(|(_, pod)| is_running(pod));
        let Some((key, pod)) = unfinished.map(|(key, pod)| (key.clone(), Value::clone(pod))) else {
            return false;
        };
        let status = if pod["status"]["phase"] == "Running" {
            self.tried
                .extend(annotation(&pod, names::SETTINGS).map(str::to_owned));
            probe_ended(&pod)
        } else {
            running(None)
        };
        self.set_status(&key, pod, status)
    }

    fn run_job(&mut self) -> bool {
        let running = self.store.all("jobs").find(|(_, job)| job["status"].is_null());
        let Some((key, job)) = running.map(|(key, job)| (key.clone(), Value::clone(job))) else {
            return false;
        };
        self.set_status(
            &key,
            job,
            json!({"conditions": [{"type": "Complete", "status": "True"}]}),
        )
    }

    /// What the StatefulSet controller does.
    fn roll(&mut self) -> bool {
        let sets: Vec<(Key, Value)> = self
            .store
            .all("statefulsets")
            .map(|(key, set)| (key.clone(), Value::clone(set)))
            .collect();
        sets.into_iter().any(|(key, set)| self.roll_one(&key, set))
    }

    fn roll_one(&mut self, key: &Key, set: Value) -> bool {
        let template = &set["spec"]["template"];
        let replicas = set["spec"]["replicas"].as_u64().unwrap_or(1);
        let revision = hash(template);
        let pods: Vec<(u64, Key, bool, bool)> = self
            .store
            .all("pods")
            .filter(|(_, pod)| pod["metadata"]["ownerReferences"][0]["uid"] == set["metadata"]["uid"])
            .map(|(key, pod)| {
                let ordinal = key.name.rsplit('-').next().and_then(|text| text.parse().ok());
                let is_new = pod["metadata"]["labels"][REVISION] == *revision;
                (ordinal.unwrap_or(u64::MAX), key.clone(), is_ready(pod), is_new)
            })
            .collect();
        let count =
            |is: &dyn Fn(bool, bool) -> bool| pods.iter().filter(|(.., ready, new)| is(*ready, *new)).count();
        let status = json!({
            "observedGeneration": set["metadata"]["generation"],
            "replicas": pods.len(),
            "readyReplicas": count(&|ready, _| ready),
            "updatedReplicas": count(&|_, new| new),
            "updateRevision": revision,
        });
        if set["status"] != status {
            return self.set_status(key, set, status);
        }
        let surplus = pods.iter().find(|(ordinal, ..)| *ordinal >= replicas);
        let blocked = pods.iter().any(|(_, _, ready, _)| !ready);
        let old = pods.iter().rev().find(|(.., new)| !new).filter(|_| !blocked);
        if let Some(missing) = (0..replicas).find(|ordinal| !pods.iter().any(|(its, ..)| its == ordinal)) {
            let pod = worker(key, &set, missing, &revision);
            let key = Key::new("pods", &key.namespace, &format!("{}-{missing}", key.name));
            return self.store.create(key, pod).is_ok();
        }
        match surplus.or(old) {
            Some((_, pod, ..)) => self.store.delete(&pod.clone(), &Value::Null).is_ok(),
            None => false,
        }
    }

    /// Starts a worker whose mounts are there, or has one take over the configuration it was told of.
    fn run_worker(&mut self, address: &mut dyn FnMut(&Key) -> String) -> bool {
        let labels = [(names::COMPONENT.to_owned(), names::component::WORKER.to_owned())];
        let workers: Vec<(Key, Value)> = self
            .store
            .all("pods")
            .filter(|(_, pod)| is_selected(pod, &labels))
            .map(|(key, pod)| (key.clone(), Value::clone(pod)))
            .collect();
        workers.into_iter().any(|(key, pod)| {
            let uid = uid(&pod).unwrap_or_default().to_owned();
            let Some(newest) = self.live_of(&key, &pod) else {
                return false;
            };
            if !is_ready(&pod) {
                if !self.has_mounts(&key, &pod) {
                    return false;
                }
                self.taken.insert(uid, newest);
                let status = running(Some(&address(&key)));
                return self.set_status(&key, pod, status);
            }
            let has = self.taken.entry(uid).or_default();
            if !newest.is_told(&pod) || newest.hash == has.hash {
                return false;
            }
            *has = newest;
            true
        })
    }

    fn live_of(&self, key: &Key, pod: &Value) -> Option<Taken> {
        let route = pod["metadata"]["labels"][names::INSTANCE].as_str()?;
        let map = self
            .store
            .get(&Key::new("configmaps", &key.namespace, &names::live(route)))?;
        Taken::from_map(map)
    }

    /// What the worker in a pod says.
    pub(super) fn worker_says(&self, key: &Key, received: u64) -> Option<Status> {
        let pod = self.store.get(key)?;
        let content = |map: &str, file: &str| {
            let map = self.store.get(&Key::new("configmaps", &key.namespace, map))?;
            map["data"][file].as_str().map(str::to_owned)
        };
        worker::status(pod, content, self.taken.get(uid(pod)?)?, received)
    }

    fn has_mounts(&self, key: &Key, pod: &Value) -> bool {
        mounted(&pod["spec"])
            .iter()
            .all(|map| is_there(&self.store, &Key::new("configmaps", &key.namespace, map)))
    }

    fn set_status(&mut self, key: &Key, mut object: Value, status: Value) -> bool {
        object["status"] = status;
        self.store.change(key, object).is_ok()
    }
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

fn is_there(store: &Store, key: &Key) -> bool {
    store.get(key).is_some()
}

fn worker(set_key: &Key, set: &Value, ordinal: u64, revision: &str) -> Value {
    let template = &set["spec"]["template"];
    let mut meta = template["metadata"].clone();
    meta["name"] = format!("{}-{ordinal}", set_key.name).into();
    meta["labels"][REVISION] = revision.into();
    meta["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": set_key.name, "uid": set["metadata"]["uid"],
        "controller": true,
    }]);
    json!({"metadata": meta, "spec": template["spec"], "status": {"phase": "Pending"}})
}

fn hash(template: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

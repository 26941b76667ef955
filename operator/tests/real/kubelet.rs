use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use millrace_operator::names;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::AbortHandle;

use super::mirror::Mirror;
use super::of;
use crate::kubelet::{self, Taken, mounted, worker};
use crate::objects::{is_deleting, uid};

/// Says of every pod of Millrace that it runs, or that it has done its work; workers answer at `/status`.
pub(crate) struct Kubelet {
    client: Client,
    mirror: Arc<Mirror>,
    /// By the names of their pods: `pods/namespace/name`.
    workers: Mutex<HashMap<String, Worker>>,
    /// Answers that workers have given.
    scrapes: AtomicU64,
    /// Workers receive messages: every answer has another count.
    pub(crate) busy: AtomicBool,
    /// Every worker leaves one question without an answer: its third.
    pub(crate) lapses: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
}

/// A worker.
struct Worker {
    /// Of its pod.
    uid: String,
    taken: Taken,
    /// Answers at its address.
    serving: AbortHandle,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Kubelet {
    pub(super) fn start(client: Client, mirror: Arc<Mirror>) -> Arc<Self> {
        let mut changes = mirror.changes();
        let this = Arc::new(Self {
            client,
            mirror,
            workers: Mutex::default(),
            scrapes: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            lapses: AtomicBool::new(false),
            task: Mutex::default(),
        });
        let weak = Arc::downgrade(&this);
        let task = tokio::spawn(async move {
            loop {
                match changes.recv().await {
                    Ok((name, object)) => {
                        let Some(this) = weak.upgrade() else { return };
                        this.look(&name, object);
                    }
                    Err(RecvError::Closed) => return,
                    Err(RecvError::Lagged(count)) => panic!("{count} changes were missed"),
                }
            }
        });
        *lock(&this.task) = Some(task.abort_handle());
        this
    }

    /// Answers that workers have given so far.
    pub(crate) fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    fn look(self: &Arc<Self>, name: &str, object: Option<Arc<Value>>) {
        match (name.split('/').next(), object) {
            (Some("pods"), Some(pod)) => self.run(&pod),
            // What it mounts may have been missing.
            (Some("configmaps"), Some(map)) => {
                let route = &map["metadata"]["labels"][names::INSTANCE];
                let namespace = map["metadata"]["namespace"].as_str().unwrap_or_default();
                let objects = self.mirror.objects(namespace);
                let pods = objects.iter().filter(|(name, _)| name.starts_with("pods/"));
                for (_, pod) in pods.filter(|(_, pod)| pod["metadata"]["labels"][names::INSTANCE] == *route) {
                    self.run(pod);
                }
            }
            (Some("pods"), None) => {
                lock(&self.workers).remove(name);
            }
            _ => {}
        }
    }

    fn run(self: &Arc<Self>, pod: &Arc<Value>) {
        if is_deleting(pod) {
            return self.end(pod);
        }
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            return;
        }
        let component = pod["metadata"]["labels"][names::COMPONENT].as_str();
        match component {
            Some(names::component::PROBE) => self.write(pod, kubelet::probe_ended(pod)),
            Some(names::component::WORKER) => self.run_worker(pod),
            _ => self.write(pod, kubelet::ended("")),
        }
    }

    fn run_worker(self: &Arc<Self>, pod: &Arc<Value>) {
        let meta = &pod["metadata"];
        let namespace = meta["namespace"].as_str().unwrap_or_default();
        let route = meta["labels"][names::INSTANCE].as_str().unwrap_or_default();
        let is_there = |map: &String| self.mirror.get("configmaps", namespace, map).is_some();
        let live = self.mirror.get("configmaps", namespace, &names::live(route));
        let Some(newest) = live.and_then(|map| Taken::from_map(&map)) else {
            return;
        };
        let name = meta["name"].as_str().unwrap_or_default();
        let (key, uid) = (format!("pods/{namespace}/{name}"), uid(pod).unwrap_or_default());
        let mut workers = lock(&self.workers);
        if let Some(worker) = workers.get_mut(&key).filter(|worker| worker.uid == uid) {
            if newest.is_told(pod) {
                worker.taken = newest;
            }
            return;
        }
        if !mounted(&pod["spec"]).iter().all(is_there) {
            return;
        }
        let (ip, listener) = worker::listen();
        let serving = tokio::spawn(serve(
            Arc::downgrade(self),
            listener,
            namespace.to_owned(),
            name.to_owned(),
        ));
        let serving = serving.abort_handle();
        let uid = uid.to_owned();
        workers.insert(
            key,
            Worker {
                uid,
                taken: newest,
                serving,
            },
        );
        drop(workers);
        self.write(pod, kubelet::running(Some(&ip.to_string())));
    }

    /// What a worker says.
    fn says(&self, namespace: &str, name: &str) -> Option<millrace_contract::status::Status> {
        let scrapes = self.scrapes.fetch_add(1, Ordering::Relaxed);
        let received = if self.busy.load(Ordering::Relaxed) {
            scrapes
        } else {
            0
        };
        let taken = lock(&self.workers)
            .get(&format!("pods/{namespace}/{name}"))?
            .taken
            .clone();
        let pod = self.mirror.get("pods", namespace, name)?;
        let content = |map: &str, file: &str| {
            let map = self.mirror.get("configmaps", namespace, map)?;
            map["data"][file].as_str().map(str::to_owned)
        };
        worker::status(&pod, content, &taken, received)
    }

    /// The API of a pod, and its name.
    fn pod<'p>(&self, pod: &'p Value) -> (Api<DynamicObject>, &'p str) {
        let text = |field: &str| pod["metadata"][field].as_str().unwrap_or_default();
        let api = Api::namespaced_with(self.client.clone(), text("namespace"), &of("pods"));
        (api, text("name"))
    }

    /// A pod that was given a moment to end has ended.
    fn end(self: &Arc<Self>, pod: &Arc<Value>) {
        let (this, pod) = (Arc::clone(self), Arc::clone(pod));
        tokio::spawn(async move {
            let (api, name) = this.pod(&pod);
            let params = DeleteParams {
                grace_period_seconds: Some(0),
                preconditions: Some(Preconditions {
                    uid: uid(&pod).map(str::to_owned),
                    resource_version: None,
                }),
                ..DeleteParams::default()
            };
            // It may have gone meanwhile.
            api.delete(name, &params).await.ok();
        });
    }

    fn write(self: &Arc<Self>, pod: &Arc<Value>, status: Value) {
        let (this, pod) = (Arc::clone(self), Arc::clone(pod));
        tokio::spawn(async move {
            let (api, name) = this.pod(&pod);
            let patch = json!({"metadata": {"uid": uid(&pod)}, "status": status});
            let written = api
                .patch_status(name, &PatchParams::default(), &Patch::Merge(&patch))
                .await;
            match written {
                // It is gone, or another has its name.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => panic!("the status of pod {name} cannot be written: {error}"),
                Ok(_) => {}
            }
        });
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Answers at a worker's address for as long as there is a kubelet.
async fn serve(kubelet: Weak<Kubelet>, listener: std::net::TcpListener, namespace: String, name: String) {
    listener.set_nonblocking(true).expect("a loopback socket works");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a loopback socket works");
    for question in 1.. {
        let (stream, _) = listener.accept().await.expect("a loopback socket works");
        let Some(kubelet) = kubelet.upgrade() else { return };
        if question == 3 && kubelet.lapses.load(Ordering::Relaxed) {
            continue;
        }
        let status = kubelet.says(&namespace, &name);
        tokio::spawn(worker::answer(stream, status));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

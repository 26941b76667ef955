//! A Kubernetes cluster in memory: an API server that can go wrong in chosen ways, and what else acts in a cluster.
//!
//! The operator reaches it through a `kube::Client` and through workers' sockets, and cannot tell it from a real one by
//! what it uses. Validation, defaults, admission and versions of an API are not imitated.

mod call;
mod faults;
mod refusal;
mod rest;
mod rules;
pub(crate) mod store;

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use millrace_operator::Settings;
use millrace_operator::cluster::Cluster;
use millrace_operator::cluster::watch::Scope;
use millrace_operator::controllers::Controllers;
use millrace_operator::flow::Sight;
use millrace_operator::metrics::Metrics;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tower_test::mock;

use call::{Call, Verb};
use faults::Look;
pub(crate) use faults::{Fault, Faults};
use refusal::Refusal;
pub(crate) use rest::World;
use store::{Key, kind};

use crate::journey::steps::Hands;
use crate::kubelet::worker;
use crate::news;
use crate::objects::plural_of;

/// The namespace that tests use.
pub(crate) const NAMESPACE: &str = "plant";
/// Between two things that the rest of the cluster does.
const PACE: Duration = Duration::from_millis(2);
/// Between two looks at the state.
const LOOK: Duration = Duration::from_millis(30);
/// How often workers are asked. The operator looks twice a second who is due.
pub(crate) const SCRAPE: Duration = Duration::from_millis(200);

type Answer = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// The cluster.
pub(crate) struct Fake {
    world: Mutex<World>,
    faults: Mutex<Faults>,
    /// Told of every change and of every write.
    news: watch::Sender<()>,
    /// What was asked to be written.
    writes: AtomicU64,
    /// How often workers have answered.
    scrapes: AtomicU64,
    /// Workers receive messages: every answer has another count.
    pub(crate) busy: AtomicBool,
    /// Rules that the operator has broken.
    broken: Mutex<Vec<String>>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// A running operator. It dies when this is dropped.
pub(crate) struct Operator {
    dead: Arc<AtomicBool>,
    task: JoinHandle<()>,
    network: JoinHandle<()>,
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.dead.store(true, Ordering::Relaxed);
        self.task.abort();
        self.network.abort();
    }
}

impl Operator {
    /// Ends it as SIGKILL does. No request of it is done any more when this returns.
    pub(crate) async fn kill(mut self) {
        self.dead.store(true, Ordering::Relaxed);
        self.task.abort();
        let ended = (&mut self.task).await;
        assert!(
            ended.is_err_and(|error| error.is_cancelled()),
            "the operator ended by itself"
        );
    }
}

impl Fake {
    /// An empty cluster.
    pub(crate) fn new() -> Arc<Self> {
        Self::from(World::default())
    }

    /// A cluster that goes on from a state of another, with the same objects.
    pub(crate) fn from(mut world: World) -> Arc<Self> {
        let fake = Arc::new(Self {
            world: Mutex::default(),
            faults: Mutex::default(),
            news: watch::Sender::new(()),
            writes: AtomicU64::new(0),
            scrapes: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            broken: Mutex::default(),
            tasks: Mutex::default(),
        });
        let running: Vec<Key> = world
            .store
            .all("pods")
            .filter(|(_, pod)| pod["status"]["podIP"].is_string())
            .map(|(key, _)| key.clone())
            .collect();
        for key in running {
            let mut pod = Value::clone(world.store.get(&key).expect("a pod that was found"));
            pod["status"]["podIP"] = fake.address(&key).into();
            world
                .store
                .change(&key, pod)
                .expect("a pod may get another address");
        }
        world.store.compact();
        *lock(&fake.world) = world;
        let rest = tokio::spawn(rest_of_cluster(Arc::downgrade(&fake), fake.news.subscribe()));
        lock(&fake.tasks).push(rest.abort_handle());
        fake
    }

    /// Starts an operator with an image for its workers.
    pub(crate) fn start(self: &Arc<Self>, image: &str) -> Operator {
        let dead = Arc::new(AtomicBool::new(false));
        let (service, requests) = mock::pair::<Request<Body>, Response<Answer>>();
        let network = tokio::spawn(network(Arc::downgrade(self), requests, Arc::clone(&dead)));
        let metrics = Metrics::default();
        let settings = Settings {
            worker_image: image.to_owned(),
            scrape_interval: SCRAPE,
            ..Settings::default()
        };
        let task = tokio::spawn(Controllers::run(
            Cluster::new(Client::new(service, NAMESPACE), metrics.clone()),
            Scope::All,
            Sight::default(),
            settings,
            metrics,
            || {},
        ));
        Operator { dead, task, network }
    }

    /// The state, as it is now.
    pub(crate) fn world(&self) -> World {
        lock(&self.world).clone()
    }

    /// What is to go wrong.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    /// Writes that were asked for so far.
    pub(crate) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Answers that workers have given so far.
    pub(crate) fn scrapes(&self) -> u64 {
        self.scrapes.load(Ordering::Relaxed)
    }

    /// Rules that were broken so far.
    pub(crate) fn broken(&self) -> Vec<String> {
        lock(&self.broken).clone()
    }

    /// Waits until the state is as `is` wants it; false if it is not in time.
    pub(crate) async fn until(&self, patience: Duration, is: impl Fn(&World) -> bool) -> bool {
        news::until(self.news.subscribe(), patience, LOOK, || is(&lock(&self.world))).await
    }

    /// Waits until nothing has been written, by anyone, for `still`.
    pub(crate) async fn rest(&self, still: Duration) {
        let mut news = self.news.subscribe();
        let deadline = Instant::now() + Duration::from_secs(60);
        while timeout(still, news.changed()).await.is_ok() {
            assert!(Instant::now() < deadline, "the cluster does not come to rest");
        }
    }

    /// Waits until a planned fault has come about, but no longer than `patience`.
    pub(crate) async fn struck(&self, patience: Duration) {
        let mut news = self.news.subscribe();
        let deadline = Instant::now() + patience;
        while !self.faults().has_struck() && Instant::now() < deadline {
            tokio::time::timeout_at(deadline, news.changed()).await.ok();
        }
    }

    /// Changes an object of any namespace.
    pub(crate) fn edit_at(&self, key: &Key, edit: &dyn Fn(&mut Value)) {
        let mut world = lock(&self.world);
        let mut object = Value::clone(world.store.get(key).expect("the object that is edited"));
        edit(&mut object);
        world
            .store
            .change(key, object)
            .expect("a change that may be made");
        drop(world);
        self.news.send_replace(());
    }

    /// Deletes an object of any namespace.
    pub(crate) fn delete_at(&self, key: &Key) {
        lock(&self.world)
            .store
            .delete(key, &Value::Null)
            .expect("an object to delete");
        self.news.send_replace(());
    }

    async fn answer(self: Arc<Self>, request: Request<Body>, dead: Arc<AtomicBool>) -> Response<Answer> {
        let call = Call::read(request).await;
        // A process that is gone asks nothing.
        if dead.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        if call.verb == Verb::Watch {
            return self.watch(call, dead);
        }
        let result = self.carry_out(&call, &dead);
        if dead.load(Ordering::Relaxed) {
            return std::future::pending().await;
        }
        let (code, body) = match result {
            Ok(object) if call.partial && call.verb != Verb::List => (200, partial(&object)),
            Ok(object) => (200, object),
            Err(refusal) => (refusal.code, refusal.status()),
        };
        let body = futures::stream::once(async move { Ok(Frame::data(body.to_string().into())) });
        response(code, body.boxed())
    }

    /// Does what is asked, or what the test wants in its place.
    fn carry_out(&self, call: &Call, dead: &AtomicBool) -> Result<Value, Refusal> {
        if !call.is_write() {
            return self.read(call);
        }
        self.writes.fetch_add(1, Ordering::Relaxed);
        let fault = lock(&self.faults).next(call);
        let result = match fault {
            Some(Fault::Refused) => Err(Refusal::broken()),
            Some(Fault::Swallowed) => Ok(call.body.clone()),
            _ => self.write(call),
        };
        if fault == Some(Fault::Killed) {
            dead.store(true, Ordering::Relaxed);
        }
        self.news.send_replace(());
        match fault {
            Some(Fault::Garbled) => Err(Refusal::broken()),
            _ => result,
        }
    }

    fn read(&self, call: &Call) -> Result<Value, Refusal> {
        let (faults, world) = (lock(&self.faults), lock(&self.world));
        if call.verb == Verb::Get {
            let object = world.store.get(&call.key);
            return object
                .map(|object| Value::clone(object))
                .ok_or_else(|| Refusal::missing(&call.key));
        }
        let version = faults.horizon().min(world.store.version());
        let objects = world.store.as_of(version);
        let items: Vec<Value> = objects
            .iter()
            .filter(|(key, object)| call.is_about(key, object))
            .map(|(_, object)| {
                if call.partial {
                    partial(object)
                } else {
                    Value::clone(object)
                }
            })
            .collect();
        let (api_version, kind) = kind(&call.key.plural);
        Ok(json!({
            "apiVersion": api_version,
            "kind": format!("{kind}List"),
            "metadata": {"resourceVersion": version.to_string()},
            "items": items,
        }))
    }

    fn write(&self, call: &Call) -> Result<Value, Refusal> {
        let mut world = lock(&self.world);
        let rule = rules::broken(&world, call);
        let store = &mut world.store;
        let result = match call.verb {
            Verb::Apply => store.apply(&call.key, &call.manager, &call.body, call.status),
            Verb::Merge => store.merge(&call.key, &call.body),
            Verb::Create => store.create(call.key.clone(), call.body.clone()),
            Verb::Replace => store.replace(&call.key, call.body.clone()),
            Verb::Delete => store.delete(&call.key, &call.body),
            Verb::Get | Verb::List | Verb::Watch => unreachable!("it does not write"),
        };
        // What was refused has broken nothing.
        if let Some(rule) = rule.filter(|_| result.is_ok()) {
            lock(&self.broken).push(rule);
        }
        result.map(|object| Value::clone(&object))
    }

    fn watch(self: Arc<Self>, call: Call, dead: Arc<AtomicBool>) -> Response<Answer> {
        let watching = Watching {
            cursor: call.version,
            news: self.news.subscribe(),
            fake: self,
            call,
            dead,
            over: false,
        };
        let lines = futures::stream::unfold(watching, Watching::next);
        response(200, lines.map(|line| Ok(Frame::data(line))).boxed())
    }

    /// An address for a worker, at which it answers from now on.
    fn address(self: &Arc<Self>, key: &Key) -> String {
        let (ip, listener) = worker::listen();
        let (fake, key) = (Arc::downgrade(self), key.clone());
        let serve = async move {
            listener.set_nonblocking(true)?;
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let Some(fake) = fake.upgrade() else { break };
                let scrapes = fake.scrapes.fetch_add(1, Ordering::Relaxed);
                let received = if fake.busy.load(Ordering::Relaxed) {
                    scrapes
                } else {
                    0
                };
                let status = lock(&fake.world).worker_says(&key, received);
                drop(fake);
                // A peer that has gone does not want an answer; one that is slow keeps no other waiting.
                tokio::spawn(worker::answer(stream, status));
            }
            Ok::<_, std::io::Error>(())
        };
        let task = tokio::spawn(async move { serve.await.expect("a loopback socket works") });
        lock(&self.tasks).push(task.abort_handle());
        ip.to_string()
    }
}

impl Hands for Fake {
    fn create(&self, manifest: &str) {
        let mut world = lock(&self.world);
        for document in serde_yaml::Deserializer::from_str(manifest) {
            let object: Value = serde::Deserialize::deserialize(document).expect("a manifest is YAML");
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let namespace = match object["kind"].as_str() {
                Some("Namespace") => String::new(),
                _ => object["metadata"]["namespace"]
                    .as_str()
                    .unwrap_or(NAMESPACE)
                    .to_owned(),
            };
            let key = Key::new(plural_of(&object), &namespace, &name);
            world.store.create(key, object).expect("a new object");
        }
        drop(world);
        self.news.send_replace(());
    }

    fn edit(&self, plural: &str, name: &str, edit: &dyn Fn(&mut Value)) {
        self.edit_at(&Key::new(plural, NAMESPACE, name), edit);
    }

    fn delete(&self, plural: &str, name: &str) {
        self.delete_at(&Key::new(plural, NAMESPACE, name));
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        for task in lock(&self.tasks).drain(..) {
            task.abort();
        }
    }
}

/// One watch.
struct Watching {
    fake: Arc<Fake>,
    call: Call,
    /// The last version that was told.
    cursor: u64,
    news: watch::Receiver<()>,
    dead: Arc<AtomicBool>,
    over: bool,
}

impl Watching {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        if self.over {
            return None;
        }
        loop {
            self.news.borrow_and_update();
            if self.dead.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let look = {
                let (mut faults, world) = (lock(&self.fake.faults), lock(&self.fake.world));
                faults.look(&world.store, &self.call, &mut self.cursor)
            };
            match look {
                Look::Changes(changes) => {
                    let mut lines = String::new();
                    for change in changes {
                        let kind = if change.removed { "DELETED" } else { "MODIFIED" };
                        let object = if self.call.partial {
                            partial(&change.object)
                        } else {
                            Value::clone(&change.object)
                        };
                        lines += &json!({"type": kind, "object": object}).to_string();
                        lines.push('\n');
                    }
                    return Some((lines.into(), self));
                }
                Look::Expired => {
                    self.over = true;
                    let line = json!({"type": "ERROR", "object": Refusal::expired().status()});
                    return Some((format!("{line}\n").into(), self));
                }
                Look::Nothing(until) => {
                    let until = until.unwrap_or_else(|| Instant::now() + Duration::from_secs(600));
                    // Both outcomes mean to look again.
                    tokio::time::timeout_at(until, self.news.changed()).await.ok();
                    let lag = lock(&self.fake.faults).lag;
                    if !lag.is_zero() {
                        tokio::time::sleep(lag).await;
                    }
                }
            }
        }
    }
}

/// Everything but the operator, for as long as there is a cluster.
async fn rest_of_cluster(fake: Weak<Fake>, mut news: watch::Receiver<()>) {
    loop {
        news.borrow_and_update();
        let Some(alive) = fake.upgrade() else { return };
        let moved = lock(&alive.world).step(&mut |key| alive.address(key));
        if moved {
            alive.news.send_replace(());
            drop(alive);
            tokio::time::sleep(PACE).await;
        } else {
            drop(alive);
            if news.changed().await.is_err() {
                return;
            }
        }
    }
}

/// Carries requests of an operator to the API server, and answers back.
async fn network(
    fake: Weak<Fake>,
    mut requests: mock::Handle<Request<Body>, Response<Answer>>,
    dead: Arc<AtomicBool>,
) {
    let mut calls = JoinSet::new();
    while let Some((request, answer)) = requests.next_request().await {
        let Some(fake) = fake.upgrade() else { return };
        let dead = Arc::clone(&dead);
        calls.spawn(async move { answer.send_response(fake.answer(request, dead).await) });
        while calls.try_join_next().is_some() {}
    }
}

fn response(code: u16, body: BoxStream<'static, Result<Frame<Bytes>, Infallible>>) -> Response<Answer> {
    Response::builder()
        .status(code)
        .header("content-type", "application/json")
        .body(StreamBody::new(body))
        .expect("a response")
}

/// An object's metadata, as it is sent to those who want no more.
fn partial(object: &Value) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": object["metadata"],
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Wires watches to controllers.

use std::fmt::Debug;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use kube::core::DeserializeGuard;
use kube::runtime::applier;
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{self, ObjectRef};
use kube::{Resource, ResourceExt};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute, group};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::changes::{self, Change, Kind, Reference, refers};
use super::context::{Context, refers_elsewhere, route_owner};
use super::latest::Latest;
use super::{Error, brokers, lanes, leaving, routes, sinks};
use crate::cluster::watch::{self, Scope};
use crate::cluster::{Cluster, CustomResource, has_finalizer, scrape};
use crate::flow::{Flows, Sight};
use crate::metrics::Metrics;
use crate::names;
use crate::observed::{News, Owner};
use crate::settings::Settings;

/// Objects of one controller that are passed over at the same time. Which of those that wait comes next is left to
/// chance, so few should have to.
const CONCURRENCY: u16 = 32;
/// Requests that may wait in a queue.
const QUEUE: usize = 256;
/// Changes that come so close together are one.
const DEBOUNCE: Duration = Duration::from_millis(50);

type Queue<K> = mpsc::Sender<ObjectRef<DeserializeGuard<K>>>;
type Requests<K> = mpsc::Receiver<ObjectRef<DeserializeGuard<K>>>;

/// The objects that users write.
pub struct Stores {
    /// All routes.
    pub routes: Latest<TopicRoute>,
    /// All brokers.
    pub brokers: Latest<MqttBroker>,
    /// All sinks.
    pub sinks: Latest<KafkaSink>,
}

/// Sees to it that what flows through routes is known where nobody acts: as long as another operator leads.
pub async fn follow(cluster: &Cluster, scope: &Scope, sight: &Sight, settings: &Settings) {
    let pods = watch::pods(&cluster.client(), scope, &sight.observed).for_each(|_| async {});
    let (observed, workers) = (Arc::clone(&sight.observed), Arc::clone(&sight.workers));
    let scrapes = scrape::run(observed, workers, settings.scrape_interval, |_, _| ());
    futures::join!(pods, scrapes);
}

/// All controllers of one scope.
pub struct Controllers {
    context: Arc<Context>,
    scope: Scope,
}

/// Where a change is reported to.
#[derive(Clone)]
struct Queues {
    routes: Queue<TopicRoute>,
    lanes: Queue<TopicRoute>,
    brokers: Queue<MqttBroker>,
    sinks: Queue<KafkaSink>,
}

impl Controllers {
    /// Runs until `cluster` is dropped or the future is; `on_synced` is called when all that exists has been seen. Others
    /// may look at what is seen, by `sight`.
    pub async fn run(
        cluster: Cluster,
        scope: Scope,
        sight: Sight,
        settings: Settings,
        metrics: Metrics,
        on_synced: impl FnOnce() + Send,
    ) {
        metrics.add(Box::new(Flows(sight.clone())));
        let Sight { observed, workers } = sight;
        observed.mark_unlisted();
        let (route_store, route_writer) = reflector::store();
        let (broker_store, broker_writer) = reflector::store();
        let (sink_store, sink_writer) = reflector::store();
        let (namespace_store, namespace_writer) = reflector::store();
        let client = cluster.client();
        let scrape_interval = settings.scrape_interval;
        let context = Arc::new(Context {
            sees_all: scope == Scope::All,
            cluster,
            observed: Arc::clone(&observed),
            workers: Arc::clone(&workers),
            stores: Stores {
                routes: Latest::new(route_store),
                brokers: Latest::new(broker_store),
                sinks: Latest::new(sink_store),
            },
            namespaces: namespace_store,
            settings,
            checks: Default::default(),
            backoff: Default::default(),
            ledger_pace: Default::default(),
            silences: Default::default(),
            topic_owners: Default::default(),
            nudges: Default::default(),
            metrics,
        });
        let this = Self {
            context: Arc::clone(&context),
            scope,
        };
        let (routes_tx, routes_rx) = mpsc::channel(QUEUE);
        let (lanes_tx, lanes_rx) = mpsc::channel(QUEUE);
        let (brokers_tx, brokers_rx) = mpsc::channel(QUEUE);
        let (sinks_tx, sinks_rx) = mpsc::channel(QUEUE);
        let queues = Queues {
            routes: routes_tx,
            lanes: lanes_tx,
            brokers: brokers_tx,
            sinks: sinks_tx,
        };
        let (news_tx, news_rx) = mpsc::channel(QUEUE);
        let synced = AtomicBool::new(false);
        let watches = async {
            let children =
                watch::children(&client, &this.scope, &observed, this.context.settings.pod_monitor)
                    .map(Change::Child);
            let news = ReceiverStream::new(news_rx);
            let namespaces = watch::namespaces(&client, &this.scope, namespace_writer).map(Change::Namespace);
            let routes = Kind {
                name: names::kind::ROUTE,
                of: |stores| &stores.routes,
                refers,
                public: changes::route,
            };
            let brokers = Kind {
                name: names::kind::BROKER,
                of: |stores| &stores.brokers,
                refers: |_| Vec::new(),
                public: changes::broker,
            };
            let sinks = Kind {
                name: names::kind::SINK,
                of: |stores| &stores.sinks,
                refers: |_| Vec::new(),
                public: changes::sink,
            };
            let all = [
                children.boxed(),
                news.boxed(),
                namespaces.boxed(),
                routes.watch(&this.scope, &context, route_writer),
                brokers.watch(&this.scope, &context, broker_writer),
                sinks.watch(&this.scope, &context, sink_writer),
            ];
            let mut changes = futures::stream::select_all(all);
            while let Some(change) = changes.next().await {
                if let Change::Deleted(owner, _) = &change {
                    this.context.forget(owner);
                }
                // Until all has been seen nobody takes requests, and then all is looked at anyway.
                if synced.load(Ordering::Relaxed) {
                    this.dispatch(&change, &queues).await;
                }
            }
        };
        let scrapes = scrape::run(observed.clone(), workers, scrape_interval, move |owner, news| {
            let change = match news {
                News::State => Change::Answered(owner),
                News::Counts => Change::Counted(owner),
            };
            // A full queue: the next answer that is news comes in a second.
            news_tx.try_send(change).ok();
        });
        let controllers = async {
            this.synced().await;
            synced.store(true, Ordering::Relaxed);
            on_synced();
            futures::join!(
                this.request_all(&queues),
                this.controller(
                    "routes",
                    |stores| &stores.routes,
                    routes_rx,
                    |route, context| async move { routes::reconcile(route, &context).await }
                ),
                this.controller(
                    "lanes",
                    |stores| &stores.routes,
                    lanes_rx,
                    |route, context| async move { lanes::reconcile(route, &context).await }
                ),
                this.controller(
                    "brokers",
                    |stores| &stores.brokers,
                    brokers_rx,
                    |broker, context| async move { brokers::reconcile(broker, &context).await }
                ),
                this.controller(
                    "sinks",
                    |stores| &stores.sinks,
                    sinks_rx,
                    |sink, context| async move { sinks::reconcile(sink, &context).await }
                ),
            );
        };
        futures::join!(watches, scrapes, controllers);
    }

    /// Waits until everything that exists has been seen: decisions made from half of it would be wrong.
    async fn synced(&self) {
        let stores = &self.context.stores;
        // The writers live as long as the watches.
        stores.routes.seen().wait_until_ready().await.ok();
        stores.brokers.seen().wait_until_ready().await.ok();
        stores.sinks.seen().wait_until_ready().await.ok();
        if self.scope == Scope::All {
            self.context.namespaces.wait_until_ready().await.ok();
        }
        self.context.observed.listed(watch::KINDS).await;
    }

    /// Has everything looked at.
    async fn request_all(&self, queues: &Queues) {
        let stores = &self.context.stores;
        for broker in stores.brokers.seen().state() {
            self.request(&Owner::of(names::kind::BROKER, broker.as_ref()), queues)
                .await;
        }
        for sink in stores.sinks.seen().state() {
            self.request(&Owner::of(names::kind::SINK, sink.as_ref()), queues)
                .await;
        }
        for route in stores.routes.seen().state() {
            self.request(&Owner::of(names::kind::ROUTE, route.as_ref()), queues)
                .await;
        }
    }

    /// Has all objects looked at that a change concerns.
    async fn dispatch(&self, change: &Change, queues: &Queues) {
        if let Change::Namespace(name) = change {
            let concerns = |route: &TopicRoute| {
                route.metadata.namespace.as_ref() == Some(name) && refers_elsewhere(route)
            };
            return self.request_routes(concerns, queues).await;
        }
        let Some(owner) = change.owner() else { return };
        self.request(owner, queues).await;
        if !change.concerns_others() {
            return;
        }
        if owner.kind != names::kind::ROUTE {
            let it = Reference::Object(owner.clone());
            return self
                .request_routes(|route| refers(route).contains(&it), queues)
                .await;
        }
        // Its broker and sink hear what workers say, and topics that routes name.
        let referred = match change {
            // The store has forgotten it.
            Change::Dropped(_, referred) | Change::Deleted(_, referred) => referred.clone(),
            _ => {
                let route = self.context.stores.routes.get(&owner.namespace, &owner.name);
                route.map(|route| refers(&route)).unwrap_or_default()
            }
        };
        for reference in referred {
            match reference {
                Reference::Object(other) => self.request(&other, queues).await,
                // It is another's now, or no longer.
                Reference::Session(id) => {
                    let concerns = |route: &TopicRoute| {
                        route.spec.session_id.as_ref() == Some(&id) && route_owner(route) != *owner
                    };
                    self.request_routes(concerns, queues).await;
                }
                Reference::Group(name) => {
                    let concerns = |route: &TopicRoute| {
                        group(route).as_ref() == Some(&name) && route_owner(route) != *owner
                    };
                    self.request_routes(concerns, queues).await;
                }
            }
        }
    }

    /// Has an object looked at.
    async fn request(&self, owner: &Owner, queues: &Queues) {
        match owner.kind {
            names::kind::ROUTE => {
                send(&queues.routes, owner).await;
                send(&queues.lanes, owner).await;
            }
            names::kind::BROKER => send(&queues.brokers, owner).await,
            _ => send(&queues.sinks, owner).await,
        }
    }

    /// Has routes looked at because of what others are now.
    async fn request_routes(&self, concerns: impl Fn(&TopicRoute) -> bool, queues: &Queues) {
        let mut owners = Vec::new();
        self.context.stores.routes.visit(|route| {
            if concerns(route) {
                owners.push(route_owner(route));
            }
        });
        for owner in owners {
            send(&queues.routes, &owner).await;
        }
    }

    /// Passes over objects for as long as it is polled.
    async fn controller<K, F>(
        &self,
        name: &'static str,
        of: fn(&Stores) -> &Latest<K>,
        requests: Requests<K>,
        reconcile: impl Fn(Arc<K>, Arc<Context>) -> F + Copy + Send + Sync + 'static,
    ) where
        K: CustomResource,
        F: Future<Output = Result<Action, Error>> + Send + 'static,
    {
        let queue = ReceiverStream::new(requests).map(Ok::<_, std::convert::Infallible>);
        let config = Config::default().concurrency(CONCURRENCY).debounce(DEBOUNCE);
        let pass = move |guard: Arc<DeserializeGuard<K>>, context: Arc<Context>| {
            observed_pass(name, guard, of, context, reconcile).boxed()
        };
        let policy = move |guard: Arc<DeserializeGuard<K>>, _: &Failed, context: Arc<Context>| {
            Action::requeue(context.backoff.failed(name, Owner::of(name, guard.as_ref())))
        };
        applier(
            pass,
            policy,
            Arc::clone(&self.context),
            of(&self.context.stores).seen().clone(),
            queue,
            config,
        )
        .for_each(|result| async move {
            if let Err(error) = result {
                // An object that is gone is no error; what a pass failed of has been said there.
                tracing::trace!(%error, controller = name, "a pass did not end well");
            }
        })
        .await;
    }
}

/// A pass failed; what of has been logged.
#[derive(Debug, thiserror::Error)]
#[error("the pass failed")]
struct Failed;

/// One pass, with what surrounds it: a span, counts, and the certainty that a panic hurts one object only.
async fn observed_pass<K, F>(
    controller: &'static str,
    guard: Arc<DeserializeGuard<K>>,
    of: fn(&Stores) -> &Latest<K>,
    context: Arc<Context>,
    reconcile: impl Fn(Arc<K>, Arc<Context>) -> F,
) -> Result<Action, Failed>
where
    K: CustomResource,
    F: Future<Output = Result<Action, Error>>,
{
    let measured = context.metrics.pass(controller);
    let (namespace, name) = (guard.namespace().unwrap_or_default(), guard.name_any());
    if let Err(invalid) = &guard.0 {
        measured.outcome("rejected");
        let meta = &invalid.metadata;
        if controller == "routes" && meta.deletion_timestamp.is_some() && has_finalizer(meta) {
            return match leaving::release_unread(meta, &context).await {
                Ok(()) => Ok(Action::await_change()),
                Err(error) => {
                    tracing::warn!(controller, namespace, name, %error, "a pass failed and will be tried again");
                    Err(Failed)
                }
            };
        }
        tracing::warn!(controller, namespace, name, error = %invalid, "the object cannot be read");
        if controller != "lanes" {
            context
                .cluster
                .reject::<K>(&invalid.metadata, &invalid.error.to_string())
                .await;
        }
        return Ok(Action::await_change());
    }
    let Some(object) = of(&context.stores).get(&namespace, &name) else {
        measured.outcome("ok");
        return Ok(Action::await_change());
    };
    let result = AssertUnwindSafe(reconcile(object, Arc::clone(&context)))
        .catch_unwind()
        .await;
    match result {
        Ok(Ok(action)) => {
            context
                .backoff
                .forget(controller, Owner::of(controller, guard.as_ref()));
            measured.outcome("ok");
            Ok(action)
        }
        // Soon it is gone, and all in it.
        Ok(Err(error)) if error.cause().is_namespace_terminating() => {
            measured.outcome("ok");
            Ok(Action::await_change())
        }
        Ok(Err(error)) => {
            measured.outcome("error");
            tracing::warn!(controller, namespace, name, %error, "a pass failed and will be tried again");
            Err(Failed)
        }
        Err(_) => {
            measured.outcome("panic");
            tracing::error!(
                controller,
                namespace,
                name,
                "a pass panicked: this is a bug in Millrace"
            );
            Err(Failed)
        }
    }
}

async fn send<K>(queue: &Queue<K>, owner: &Owner)
where
    K: Resource<DynamicType = ()>,
{
    // The receiver lives as long as the controllers.
    queue
        .send(ObjectRef::new(&owner.name).within(&owner.namespace))
        .await
        .ok();
}

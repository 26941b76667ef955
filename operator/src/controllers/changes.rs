//! What has happened to objects that users write, and whom it concerns.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::core::DeserializeGuard;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Resource, ResourceExt};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute, group};

use super::context::Context;
use super::latest::Latest;
use super::routes;
use super::run::Stores;
use crate::cluster::CustomResource;
use crate::cluster::watch::{self, Scope};
use crate::names::{self, Digest};
use crate::observed::Owner;

/// Something has happened.
pub(super) enum Change {
    /// A child has changed.
    Child(Owner),
    /// A worker has said something new.
    Answered(Owner),
    /// A worker has moved messages.
    Counted(Owner),
    /// One of our objects is as it was written now.
    Written {
        owner: Owner,
        /// More has changed than concerns the object alone.
        concerns_others: bool,
    },
    /// One of our objects names these others no more.
    Dropped(Owner, Vec<Reference>),
    /// One of our objects is gone, which named these others.
    Deleted(Owner, Vec<Reference>),
    /// A namespace has perhaps other labels.
    Namespace(String),
}

impl Change {
    /// To which of our objects, or to a child of which.
    pub(super) fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Child(owner)
            | Self::Answered(owner)
            | Self::Counted(owner)
            | Self::Written { owner, .. }
            | Self::Dropped(owner, _)
            | Self::Deleted(owner, _) => Some(owner),
            Self::Namespace(_) => None,
        }
    }

    /// Whether those that the object names, or that name it, are to be looked at.
    pub(super) fn concerns_others(&self) -> bool {
        match self {
            // What matters to others of a child is in the status of its owner soon.
            Self::Child(_) | Self::Counted(_) => false,
            Self::Answered(_) | Self::Dropped(..) | Self::Deleted(..) | Self::Namespace(_) => true,
            Self::Written { concerns_others, .. } => *concerns_others,
        }
    }
}

/// What a route names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// A broker or a sink.
    Object(Owner),
    /// A session of this id.
    Session(String),
    /// A consumer group of this name.
    Group(String),
}

/// How changes of a kind are looked at.
pub(super) struct Kind<K>
where
    K: CustomResource,
{
    /// One of [`names::kind`].
    pub(super) name: &'static str,
    /// Where its objects are.
    pub(super) of: fn(&Stores) -> &Latest<K>,
    /// Which others an object names.
    pub(super) refers: fn(&K) -> Vec<Reference>,
    /// What of an object concerns others.
    pub(super) public: fn(&K) -> Digest,
}

impl<K: CustomResource> Kind<K> {
    /// Watches the kind into its store.
    pub(super) fn watch(
        self,
        scope: &Scope,
        context: &Arc<Context>,
        writer: Writer<DeserializeGuard<K>>,
    ) -> BoxStream<'static, Change> {
        let api = scope.api::<DeserializeGuard<K>>(context.cluster.client());
        let context = Arc::clone(context);
        let (mut known, mut before_list, mut listed) = (HashMap::new(), HashMap::new(), Vec::new());
        watcher(api, watcher::Config::default().page_size(watch::PAGE))
            .default_backoff()
            .modify(|object| {
                // A fifth of an object, and of no use here.
                object.meta_mut().managed_fields = None;
            })
            .reflect(writer)
            .flat_map(move |event| {
                let changes = match event {
                    Ok(Event::Apply(object)) => {
                        let owner = Owner::of(self.name, &object);
                        let now = Known::of(&self, &object);
                        let before = known.insert(owner.clone(), now.clone());
                        let concerns_others = before.as_ref().map(|before| before.public) != Some(now.public);
                        let dropped = now.drops(before.map(|before| before.refers).unwrap_or_default());
                        let is_own = (self.of)(&context.stores).shows_own(&object);
                        // The operator's own counts are no news to anybody.
                        let is_news = concerns_others || !is_own;
                        let written = Change::Written {
                            owner: owner.clone(),
                            concerns_others,
                        };
                        let written = is_news.then_some(written).into_iter();
                        let dropped = (!dropped.is_empty()).then_some(Change::Dropped(owner, dropped));
                        written.chain(dropped).collect()
                    }
                    Ok(Event::Delete(object)) => {
                        let owner = Owner::of(self.name, &object);
                        known.remove(&owner);
                        let referred = object.0.as_ref().map(self.refers).unwrap_or_default();
                        vec![Change::Deleted(owner, referred)]
                    }
                    Ok(Event::Init) => {
                        before_list.extend(known.drain());
                        listed.clear();
                        Vec::new()
                    }
                    // The store has it when all are listed; a pass that came before would not find it.
                    Ok(Event::InitApply(object)) => {
                        let owner = Owner::of(self.name, &object);
                        let now = Known::of(&self, &object);
                        let before = before_list.remove(&owner).map(|before: Known| before.refers);
                        let dropped = now.drops(before.unwrap_or_default());
                        known.insert(owner.clone(), now);
                        listed.push(Change::Written {
                            owner: owner.clone(),
                            concerns_others: true,
                        });
                        if !dropped.is_empty() {
                            listed.push(Change::Dropped(owner, dropped));
                        }
                        Vec::new()
                    }
                    Ok(Event::InitDone) => {
                        before_list.clear();
                        std::mem::take(&mut listed)
                    }
                    Err(error) => {
                        tracing::warn!(%error, kind = self.name, "a watch was interrupted; it starts again");
                        Vec::new()
                    }
                };
                stream::iter(changes)
            })
            .boxed()
    }
}

/// What others knew of an object.
#[derive(Clone)]
struct Known {
    /// None of one that cannot be read.
    public: Option<Digest>,
    refers: Vec<Reference>,
}

impl Known {
    fn of<K: CustomResource>(kind: &Kind<K>, object: &DeserializeGuard<K>) -> Self {
        let object = object.0.as_ref().ok();
        Self {
            public: object.map(kind.public),
            refers: object.map(kind.refers).unwrap_or_default(),
        }
    }

    /// What it named before, and does not any more.
    fn drops(&self, mut before: Vec<Reference>) -> Vec<Reference> {
        before.retain(|reference| !self.refers.contains(reference));
        before
    }
}

/// What of a broker concerns its routes: what users write, and whether it shares subscriptions. What it is like otherwise is found
/// by each route's own probe.
pub(super) fn broker(broker: &MqttBroker) -> Digest {
    let status = broker.status.as_ref();
    let shares = status.and_then(|status| status.capabilities.as_ref()?.shared_subscriptions);
    let what = format!("{:?} {:?} {shares:?}", broker.uid(), broker.metadata.generation);
    names::digest(what.as_bytes())
}

/// What of a sink concerns its routes: what users write, how many partitions topics are to have, and who watches groups.
pub(super) fn sink(sink: &KafkaSink) -> Digest {
    let status = sink.status.clone().unwrap_or_default();
    let targets: Vec<_> = status
        .topics
        .iter()
        .filter_map(|topic| Some((&topic.name, topic.target_partitions?)))
        .collect();
    let what = format!(
        "{:?} {:?} {targets:?} {:?}",
        sink.uid(),
        sink.metadata.generation,
        status.watched_by
    );
    names::digest(what.as_bytes())
}

/// What of a route concerns its broker, its sink and routes with its session or its consumer group: all but how many
/// messages it has moved.
pub(super) fn route(route: &TopicRoute) -> Digest {
    let status = route.status.clone().map(routes::without_counts);
    let status = serde_json::to_string(&status).unwrap_or_default();
    names::digest(format!("{:?} {:?} {status}", route.uid(), route.metadata.generation).as_bytes())
}

/// The broker, the sink, the session and the consumer group that a route names.
pub(super) fn refers(route: &TopicRoute) -> Vec<Reference> {
    let object = |kind, reference: millrace_crds::api::Reference<'_>| {
        Reference::Object(Owner {
            kind,
            namespace: reference.namespace.to_owned(),
            name: reference.name.to_owned(),
        })
    };
    let broker = route
        .broker_ref()
        .map(|broker| object(names::kind::BROKER, broker));
    let sink = route.sink_ref().map(|sink| object(names::kind::SINK, sink));
    let session = route.spec.session_id.clone().map(Reference::Session);
    let group = group(route).map(Reference::Group);
    let own = session.into_iter().chain(group);
    broker.into_iter().chain(sink).chain(own).collect()
}

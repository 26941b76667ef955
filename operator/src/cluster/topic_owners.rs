//! Kafka topics that objects of other operators describe: those operators undo, or complain about, what others change.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use millrace_crds::partitions::Owner;
use tokio::sync::Mutex;

use super::{Cluster, ClusterError};

/// How long an answer counts.
const FRESH: Duration = Duration::from_secs(60);

/// Objects that are listed at once.
const PAGE: u32 = 100;

/// Kinds of objects that describe a topic, and where they name it if not by their own name.
const KINDS: [Kind; 2] = [
    Kind {
        group: "kafka.strimzi.io",
        kind: "KafkaTopic",
        plural: "kafkatopics",
        name: "/spec/topicName",
    },
    Kind {
        group: "cluster.redpanda.com",
        kind: "Topic",
        plural: "topics",
        name: "/spec/overwriteTopicName",
    },
];

struct Kind {
    group: &'static str,
    kind: &'static str,
    plural: &'static str,
    name: &'static str,
}

/// What is known of the owners of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicOwners {
    /// The object that describes a topic, as `KafkaTopic namespace/name`, by the topic.
    pub known: BTreeMap<String, String>,
    /// Why any other topic may have an owner too.
    pub unsure: Option<String>,
}

impl TopicOwners {
    /// Who else a topic belongs to.
    pub fn of(&self, topic: &str) -> Owner {
        match (self.known.get(topic), &self.unsure) {
            (Some(object), _) => Owner::Object(object.clone()),
            (None, Some(why)) => Owner::Unknown(why.clone()),
            (None, None) => Owner::Nobody,
        }
    }
}

/// The owners of topics, listed once a minute for all who ask.
#[derive(Debug, Default)]
pub struct TopicOwnersSeen {
    seen: Mutex<Option<(Instant, TopicOwners)>>,
}

impl TopicOwnersSeen {
    /// Who they are. Where the API server does not say, any topic may have an owner.
    pub async fn get(&self, cluster: &Cluster) -> TopicOwners {
        let mut seen = self.seen.lock().await;
        if let Some((at, owners)) = seen.as_ref()
            && at.elapsed() < FRESH
        {
            return owners.clone();
        }
        let owners = cluster.topic_owners().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot tell which topics other operators own");
            TopicOwners {
                unsure: Some(format!("the API server does not say: {error}")),
                ..TopicOwners::default()
            }
        });
        *seen = Some((Instant::now(), owners.clone()));
        owners
    }
}

impl Cluster {
    /// Lists them, of all namespaces.
    async fn topic_owners(&self) -> Result<TopicOwners, ClusterError> {
        let client = self.client();
        let groups = self.call("list", client.list_api_groups()).await?;
        let mut owners = TopicOwners::default();
        for kind in &KINDS {
            let group = groups.groups.iter().find(|group| group.name == kind.group);
            // Each version shows all objects of a kind, and not each has every kind.
            for version in group.into_iter().flat_map(|group| &group.versions) {
                let api = objects(kind, &version.version, client.clone());
                match self.described(kind, &api).await {
                    Ok(known) => {
                        owners.known.extend(known);
                        break;
                    }
                    Err(error) if error.is_gone() => {}
                    Err(error) if error.category() == "forbidden" => {
                        owners.unsure = Some(format!(
                            "the operator may not list {}.{} in all namespaces: grant it that",
                            kind.plural, kind.group
                        ));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(owners)
    }

    /// The topics that objects of a kind describe. Page by page: there may be thousands, of which only names are kept.
    async fn described(
        &self,
        kind: &Kind,
        api: &Api<DynamicObject>,
    ) -> Result<BTreeMap<String, String>, ClusterError> {
        let mut known = BTreeMap::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let list = self.call("list", api.list(&page)).await?;
            let next = list.metadata.continue_.clone().filter(|next| !next.is_empty());
            known.extend(list.into_iter().filter_map(|object| described(kind, &object)));
            match next {
                Some(next) => page = page.continue_token(&next),
                None => return Ok(known),
            }
        }
    }
}

fn objects(kind: &Kind, version: &str, client: Client) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk(kind.group, version, kind.kind);
    Api::all_with(client, &ApiResource::from_gvk_with_plural(&gvk, kind.plural))
}

/// The topic that an object describes, and the object.
fn described(kind: &Kind, object: &DynamicObject) -> Option<(String, String)> {
    let name = object.metadata.name.clone()?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let written = object.data.pointer(kind.name).and_then(|name| name.as_str());
    // Redpanda's operator takes an empty name for none.
    let written = written.filter(|name| !name.is_empty());
    let topic = written.map_or_else(|| name.clone(), str::to_owned);
    Some((topic, format!("{} {namespace}/{name}", kind.kind)))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{Request, Response, StatusCode};
    use kube::client::Body;
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_topic_is_named_by_the_object_or_by_its_spec() {
        for (kind, field) in KINDS.iter().zip(["topicName", "overwriteTopicName"]) {
            let described = |spec: Value| {
                let object: DynamicObject = serde_json::from_value(json!({
                    "apiVersion": format!("{}/v1", kind.group), "kind": kind.kind,
                    "metadata": {"namespace": "kafka", "name": "telemetry-all"}, "spec": spec,
                }))
                .unwrap();
                described(kind, &object).unwrap()
            };
            let owner = format!("{} kafka/telemetry-all", kind.kind);
            for unnamed in [json!({}), json!({field: ""})] {
                assert_eq!(described(unnamed), ("telemetry-all".to_owned(), owner.clone()));
            }
            let named = json!({field: "telemetry.all", "partitions": 6});
            assert_eq!(described(named), ("telemetry.all".to_owned(), owner));
        }
    }

    #[tokio::test]
    async fn a_kind_is_found_in_the_version_that_has_it() {
        let api = tower::service_fn(|request: Request<Body>| async move {
            let (code, answer) = match request.uri().path() {
                "/apis" => (
                    StatusCode::OK,
                    json!({"groups": [{"name": "cluster.redpanda.com", "versions": [
                        {"groupVersion": "cluster.redpanda.com/v1alpha2", "version": "v1alpha2"},
                        {"groupVersion": "cluster.redpanda.com/v1alpha1", "version": "v1alpha1"},
                    ]}]}),
                ),
                "/apis/cluster.redpanda.com/v1alpha1/topics" => {
                    let query = request.uri().query().unwrap_or_default();
                    assert!(query.contains("limit=100"), "{query}");
                    let (name, more) = match query.contains("continue=more") {
                        true => ("events", ""),
                        false => ("telemetry", "more"),
                    };
                    (
                        StatusCode::OK,
                        json!({
                            "apiVersion": "cluster.redpanda.com/v1alpha1", "kind": "TopicList", "metadata": {"continue": more},
                            "items": [{"metadata": {"namespace": "kafka", "name": name}, "spec": {}}],
                        }),
                    )
                }
                _ => (StatusCode::NOT_FOUND, json!("404 page not found")),
            };
            let answer = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
        });
        let cluster = Cluster::new(Client::new(api, "default"), Metrics::default());
        let owners = cluster.topic_owners().await.unwrap();
        for name in ["telemetry", "events"] {
            assert_eq!(owners.of(name), Owner::Object(format!("Topic kafka/{name}")));
        }
        assert_eq!(owners.of("anything"), Owner::Nobody);
    }

    #[test]
    fn where_objects_cannot_be_listed_any_topic_may_be_owned() {
        let owners = TopicOwners {
            known: BTreeMap::from([("telemetry".to_owned(), "KafkaTopic kafka/telemetry".to_owned())]),
            unsure: Some("the API server does not say".into()),
        };
        assert_eq!(
            owners.of("telemetry"),
            Owner::Object("KafkaTopic kafka/telemetry".into())
        );
        assert!(matches!(owners.of("anything"), Owner::Unknown(_)));
        assert_eq!(TopicOwners::default().of("anything"), Owner::Nobody);
    }
}

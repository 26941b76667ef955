//! Routes of a cluster, through its API server: thin, and each call has a deadline.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, ListParams, ObjectList};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::DeserializeGuard;
use kube::{Client, Config, Resource, ResourceExt};
use millrace_contract::LaneRecord;
use millrace_crds::TopicRoute;
use millrace_operator::cluster::source_of;
use millrace_operator::names;
use millrace_operator::observed::{self, PodSeen, Seen};
use serde::de::DeserializeOwned;

use super::ask::ask;
use super::error::{AskError, TopError};
use super::pod;
use super::seen::{RouteSeen, Said, WorkerSeen};
use crate::app::Top;

/// Requests at the same time, however many workers there are.
const AT_ONCE: usize = 16;
/// How long the API server may take for a list.
const DEADLINE: Duration = Duration::from_secs(10);
/// So many routes can be named in a selector without making the request's line too long.
const MAX_NAMED: usize = 100;

/// A cluster, or a namespace of it.
pub(crate) struct Cluster {
    client: Client,
    url: String,
    /// None: all.
    pub(crate) namespace: Option<String>,
}

impl Cluster {
    /// The cluster that kubectl would talk to. Does not connect yet.
    pub(crate) async fn new(args: &Top) -> Result<Self, TopError> {
        // Fails when it has been done already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut config = config(args).await.map_err(TopError::NoCluster)?;
        // A worker that is away is told so by a 503 of the API server, which is no reason to ask ten times.
        config.default_retry = false;
        let namespace = match (&args.namespace, args.all_namespaces) {
            (_, true) => None,
            (Some(namespace), false) => Some(namespace.clone()),
            (None, false) => Some(config.default_namespace.clone()),
        };
        let url = config.cluster_url.to_string();
        let client = Client::try_from(config).map_err(|error| TopError::NoCluster(source_of(&error)))?;
        Ok(Self {
            client,
            url,
            namespace,
        })
    }

    /// The routes there are; their workers have not been asked.
    pub(crate) async fn routes(&self) -> Result<Vec<RouteSeen>, TopError> {
        let routes: ObjectList<DeserializeGuard<TopicRoute>> = self
            .list(
                Rule {
                    group: "millrace.dev",
                    resource: "topicroutes",
                    hint: ": the chart's ClusterRole millrace-view has it",
                },
                &ListParams::default().match_any(),
            )
            .await?;
        Ok(routes.items.into_iter().map(route).collect())
    }

    /// Asks the workers of these routes.
    pub(crate) async fn ask(&self, routes: &mut [RouteSeen]) -> Result<(), TopError> {
        let mut pods = self.pods(routes).await?;
        let mut due = Vec::new();
        for (i, route) in routes.iter_mut().enumerate() {
            let key = (route.namespace.clone(), route.name.clone());
            let mut seen = pods.remove(&key).unwrap_or_default();
            seen.sort_by_key(PodSeen::ordinal);
            for (j, pod) in seen.iter().enumerate() {
                let unable = pod::unable(pod);
                due.extend(unable.is_none().then_some((i, j)));
                route.workers.push(WorkerSeen {
                    name: pod.name.clone(),
                    ordinal: pod.ordinal(),
                    answer: Err(unable.unwrap_or_default()),
                });
            }
        }
        self.records(routes).await;
        self.answers(routes, due).await
    }

    async fn pods(&self, routes: &[RouteSeen]) -> Result<HashMap<(String, String), Vec<PodSeen>>, TopError> {
        let rule = Rule {
            group: "",
            resource: "pods",
            hint: ": Kubernetes' own role `view` has it",
        };
        let params = ListParams::default().labels(&selector(routes)).match_any();
        let pods: ObjectList<Pod> = self.list(rule, &params).await?;
        let mut by_route: HashMap<_, Vec<PodSeen>> = HashMap::new();
        for pod in &pods.items {
            let route = pod.labels().get(names::INSTANCE).cloned().unwrap_or_default();
            if let Seen::Pod(seen) = observed::pod(pod) {
                let key = (pod.namespace().unwrap_or_default(), route);
                by_route.entry(key).or_default().push(*seen);
            }
        }
        Ok(by_route)
    }

    /// The records of lanes. A route without one, or whose record may not be read, has no moves to show.
    async fn records(&self, routes: &mut [RouteSeen]) {
        let names: Vec<(usize, String, String)> = routes
            .iter()
            .enumerate()
            .map(|(i, route)| (i, route.namespace.clone(), names::lanes(&route.name)))
            .collect();
        let records = stream::iter(names).map(|(i, namespace, name)| async move {
            let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &namespace);
            let map = timely(maps.get_opt(&name)).await.ok().flatten();
            (i, map.as_ref().and_then(record))
        });
        let records: Vec<_> = records.buffer_unordered(AT_ONCE).collect().await;
        for (i, record) in records {
            routes[i].record = record;
        }
    }

    /// Asks workers, by the numbers of their routes and their own.
    async fn answers(&self, routes: &mut [RouteSeen], due: Vec<(usize, usize)>) -> Result<(), TopError> {
        let answers = due.into_iter().map(|(i, j)| {
            let (route, worker) = (&routes[i], &routes[i].workers[j]);
            let (namespace, name) = (route.namespace.clone(), route.name.clone());
            let path = format!(
                "/api/v1/namespaces/{namespace}/pods/{}:{}/proxy/status",
                worker.name,
                names::ADMIN_PORT
            );
            async move {
                let answer = ask(&self.client, &path).await;
                let own = answer.and_then(|status| pod::own(status, &namespace, &name));
                (i, j, own)
            }
        });
        let answers: Vec<_> = answers.collect();
        let answers: Vec<_> = stream::iter(answers).buffer_unordered(AT_ONCE).collect().await;

        let has_one = answers.iter().any(|(.., answer)| answer.is_ok());
        for (i, j, answer) in answers {
            match answer {
                Err(AskError::Forbidden(said)) if !has_one => {
                    return Err(TopError::Forbidden {
                        group: "",
                        resource: "pods/proxy",
                        verb: "get",
                        scope: format!("in namespace {}", routes[i].namespace),
                        hint: ": Kubernetes' own role `edit` has it",
                        said,
                    });
                }
                answer => routes[i].workers[j].answer = answer.map_err(|error| error.to_string()),
            }
        }
        Ok(())
    }

    async fn list<K>(&self, rule: Rule, params: &ListParams) -> Result<ObjectList<K>, TopError>
    where
        K: Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned,
    {
        let client = self.client.clone();
        let api: Api<K> = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        timely(api.list(params)).await.map_err(|failure| match failure {
            Failure::Api(status) if status.code == 403 => TopError::Forbidden {
                group: rule.group,
                resource: rule.resource,
                verb: "list",
                scope: match &self.namespace {
                    Some(namespace) => format!("in namespace {namespace}"),
                    None => "in all namespaces".to_owned(),
                },
                hint: rule.hint,
                said: status.message,
            },
            Failure::Api(status) if status.code == 404 => TopError::NoKind,
            Failure::Api(status) => TopError::Refused {
                resource: rule.resource,
                said: status.message,
            },
            Failure::Other(why) => TopError::Unreachable {
                url: self.url.clone(),
                why,
            },
        })
    }
}

/// What a user needs to be allowed.
#[derive(Clone, Copy)]
struct Rule {
    group: &'static str,
    resource: &'static str,
    hint: &'static str,
}

enum Failure {
    /// The API server refused.
    Api(Box<kube::core::Status>),
    /// It did not come to that.
    Other(String),
}

async fn timely<T>(call: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(Failure::Api(status)),
        Ok(Err(error)) => Err(Failure::Other(source_of(&error))),
        Err(_) => Err(Failure::Other(format!(
            "no answer within {} s",
            DEADLINE.as_secs()
        ))),
    }
}

async fn config(args: &Top) -> Result<Config, String> {
    let options = KubeConfigOptions {
        context: args.context.clone(),
        ..KubeConfigOptions::default()
    };
    let config = match (&args.kubeconfig, &args.context) {
        (Some(file), _) => match Kubeconfig::read_from(file) {
            Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
            Err(error) => Err(error),
        },
        (None, Some(_)) => Config::from_kubeconfig(&options).await,
        (None, None) => {
            let config = Config::infer().await;
            // Its source says which kubeconfig.
            return config.map_err(|error| {
                error
                    .source()
                    .map_or_else(|| error.to_string(), |source| source.to_string())
            });
        }
    };
    config.map_err(|error| error.to_string())
}

/// Selects the workers of these routes, or of all where they are too many to be named.
fn selector(routes: &[RouteSeen]) -> String {
    let workers = format!(
        "{}={},{}={}",
        names::OWNER_KIND,
        names::kind::ROUTE,
        names::COMPONENT,
        names::component::WORKER
    );
    let routes: BTreeSet<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    if routes.len() > MAX_NAMED {
        return workers;
    }
    let routes: Vec<&str> = routes.into_iter().collect();
    format!("{workers},{} in ({})", names::INSTANCE, routes.join(","))
}

fn record(map: &ConfigMap) -> Option<LaneRecord> {
    match observed::config_map(map) {
        Seen::Lanes(record) => Some(record),
        _ => None,
    }
}

fn route(guard: DeserializeGuard<TopicRoute>) -> RouteSeen {
    let route = match guard.0 {
        Ok(route) => route,
        Err(invalid) => {
            return RouteSeen {
                namespace: invalid.metadata.namespace.unwrap_or_default(),
                name: invalid.metadata.name.unwrap_or_default(),
                said: Some(Said {
                    reason: "Unreadable".to_owned(),
                    message: format!("this millrace cannot read it: {}", invalid.error),
                    ..Said::default()
                }),
                ..RouteSeen::default()
            };
        }
    };
    let (namespace, name) = (route.namespace().unwrap_or_default(), route.name_any());
    let status = route.status.unwrap_or_default();
    let ready = status.conditions.into_iter().find(|one| one.type_ == "Ready");
    let rate = status.ledger.map_or(0, |ledger| ledger.received_per_second);
    let said = match ready {
        Some(ready) => Said {
            ready: match ready.status.as_str() {
                "True" => Some(true),
                "False" => Some(false),
                _ => None,
            },
            reason: ready.reason,
            message: ready.message,
            rate,
        },
        None => Said {
            reason: "NoStatus".to_owned(),
            message: "nothing is said of it yet: is the operator running?".to_owned(),
            rate,
            ..Said::default()
        },
    };
    RouteSeen {
        namespace,
        name,
        said: Some(said),
        ..RouteSeen::default()
    }
}

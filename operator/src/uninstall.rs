//! What happens before the operator is uninstalled: it is stopped, and all routes are let go. Their workers go on; only
//! nobody looks after them any more.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::core::PartialObjectMeta;
use millrace_crds::TopicRoute;
use serde_json::json;

use crate::cli::Uninstall;
use crate::cluster::watch::Scope;
use crate::cluster::{Cluster, Note, has_finalizer};

/// How long the operator may take to stop.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) async fn run(cluster: &Cluster, args: &Uninstall) -> anyhow::Result<()> {
    stop(cluster, args).await?;
    let scopes = match args.watch_namespaces.as_slice() {
        [] => vec![Scope::All],
        names => names.iter().map(|name| Scope::Namespace(name.clone())).collect(),
    };
    for scope in scopes {
        let api: Api<TopicRoute> = scope.api(cluster.client());
        // Also those that this program could not read.
        let routes = match api.list_metadata(&ListParams::default()).await {
            Ok(routes) => routes,
            // Without the definitions there are no routes either.
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            Err(error) => return Err(error).context("TopicRoutes cannot be listed"),
        };
        for route in routes {
            release(cluster, &route).await?;
        }
    }
    Ok(())
}

/// Has the operator stop, so that it does not hold on to routes that are let go.
async fn stop(cluster: &Cluster, args: &Uninstall) -> anyhow::Result<()> {
    let api: Api<Deployment> = Api::namespaced(cluster.client(), &args.namespace);
    let patch = Patch::Merge(json!({"spec": {"replicas": 0}}));
    match api
        .patch_scale(&args.deployment, &PatchParams::default(), &patch)
        .await
    {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
        Err(error) => return Err(error).context("the operator cannot be stopped"),
    }
    let selector = api
        .get(&args.deployment)
        .await?
        .spec
        .and_then(|spec| spec.selector.match_labels);
    let selector: Vec<String> = selector
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    // A Deployment no longer counts pods that are on their way out, and one of those may still be at work.
    let pods: Api<Pod> = Api::namespaced(cluster.client(), &args.namespace);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let left = pods
            .list_metadata(&ListParams::default().labels(&selector.join(",")))
            .await?;
        if left.items.is_empty() {
            return Ok(());
        }
        if tokio::time::Instant::now() > until {
            bail!("the operator does not stop within {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn release(cluster: &Cluster, route: &PartialObjectMeta<TopicRoute>) -> anyhow::Result<()> {
    if !has_finalizer(&route.metadata) {
        return Ok(());
    }
    cluster.set_finalizer(&route.metadata, false).await?;
    let note = Note {
        warning: true,
        reason: "SessionsLeft".into(),
        action: "Uninstall",
        text: "the operator is uninstalled: when this route is deleted without it, its MQTT sessions are left to expire \
               at the broker"
            .into(),
        once: true,
    };
    cluster.tell(route, &note).await;
    Ok(())
}

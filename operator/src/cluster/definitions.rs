//! The CustomResourceDefinitions: written, and checked before anything depends on them.

use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch, PatchParams};
use millrace_crds::{CRD_VERSION, CRD_VERSION_ANNOTATION};

use super::{Cluster, ClusterError};
use crate::names;

/// How soon the API server is asked again.
const AGAIN: Duration = Duration::from_secs(2);

/// Writes those with these names, or all, over what is there; a newer version is left alone.
///
/// # Errors
/// If the API server does not take one.
pub async fn apply(cluster: &Cluster, only: &[String]) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let params = PatchParams::apply(names::FIELD_MANAGER).force();
    for crd in millrace_crds::crds() {
        let name = crd.metadata.name.clone().unwrap_or_default();
        if !only.is_empty() && !only.contains(&name) {
            continue;
        }
        let there = cluster.call("get", api.get_opt(&name)).await?;
        if there.as_ref().is_some_and(|there| version(there) > CRD_VERSION) {
            tracing::info!(name, "is newer than this program and left alone");
            continue;
        }
        cluster
            .call("patch", api.patch(&name, &params, &Patch::Apply(&crd)))
            .await?;
        tracing::info!(name, "written");
    }
    Ok(())
}

/// Refuses to work with definitions that are older than this program: the API server would drop fields it does not
/// know, without a word. One that may not read them, because it looks after single namespaces, takes them on trust.
///
/// # Errors
/// If one is missing or too old.
pub async fn check(cluster: &Cluster) -> anyhow::Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(cluster.client());
    for crd in millrace_crds::crds() {
        let name = crd.metadata.name.unwrap_or_default();
        let there = match read(cluster, &api, &name).await {
            Ok(Some(there)) => there,
            Ok(None) => bail!(
                "there is no CustomResourceDefinition {name}: install it with the chart, or with \
                               `millrace-operator crds --apply`"
            ),
            Err(error) if error.category() == "forbidden" => {
                tracing::info!(
                    "CustomResourceDefinitions may not be read: it is not checked whether they are new enough"
                );
                return Ok(());
            }
            Err(error) => {
                return Err(error).with_context(|| format!("CustomResourceDefinition {name} cannot be read"));
            }
        };
        let version = version(&there);
        if version < CRD_VERSION {
            bail!(
                "CustomResourceDefinition {name} has version {version}, older than {CRD_VERSION}, which this operator \
                 needs: upgrade it with the chart, or with `millrace-operator crds --apply`"
            );
        }
    }
    Ok(())
}

/// A definition as it is in the cluster. An API server that is away is waited for: a process that ended would be started
/// again later and later.
async fn read(
    cluster: &Cluster,
    api: &Api<CustomResourceDefinition>,
    name: &str,
) -> Result<Option<CustomResourceDefinition>, ClusterError> {
    loop {
        match cluster.call("get", api.get_opt(name)).await {
            Err(error)
                if matches!(
                    error.category(),
                    "timeout" | "connection" | "server_error" | "throttled"
                ) =>
            {
                tracing::warn!(%error, "the API server does not answer, and is asked again");
                tokio::time::sleep(AGAIN).await;
            }
            answer => return answer,
        }
    }
}

/// The version that a definition says it has; one that says nothing is older than all that do.
fn version(crd: &CustomResourceDefinition) -> u32 {
    let text = crd
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(CRD_VERSION_ANNOTATION));
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

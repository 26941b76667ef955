//! What one needs who serves a part of the Kubernetes API.

use futures::{Stream, StreamExt};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::Api;
use kube::api::{Patch, PostParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use serde_json::json;

use super::{Cluster, ClusterError, as_ourselves};

impl Cluster {
    /// An APIService; none if it does not exist.
    ///
    /// # Errors
    /// If the API server does not say.
    pub async fn api_service(&self, name: &str) -> Result<Option<APIService>, ClusterError> {
        let api: Api<APIService> = Api::all(self.client.clone());
        self.call("get", api.get_opt(name)).await
    }

    /// Has the API server trust these certificates, PEM, when it passes requests on to an APIService as it was read.
    ///
    /// # Errors
    /// If the API server does not take it, or if somebody else has written it meanwhile.
    pub async fn trust(&self, service: &APIService, certificates: &str) -> Result<(), ClusterError> {
        let api: Api<APIService> = Api::all(self.client.clone());
        let bundle = k8s_openapi::ByteString(certificates.as_bytes().to_vec());
        let patch = json!({
            "metadata": {"resourceVersion": service.metadata.resource_version},
            "spec": {"caBundle": bundle},
        });
        let params = as_ourselves();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        self.call("patch", api.patch(name, &params, &Patch::Merge(&patch)))
            .await
            .map(drop)
    }

    /// Whether somebody may do something, as the API server decides.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn allows(&self, review: &SubjectAccessReview) -> Result<bool, ClusterError> {
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = self
            .call("review", api.create(&PostParams::default(), review))
            .await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    }

    /// A ConfigMap, again whenever it changes; none while it does not exist.
    pub fn config_map(
        &self,
        namespace: &str,
        name: &str,
    ) -> impl Stream<Item = Result<Option<ConfigMap>, kube::runtime::watcher::Error>> + Send + use<> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        watch_object(api, name).default_backoff().boxed()
    }
}

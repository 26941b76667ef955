//! Has the API server trust this process: its certificate is in the APIService that leads here.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use tokio::sync::watch;

use super::answers::{GROUP, VERSION};
use super::bundle;
use super::certificate::Certificate;
use crate::cluster::{Cluster, ClusterError};
use crate::metrics::Metrics;

/// How long a certificate holds. Renewed after two thirds of it.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// How often it is looked whether the APIService is as it should be, and how long API servers have to take over a new
/// certificate before it is used.
const PACE: Duration = Duration::from_secs(60);
/// How soon it is tried again after a failure.
const AGAIN: Duration = Duration::from_secs(5);

/// Where the API server finds this process.
#[derive(Clone, Debug)]
pub struct Address {
    /// The namespace of the Service.
    pub namespace: String,
    /// The Service, which leads to all operators.
    pub service: String,
    /// What this process is called: another name than any other's.
    pub process: String,
}

/// Why the API server does not come here.
#[derive(Debug, thiserror::Error)]
enum Unpublished {
    #[error("there is no APIService {0}: the chart makes it with metricsApi.enabled=true")]
    Missing(String),
    #[error(
        "APIService {name} belongs to {owner} and is left alone: a cluster has one server of {GROUP} only. Use that one, or \
         remove it and upgrade the release"
    )]
    Foreign { name: String, owner: String },
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Certificates of this process, oldest first: the first is served, all of them are to be trusted.
#[derive(Default)]
struct Own {
    certificates: Vec<Arc<Certificate>>,
    /// All of them are.
    are_trusted: bool,
}

impl Own {
    /// What is due at a moment: another certificate before the last expires, the next once it is trusted.
    fn turn(&mut self, address: &Address, now: SystemTime) -> Result<(), rcgen::Error> {
        if self.are_trusted && self.certificates.len() > 1 {
            self.certificates.remove(0);
        }
        if self
            .certificates
            .last()
            .is_none_or(|newest| newest.age(now) > LIFE * 2 / 3)
        {
            let host = format!("{}.{}.svc", address.service, address.namespace);
            let next = Certificate::new(&host, &address.process, now, LIFE)?;
            self.certificates.push(Arc::new(next));
            self.are_trusted = false;
        }
        Ok(())
    }
}

/// For as long as it is polled. `served` is told which certificate is to be used.
pub(super) async fn run(
    cluster: &Cluster,
    metrics: &Metrics,
    address: &Address,
    served: watch::Sender<Option<Arc<Certificate>>>,
) {
    let mut own = Own::default();
    let mut said = String::new();
    loop {
        if let Err(error) = own.turn(address, SystemTime::now()) {
            tracing::error!(%error, "a certificate for the metrics API cannot be made");
        }
        served.send_if_modified(|served| {
            let first = own.certificates.first().cloned();
            let is_other = served.as_ref().map(|one| one.der()) != first.as_ref().map(|one| one.der());
            *served = first;
            is_other
        });
        let outcome = publish(cluster, address, &own.certificates).await;
        metrics.published(outcome.is_ok());
        own.are_trusted = outcome.is_ok();
        let why = outcome.err().map(|error| error.to_string()).unwrap_or_default();
        if why != said {
            match why.is_empty() {
                true => tracing::info!("the metrics API is open"),
                false => tracing::warn!(error = why, "the metrics API is not open"),
            }
            said = why;
        }
        tokio::time::sleep(if own.are_trusted { PACE } else { AGAIN }).await;
    }
}

async fn publish(cluster: &Cluster, address: &Address, own: &[Arc<Certificate>]) -> Result<(), Unpublished> {
    let name = format!("{VERSION}.{GROUP}");
    let Some(there) = cluster.api_service(&name).await? else {
        return Err(Unpublished::Missing(name));
    };
    if let Some(owner) = other_owner(&there, address) {
        return Err(Unpublished::Foreign { name, owner });
    }
    let bundle = there
        .spec
        .as_ref()
        .and_then(|spec| spec.ca_bundle.as_ref())
        .map(|bundle| bundle.0.as_slice())
        .unwrap_or_default();
    let own: Vec<&[u8]> = own.iter().map(|one| one.der()).collect();
    let wanted = bundle::with(bundle, &address.process, &own, Timestamp::now().as_second());
    if wanted.as_bytes() == bundle {
        return Ok(());
    }
    Ok(cluster.trust(&there, &wanted).await?)
}

/// Who else serves the API, if somebody does.
fn other_owner(service: &APIService, address: &Address) -> Option<String> {
    let leads = service.spec.as_ref().and_then(|spec| spec.service.clone());
    let leads = leads.unwrap_or_default();
    let (namespace, name) = (
        leads.namespace.unwrap_or_default(),
        leads.name.unwrap_or_default(),
    );
    (namespace != address.namespace || name != address.service).then(|| format!("Service {namespace}/{name}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn address() -> Address {
        Address {
            namespace: "millrace-system".into(),
            service: "millrace-metrics".into(),
            process: "millrace-operator-0".into(),
        }
    }

    #[test]
    fn a_certificate_is_renewed_before_it_expires_and_used_once_it_is_trusted() {
        let mut own = Own::default();
        let turn = |own: &mut Own, days: u64| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 24 * 3600);
            own.turn(&address(), now).unwrap();
            let all = own.certificates.iter().map(|one| one.der().to_vec());
            all.collect::<Vec<_>>()
        };
        let first = turn(&mut own, 0);
        assert_eq!(first.len(), 1);
        own.are_trusted = true;
        assert_eq!(turn(&mut own, 19), first);
        let both = turn(&mut own, 21);
        assert_eq!(
            (both.len(), &both[0]),
            (2, &first[0]),
            "the first is still served"
        );
        assert_eq!(turn(&mut own, 21), both, "the APIService could not be written");
        own.are_trusted = true;
        assert_eq!(turn(&mut own, 21), [both[1].clone()]);
    }

    #[test]
    fn an_api_service_that_leads_elsewhere_is_another_owners() {
        let service = |namespace: &str, name: &str| {
            let spec = json!({
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"namespace": namespace, "name": name},
            });
            from_value(json!({"metadata": {"name": "v1beta2.custom.metrics.k8s.io"}, "spec": spec})).unwrap()
        };
        assert_eq!(
            other_owner(&service("millrace-system", "millrace-metrics"), &address()),
            None
        );
        assert_eq!(
            other_owner(&service("monitoring", "prometheus-adapter"), &address()),
            Some("Service monitoring/prometheus-adapter".into())
        );
    }
}

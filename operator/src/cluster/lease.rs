//! Leader election: one operator of several acts, and one that has lost the Lease acts no more.
//!
//! Every write carries the resource version that was read, so two cannot both believe that they hold it.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use tokio::time::timeout_at;

use super::{Cluster, ClusterError};

/// How long a Lease holds that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// How long it counts as held: it is given up before others may take it, with room for clocks that run apart.
const HELD: Duration = Duration::from_millis(12_500);
/// How often it is renewed, and looked whether another's has run out.
const RENEW: Duration = Duration::from_secs(5);

/// A Lease and who wants it.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// Who this is: another word in every process.
    pub identity: String,
}

/// The Lease was lost: another may act now.
#[derive(Debug, thiserror::Error)]
#[error("the Lease {0} is lost: {1}")]
pub struct Lost(String, String);

impl Candidate {
    /// Waits until this one holds the Lease.
    pub async fn acquire(&self, cluster: &Cluster) -> Held<'_> {
        let mut observed: Option<(String, Instant)> = None;
        loop {
            match self.attempt(cluster, &mut observed).await {
                Ok(Some(lease)) => {
                    tracing::info!(lease = self.name, identity = self.identity, "leading");
                    return Held {
                        candidate: self,
                        lease,
                    };
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, lease = self.name, "the Lease cannot be read or written")
                }
            }
            tokio::time::sleep(RENEW).await;
        }
    }

    async fn attempt(
        &self,
        cluster: &Cluster,
        observed: &mut Option<(String, Instant)>,
    ) -> Result<Option<Lease>, ClusterError> {
        let api: Api<Lease> = Api::namespaced(cluster.client(), &self.namespace);
        let Some(lease) = cluster.call("get", api.get_opt(&self.name)).await? else {
            return match cluster
                .call("create", api.create(&PostParams::default(), &self.lease(None)))
                .await
            {
                Ok(lease) => Ok(Some(lease)),
                Err(error) if error.is_conflict() => Ok(None),
                Err(error) => Err(error),
            };
        };
        // By our own clock, since when it has been as it is: the holder's clock may be wrong.
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let since = match observed {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                *observed = Some((version, Instant::now()));
                Instant::now()
            }
        };
        let holder = lease
            .spec
            .as_ref()
            .and_then(|spec| spec.holder_identity.as_deref())
            .unwrap_or_default();
        let is_free = holder.is_empty() || holder == self.identity || since.elapsed() > DURATION;
        if !is_free {
            return Ok(None);
        }
        self.replace(cluster, Some(&lease)).await
    }

    async fn replace(&self, cluster: &Cluster, old: Option<&Lease>) -> Result<Option<Lease>, ClusterError> {
        let api: Api<Lease> = Api::namespaced(cluster.client(), &self.namespace);
        match cluster
            .call(
                "update",
                api.replace(&self.name, &PostParams::default(), &self.lease(old)),
            )
            .await
        {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if error.is_conflict() => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn lease(&self, old: Option<&Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let before = old.and_then(|lease| lease.spec.as_ref());
        let mine = before.filter(|spec| spec.holder_identity.as_deref() == Some(&self.identity));
        let transitions = before.and_then(|spec| spec.lease_transitions).unwrap_or_default();
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: old.and_then(|lease| lease.metadata.resource_version.clone()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.identity.clone()),
                lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
                acquire_time: mine
                    .and_then(|spec| spec.acquire_time.clone())
                    .or_else(|| Some(now.clone())),
                renew_time: Some(now),
                lease_transitions: Some(if mine.is_some() || old.is_none() {
                    transitions
                } else {
                    transitions + 1
                }),
                ..LeaseSpec::default()
            }),
        }
    }
}

/// A Lease that is held.
#[derive(Debug)]
pub struct Held<'c> {
    candidate: &'c Candidate,
    lease: Lease,
}

impl Held<'_> {
    /// Renews the Lease until it is lost: returns only then.
    pub async fn keep(&mut self, cluster: &Cluster) -> Lost {
        let lost = |why: &str| Lost(self.candidate.name.clone(), why.to_owned());
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(RENEW).await;
            // An answer may be long in coming, and others count from the moment at which it was written.
            let sent = Instant::now();
            let renewal = timeout_at((renewed + HELD).into(), self.renewed(cluster));
            match renewal.await {
                Ok(Ok(Some(lease))) => (self.lease, renewed) = (lease, sent),
                Ok(Ok(None)) => return lost("another one holds it"),
                Ok(Err(error)) => tracing::warn!(%error, "the Lease cannot be renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= HELD {
                return lost("it could not be renewed in time");
            }
        }
    }

    /// The Lease as it is renewed; none if another one holds it.
    async fn renewed(&self, cluster: &Cluster) -> Result<Option<Lease>, ClusterError> {
        if let Some(lease) = self.candidate.replace(cluster, Some(&self.lease)).await? {
            return Ok(Some(lease));
        }
        // Ours is not the newest: somebody else wrote it, or our own write arrived and its answer did not.
        self.candidate.attempt(cluster, &mut None).await
    }

    /// Gives the Lease up, so that another need not wait for it to run out.
    pub async fn release(self, cluster: &Cluster) {
        let mut lease = self.lease;
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            spec.renew_time = Some(MicroTime(Timestamp::now() - SignedDuration::from_secs(1)));
        }
        let api: Api<Lease> = Api::namespaced(cluster.client(), &self.candidate.namespace);
        let result = cluster
            .call(
                "update",
                api.replace(&self.candidate.name, &PostParams::default(), &lease),
            )
            .await;
        if let Err(error) = result {
            tracing::debug!(%error, "the Lease could not be given up");
        }
    }
}

//! `custom.metrics.k8s.io`, so that a HorizontalPodAutoscaler can act by a route's load without anything else installed.
//!
//! A part of the Kubernetes API that the API server passes on to this process: it is let in by its certificate, says who
//! asks, and is asked in turn whether they may. Every operator serves it, whoever leads, each with a certificate of its
//! own that it adds to the APIService.

mod answers;
mod bundle;
mod certificate;
mod front_proxy;
mod publish;
mod serve;

use std::sync::Arc;

use futures::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::flow::Sight;
use crate::metrics::Metrics;
use front_proxy::FrontProxy;
pub use publish::Address;

/// Serves on `listener` for as long as it is polled.
pub async fn run(
    listener: TcpListener,
    address: &Address,
    cluster: &Cluster,
    sights: Vec<Sight>,
    metrics: &Metrics,
) {
    let (certificate_tx, certificate_rx) = watch::channel(None);
    let (proxy_tx, proxy_rx) = watch::channel(None);
    let answers = serve::Answers {
        cluster: cluster.clone(),
        sights,
        metrics: metrics.clone(),
    };
    futures::join!(
        publish::run(cluster, metrics, address, certificate_tx),
        follow_front_proxy(cluster, proxy_tx),
        serve::run(listener, certificate_rx, proxy_rx, answers),
    );
}

/// Tells who the API server is, again whenever that changes: its authority is renewed every few years.
async fn follow_front_proxy(cluster: &Cluster, proxy: watch::Sender<Option<Arc<FrontProxy>>>) {
    let mut maps = cluster.config_map(front_proxy::NAMESPACE, front_proxy::CONFIG_MAP);
    while let Some(map) = maps.next().await {
        match map.map(|map| FrontProxy::of(&map.unwrap_or_default())) {
            Ok(Ok(known)) => {
                proxy.send_replace(Some(Arc::new(known)));
            }
            Ok(Err(error)) => tracing::warn!(%error, "the metrics API cannot tell who the API server is"),
            Err(error) => {
                tracing::warn!(%error, "the metrics API cannot read who the API server is; it is tried again");
            }
        }
    }
}

#[cfg(test)]
mod tests;

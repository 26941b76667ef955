//! The workers of this process: one per route.

use std::sync::Arc;

use bridge_worker::Worker;
use bridge_worker::metrics::RouteSnapshot;
use millrace_contract::Document;
use millrace_contract::status::RouteStatus;

/// Workers that were started together and stop together.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<[Worker]>);

/// A route that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("TopicRoute {route} cannot be started")]
pub(crate) struct FleetError {
    route: String,
    source: bridge_worker::StartError,
}

impl Fleet {
    /// Starts a worker for each document. If one cannot be started, those before it are stopped.
    pub(crate) fn start(documents: Vec<Document>) -> Result<Self, FleetError> {
        let mut workers: Vec<Worker> = Vec::new();
        for document in documents {
            let route = format!(
                "{}/{}",
                document.settings.route.namespace, document.settings.route.name
            );
            match Worker::start(document) {
                Ok(worker) => workers.push(worker),
                Err(source) => {
                    workers.iter().for_each(Worker::stop);
                    return Err(FleetError { route, source });
                }
            }
        }
        Ok(Self(workers.into()))
    }

    /// All that is known of each route now.
    pub(crate) fn snapshots(&self) -> Vec<RouteSnapshot> {
        self.0.iter().map(Worker::snapshot).collect()
    }

    /// The status of each route now.
    pub(crate) fn statuses(&self) -> Vec<RouteStatus> {
        self.0.iter().map(|worker| worker.snapshot().status).collect()
    }

    /// Stops reading; messages in flight are still confirmed and acknowledged.
    pub(crate) fn stop(&self) {
        self.0.iter().for_each(Worker::stop);
    }

    /// Ends without waiting for what is in flight.
    pub(crate) fn abort(&self) {
        self.0.iter().for_each(Worker::abort);
    }

    /// Whether all workers have ended.
    pub(crate) fn ended(&self) -> bool {
        self.0.iter().all(Worker::ended)
    }
}

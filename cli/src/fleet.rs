//! The routes of this process.

use std::sync::Arc;

use bridge_worker::Route;
use bridge_worker::metrics::RouteSnapshot;
use millrace_contract::AnyDocument;
use millrace_contract::status::RouteStatus;

/// Routes that were started together and stop together.
#[derive(Clone)]
pub(crate) struct Fleet(Arc<[Route]>);

/// A route that could not be started.
#[derive(Debug, thiserror::Error)]
#[error("TopicRoute {route} cannot be started")]
pub(crate) struct FleetError {
    route: String,
    source: bridge_worker::StartError,
}

impl Fleet {
    /// Starts a route for each document. If one cannot be started, those before it are stopped.
    pub(crate) fn start(documents: Vec<AnyDocument>) -> Result<Self, FleetError> {
        let mut routes: Vec<Route> = Vec::new();
        for document in documents {
            let route = &document.settings().route;
            let route = format!("{}/{}", route.namespace, route.name);
            match Route::start(document) {
                Ok(route) => routes.push(route),
                Err(source) => {
                    routes.iter().for_each(Route::stop);
                    return Err(FleetError { route, source });
                }
            }
        }
        Ok(Self(routes.into()))
    }

    /// All that is known of each route now.
    pub(crate) fn snapshots(&self) -> Vec<RouteSnapshot> {
        self.0.iter().map(Route::snapshot).collect()
    }

    /// The status of each route now.
    pub(crate) fn statuses(&self) -> Vec<RouteStatus> {
        self.0.iter().map(|route| route.snapshot().status).collect()
    }

    /// Stops reading; messages in flight are still confirmed and acknowledged.
    pub(crate) fn stop(&self) {
        self.0.iter().for_each(Route::stop);
    }

    /// Ends without waiting for what is in flight.
    pub(crate) fn abort(&self) {
        self.0.iter().for_each(Route::abort);
    }

    /// Whether all routes have ended.
    pub(crate) fn ended(&self) -> bool {
        self.0.iter().all(Route::ended)
    }
}

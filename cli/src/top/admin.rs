//! Routes of a process that runs without Kubernetes, or of a worker whose port is forwarded.

use kube::{Client, Config};

use super::ask::ask;
use super::error::TopError;
use super::seen::{RouteSeen, WorkerSeen};
use crate::check_route::HostPort;

/// The admin address of a process.
pub(crate) struct Admin {
    /// Where it is.
    pub(crate) address: HostPort,
    client: Client,
}

impl Admin {
    /// Of a process at an address. Does not connect yet.
    pub(crate) fn new(address: HostPort) -> Result<Self, TopError> {
        let failed = |why: String| TopError::Admin {
            address: address.to_string(),
            why,
        };
        let url = format!("http://{address}").parse();
        let url = url.map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?;
        let mut config = Config::new(url);
        config.default_retry = false;
        let client = Client::try_from(config).map_err(|error| failed(error.to_string()))?;
        Ok(Self { address, client })
    }

    /// The routes, with what the process says of them.
    pub(crate) async fn routes(&self) -> Result<Vec<RouteSeen>, TopError> {
        let status = ask(&self.client, "/status").await;
        let status = status.map_err(|error| TopError::Admin {
            address: self.address.to_string(),
            why: error.to_string(),
        })?;
        let seen = status.routes.into_iter().map(|route| RouteSeen {
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            workers: vec![WorkerSeen {
                name: self.address.to_string(),
                ordinal: None,
                answer: Ok(route),
            }],
            ..RouteSeen::default()
        });
        Ok(seen.collect())
    }
}

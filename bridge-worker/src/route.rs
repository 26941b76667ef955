//! A running route, whichever way it goes.

use millrace_contract::AnyDocument;

use crate::delivery::Delivery;
use crate::metrics::RouteSnapshot;
use crate::worker::{StartError, Worker};

/// A running route, whichever way it goes. Dropping it gives up what is in flight; [`Route::stop`] and [`Route::wait`] do
/// not.
pub enum Route {
    /// From MQTT to Kafka.
    ToKafka(Worker),
    /// From Kafka to MQTT.
    ToMqtt(Box<Delivery>),
}

impl Route {
    /// Starts all of a route: it runs until [`Route::stop`], or until a message or record stops it.
    ///
    /// # Errors
    /// When the document cannot be run; nothing has been started then.
    pub fn start(document: AnyDocument) -> Result<Self, StartError> {
        Ok(match document {
            AnyDocument::ToKafka(document) => Self::ToKafka(Worker::start(*document)?),
            AnyDocument::ToMqtt(document) => Self::ToMqtt(Box::new(Delivery::start(*document)?)),
        })
    }

    /// Stops reading, waits for the other side to confirm what is in flight, at most the document's `timeouts.drain`, and
    /// says so to the side that was read. Returns at once: see [`Route::wait`].
    pub fn stop(&self) {
        match self {
            Self::ToKafka(worker) => worker.stop(),
            Self::ToMqtt(delivery) => delivery.stop(),
        }
    }

    /// Gives up what is in flight: it comes again when the route does.
    pub fn abort(&self) {
        match self {
            Self::ToKafka(worker) => worker.abort(),
            Self::ToMqtt(delivery) => delivery.abort(),
        }
    }

    /// Whether all of the route's threads have ended.
    pub fn ended(&self) -> bool {
        match self {
            Self::ToKafka(worker) => worker.ended(),
            Self::ToMqtt(delivery) => delivery.ended(),
        }
    }

    /// Waits until all of the route's threads have ended.
    pub async fn wait(&self) {
        match self {
            Self::ToKafka(worker) => worker.wait().await,
            Self::ToMqtt(delivery) => delivery.wait().await,
        }
    }

    /// Everything that is known of the route at this moment. The ledger balances in every snapshot.
    pub fn snapshot(&self) -> RouteSnapshot {
        match self {
            Self::ToKafka(worker) => worker.snapshot(),
            Self::ToMqtt(delivery) => delivery.snapshot(),
        }
    }
}

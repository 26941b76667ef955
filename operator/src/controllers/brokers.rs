//! Brokers: whether they can be reached, and what they can do.

use std::sync::Arc;

use jiff::Timestamp;
use kube::runtime::controller::Action;
use millrace_contract::probe::{BrokerRequest, Request};
use millrace_contract::status::Reason as WorkerReason;
use millrace_crds::{MqttBroker, RenderOptions, SessionSource, broker_document, broker_places};

use super::context::Context;
use super::{Error, endpoint};
use crate::names;
use crate::observed::Owner;
use crate::plan::{Family, Rejection};
use crate::status::{self, Asked, BrokerFacts, Reason, Workers};

/// What workers say about a broker that does not work.
const REASONS: [WorkerReason; 4] = [
    WorkerReason::BrokerUnreachable,
    WorkerReason::BrokerRefused,
    WorkerReason::BrokerTlsFailed,
    WorkerReason::ProtocolError,
];

/// One pass over a broker.
pub(super) async fn reconcile(broker: Arc<MqttBroker>, context: &Context) -> Result<Action, Error> {
    if broker.metadata.deletion_timestamp.is_some() {
        return Ok(Action::await_change());
    }
    let workers = hear(&broker, context);
    let asked = match request(&broker, context) {
        Ok(request) => {
            let family = Family::of(names::kind::BROKER, broker.as_ref());
            let seen = context
                .observed
                .family(&Owner::of(names::kind::BROKER, broker.as_ref()));
            // Workers that are connected, perhaps to what the broker was before, do not say what it can do.
            let status = broker.status.as_ref();
            let is_known = status.is_some_and(|status| {
                status.observed_generation == broker.metadata.generation && status.capabilities.is_some()
            });
            let needless = is_known && workers == Workers::Connected;
            Ok(endpoint::ask(
                &family,
                &request,
                broker_places(&broker),
                &seen,
                needless,
                context,
            )
            .await?)
        }
        Err(rejection) => Err(rejection),
    };
    let facts = BrokerFacts {
        broker: &broker,
        asked: asked.as_ref().map_err(Clone::clone).map(|standing| Asked {
            standing,
            workers: workers.clone(),
        }),
        now: Timestamp::now(),
    };
    let new = status::broker(&facts);
    if broker.status.as_ref() != Some(&new) {
        let written = context.cluster.patch_status(broker.as_ref(), &new).await;
        context.stores.brokers.wrote(written.map_err(Error::Status)?);
        let old = broker.status.clone().unwrap_or_default();
        endpoint::tell(broker.as_ref(), &old.conditions, &new.conditions, context).await;
    }
    Ok(asked
        .as_ref()
        .map_or_else(|_| Action::await_change(), endpoint::next))
}

fn hear(broker: &MqttBroker, context: &Context) -> Workers {
    endpoint::hear(
        |route| context.uses_broker(route, broker),
        endpoint::is_connected_to_broker,
        &REASONS,
        context,
    )
}

fn request(broker: &MqttBroker, context: &Context) -> Result<Request, Rejection> {
    context.checks.broker(broker)?;
    let options = RenderOptions {
        session: SessionSource::Uid,
        places: &crate::plan::file,
    };
    let document = broker_document(broker, &options)
        .map_err(|error| Rejection::new(Reason::Invalid, format!("{}: {}", error.field, error.message)))?;
    Ok(Request {
        broker: Some(BrokerRequest {
            broker: document,
            qos: 2,
            shares: false,
        }),
        sink: None,
    })
}

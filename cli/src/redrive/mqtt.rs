//! Publishes messages one after the other, and waits for the broker's last word on each.

use anyhow::bail;
use bridge_worker::{Courier, Parcel};
use millrace_contract::{Broker, NoMatchingSubscribers};

use super::again::Made;
use super::outlet::ANSWER;

/// A connection to a broker.
pub(super) struct Publisher {
    courier: Courier,
    no_subscribers: NoMatchingSubscribers,
}

impl Publisher {
    pub(super) fn connect(broker: &Broker, no_subscribers: NoMatchingSubscribers) -> anyhow::Result<Self> {
        let id = format!("{}-redrive-{}", broker.client_id_prefix, std::process::id());
        Ok(Self {
            courier: Courier::connect(broker, id)?,
            no_subscribers,
        })
    }

    /// Returns when the broker has the message.
    pub(super) fn publish(&mut self, made: &Made) -> anyhow::Result<()> {
        let is_heard = self.courier.deliver(
            Parcel {
                topic: made.topic.clone(),
                payload: made.value.clone(),
                qos: made.qos,
                retain: made.retain,
                expiry_seconds: made.expiry_seconds,
                content_type: made.content_type.clone(),
                response_topic: made.response_topic.clone(),
                correlation_data: made.correlation_data.clone(),
                user: made.headers.clone(),
            },
            ANSWER,
        )?;
        if !is_heard && self.no_subscribers != NoMatchingSubscribers::Ignore {
            bail!(
                "nobody is subscribed to {}: wait until somebody is, or set spec.to.mqtt.noMatchingSubscribers to Ignore",
                made.topic
            );
        }
        Ok(())
    }
}

//! What is said of a broker.

use jiff::Timestamp;
use millrace_contract::probe::Outcome;
use millrace_crds::MqttBroker;
use millrace_crds::api::{BrokerCapabilities, MqttBrokerStatus};

use super::{Asked, Conditions, Reason};
use crate::plan::Rejection;

/// What a broker's status is made from.
pub struct BrokerFacts<'a> {
    /// The broker.
    pub broker: &'a MqttBroker,
    /// What is known from asking it, or why it cannot be asked.
    pub asked: Result<Asked<'a>, Rejection>,
    /// The time.
    pub now: Timestamp,
}

/// The status of a broker.
pub fn broker(facts: &BrokerFacts<'_>) -> MqttBrokerStatus {
    let old = facts.broker.status.clone().unwrap_or_default();
    let generation = facts.broker.metadata.generation;
    let mut conditions = Conditions::new(&old.conditions, generation, facts.now);
    // What another address was like says nothing of this one.
    let mut capabilities = old
        .capabilities
        .clone()
        .filter(|_| old.observed_generation == generation);
    match &facts.asked {
        Ok(asked) => {
            conditions.set(
                "Accepted",
                Some(true),
                Reason::AsAsked,
                "the broker can be asked as it is written",
            );
            asked.conditions(&mut conditions, "the broker");
            if let Some(Outcome::Found(found)) = asked.report().and_then(|report| report.broker.as_ref()) {
                capabilities = Some(BrokerCapabilities {
                    protocol_version: found.protocol_version.clone(),
                    shared_subscriptions: found.shared_subscriptions,
                    maximum_qos: i32::from(found.maximum_qos),
                    receive_maximum: found.receive_maximum.map(i32::from),
                    session_expiry_seconds: found.session_expiry_seconds.map(i64::from),
                    maximum_packet_bytes: found.maximum_packet_bytes.map(i64::from),
                });
            }
        }
        Err(rejection) => super::endpoint_rejected(&mut conditions, rejection),
    }
    MqttBrokerStatus {
        observed_generation: generation,
        capabilities,
        conditions: conditions.into_vec(),
    }
}

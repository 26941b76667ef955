//! What is said of objects: pure, from what has been decided and seen.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::plan::Rejection;

mod broker;
mod condition;
mod endpoint;
mod partitions;
mod reason;
mod route;
mod sink;

pub use broker::{BrokerFacts, broker};
pub use condition::{Conditions, changes};
pub use endpoint::{Asked, Workers};
pub use partitions::{Watched, can_look};
pub use reason::Reason;
pub use route::{RouteFacts, route};
pub use sink::{SinkFacts, sink};

/// The conditions of an object that cannot work as it is written.
pub fn rejected(rejection: &Rejection, generation: Option<i64>) -> Vec<Condition> {
    // An object that cannot be read is said so once for each time it is written: its old conditions are not known.
    let mut conditions = Conditions::new(&[], generation, Timestamp::now());
    endpoint_rejected(&mut conditions, rejection);
    conditions.into_vec()
}

fn endpoint_rejected(conditions: &mut Conditions<'_>, rejection: &Rejection) {
    conditions.set("Accepted", Some(false), rejection.reason, &rejection.message);
    conditions.set("Ready", Some(false), rejection.reason, &rejection.message);
    conditions.set(
        "Reconciling",
        Some(false),
        Reason::AsAsked,
        "nothing is under way",
    );
    conditions.set("Stalled", Some(true), rejection.reason, &rejection.message);
}

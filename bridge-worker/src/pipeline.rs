//! What happens to a message between its receipt and its ack. Decides everything, does no I/O.

mod deadletter;
mod lane;
mod lost;
mod mappings;
#[cfg(test)]
mod model;
mod ring;

pub(crate) use deadletter::{HEAD_BYTES, hex};
pub(crate) use lane::{Acks, Lane, LaneConfig, Now, Received, Stop};
pub(crate) use mappings::Mappings;
pub(crate) use ring::Ack;

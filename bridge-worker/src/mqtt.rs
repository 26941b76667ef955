//! Everything that touches MQTT: packets, the handshake, the connection.

mod connection;
mod oversized;
mod packet;
mod plain;
mod session;
mod shortfalls;
mod wire;

pub(crate) use connection::{Connection, Ended, Packet};
pub(crate) use packet::{Grant, Inbound, PacketError, Publish, Version};
pub(crate) use session::{Granted, SUBSCRIBE_ID, SessionOptions, connect};
pub(crate) use shortfalls::shortfalls;

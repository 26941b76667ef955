//! Everything that touches MQTT: packets, the handshake, the connection.

mod connection;
mod login;
mod negotiate;
mod oversized;
mod packet;
mod plain;
mod reasons;
mod session;
mod shortfalls;
mod subscribe;
mod wire;

pub(crate) use connection::{Connection, Ended, Packet};
pub(crate) use login::Login;
pub(crate) use negotiate::negotiate;
pub(crate) use packet::{Goodbye, Grant, Inbound, PacketError, Publish, Version};
pub(crate) use session::{ConnectError, Granted, SessionOptions, connect};
pub(crate) use shortfalls::shortfalls;
pub(crate) use subscribe::{Wanted, write_subscribe, write_unsubscribe};

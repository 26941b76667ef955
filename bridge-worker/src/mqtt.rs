//! Everything that touches MQTT: packets, the handshake, the connection.

mod access;
mod attempts;
mod connection;
mod negotiate;
mod oversized;
mod packet;
mod plain;
mod publish;
mod reasons;
mod session;
mod shortfalls;
mod subscribe;
mod transport;
mod wire;

pub(crate) use access::{Access, Read};
pub(crate) use attempts::{After, Attempts};
pub(crate) use connection::{Connection, Ended, Packet};
pub(crate) use negotiate::negotiate;
pub(crate) use packet::{Goodbye, Grant, Inbound, PacketError, Publish, Version};
pub(crate) use publish::{Answer, Outbound, Property, pubrel, put_property, put_user_property};
pub(crate) use reasons::refusal;
pub(crate) use session::{ConnectError, Granted, SessionOptions, connect, shown_certificate};
pub(crate) use shortfalls::{publishing_shortfalls, shortfalls};
pub(crate) use subscribe::{Wanted, write_subscribe, write_unsubscribe};

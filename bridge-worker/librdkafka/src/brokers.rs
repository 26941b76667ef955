//! Finding a cluster again.

use std::ffi::CString;

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, KafkaResult};

/// Tells a client of the brokers at `servers`, as `bootstrap.servers` did when it was made; those that it was told of
/// already are left alone.
///
/// librdkafka 2.12 forgets all brokers when one of them answers that the cluster has none, as one does that comes back from
/// a pause longer than its session with the controller. It may then cancel its own return to `bootstrap.servers` (its issue
/// 5301): nothing is tried any more, and no error is reported. What it holds waits, and goes on from here.
///
/// # Errors
/// When the list has a zero byte in it, or no broker.
pub fn add_brokers<C: ClientContext>(client: &Client<C>, servers: &str) -> KafkaResult<()> {
    let list = CString::new(servers).map_err(KafkaError::Nul)?;
    // SAFETY: the client is alive; the list is a C string that lives over the call, which copies it.
    let added = unsafe { sys::rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    match added {
        0 => Err(KafkaError::ClientCreation(format!("{servers:?} names no broker"))),
        _ => Ok(()),
    }
}

//! What rdkafka leaves out of librdkafka's mock cluster, for tests.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::bindings as sys;
use rdkafka::client::Client;

/// How long the mock cluster of a client that was made with `test.mock.num.brokers` waits for more members when the first
/// one joins a group: three seconds by itself. False if the client has none.
pub fn group_delay<C: ClientContext>(client: &Client<C>, delay: Duration) -> bool {
    // SAFETY: the client is alive.
    let cluster = unsafe { sys::rd_kafka_handle_mock_cluster(client.native_ptr()) };
    if cluster.is_null() {
        return false;
    }
    let delay = i32::try_from(delay.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the cluster belongs to the client, which is alive.
    unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, delay) };
    true
}

//! The MQTT 5 broker inside the demonstration and the check of a route.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use mqtt5::broker::config::{StorageBackend, StorageConfig};
use mqtt5::broker::{BrokerConfig, BrokerEventHandler, BrokerShutdownHandle, MqttBroker};
use tokio::task::JoinHandle;

/// What the broker may have unacknowledged on a connection, if the client allows it.
const WINDOW: u16 = 10_000;
/// Messages kept for a client that is slow or away.
const QUEUE: usize = 1_000_000;

/// A broker that keeps its sessions in memory.
pub(crate) struct Broker {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    shutdown: BrokerShutdownHandle,
    ended: JoinHandle<()>,
}

impl Broker {
    /// Starts it and waits until it accepts connections. Port 0 takes a free one. `heard` is told what clients do.
    pub(crate) async fn start(
        listen: SocketAddr,
        heard: Option<Arc<dyn BrokerEventHandler>>,
    ) -> anyhow::Result<Self> {
        let storage = StorageConfig::new()
            .with_backend(StorageBackend::Memory)
            .with_max_queued_messages_per_client(QUEUE)
            .with_max_queued_bytes_per_client(1 << 30);
        let mut config = BrokerConfig::new()
            .with_bind_address(listen)
            .with_max_outbound_inflight(WINDOW)
            .with_sys_topics_enabled(false)
            .with_storage(storage);
        if let Some(heard) = heard {
            config = config.with_event_handler(heard);
        }
        let mut broker = MqttBroker::with_config(config)
            .await
            .with_context(|| format!("cannot start the embedded MQTT broker on {listen}"))?;
        let address = broker
            .local_addr()
            .ok_or_else(|| anyhow!("the embedded MQTT broker does not listen"))?;
        let shutdown = broker.shutdown_handle();
        let mut ready = broker.ready_receiver();
        let ended = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::error!(%error, "the embedded MQTT broker has ended");
            }
        });
        ready
            .wait_for(|ready| *ready)
            .await
            .context("the embedded MQTT broker has ended")?;
        Ok(Self {
            address,
            shutdown,
            ended,
        })
    }

    /// Ends it.
    pub(crate) async fn stop(self) {
        self.shutdown.shutdown();
        // Whether it ended well is of no interest after the last message.
        self.ended.await.ok();
    }
}

//! The simulated plants: MQTT clients that publish with QoS 1 at a steady rate.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::audit::{Audit, Id, lock};
use super::script::{Script, Told};

/// A plant publishes in small batches at this pace: a timer per message would cost more than the message.
const TICK: Duration = Duration::from_millis(5);
/// Messages that may wait for the broker's acknowledgement.
const WINDOW: u16 = 5_000;
/// How long to wait for the last acknowledgements.
const LAST_ACKS: Duration = Duration::from_secs(30);

/// A plant that publishes until it is told to stop.
pub(crate) struct Plant {
    task: JoinHandle<()>,
}

impl Plant {
    /// Connects and publishes `rate` messages per second as `script` says, until `stop` turns true. Each message is
    /// in the books before it is published.
    pub(crate) fn start(
        broker: SocketAddr,
        rate: f64,
        script: Script,
        audit: Arc<Mutex<Audit>>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            task: tokio::spawn(run(broker, rate, script, audit, stop)),
        }
    }

    /// Waits until every message it published is acknowledged, or no longer can be.
    pub(crate) async fn ended(self) {
        // A plant that panicked leaves messages unacknowledged, which the verdict shows.
        self.task.await.ok();
    }
}

async fn run(
    broker: SocketAddr,
    rate: f64,
    mut script: Script,
    audit: Arc<Mutex<Audit>>,
    mut stop: watch::Receiver<bool>,
) {
    let name = script.plant().to_owned();
    let mut options = MqttOptions::new(format!("demo-{name}"), broker.ip().to_string(), broker.port());
    options
        .set_keep_alive(Duration::from_secs(30))
        .set_outgoing_inflight_upper_limit(WINDOW);
    let (client, events) = AsyncClient::new(options, usize::from(WINDOW));
    let (sent, sending) = mpsc::unbounded_channel();
    let (all_sent, wait_all_sent) = watch::channel(None);
    let acks = tokio::spawn(acknowledge(events, sending, wait_all_sent, audit.clone()));

    let started = Instant::now();
    let mut published: u64 = 0;
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    'publishing: loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let due = (started.elapsed().as_secs_f64() * rate) as u64;
        // A broker that cannot keep up makes a batch long: it must not outlive the order to stop.
        while published < due && !*stop.borrow() {
            let told = script.next(|fates| lock(&audit).publish(fates));
            if publish(&client, &sent, told).await.is_err() {
                break 'publishing;
            }
            published += 1;
        }
    }
    all_sent.send_replace(Some(published));
    if tokio::time::timeout(LAST_ACKS, acks).await.is_err() {
        tracing::error!(
            plant = name,
            "the broker does not acknowledge what the plant published"
        );
    }
}

async fn publish(client: &AsyncClient, sent: &UnboundedSender<Id>, told: Told) -> anyhow::Result<()> {
    sent.send(told.id)?;
    client
        .publish(told.topic, QoS::AtLeastOnce, false, told.payload)
        .await?;
    Ok(())
}

/// Notes which messages the broker has acknowledged, until `wait_all_sent` many are.
async fn acknowledge(
    mut events: EventLoop,
    mut sending: UnboundedReceiver<Id>,
    all_sent: watch::Receiver<Option<u64>>,
    audit: Arc<Mutex<Audit>>,
) {
    let mut in_flight = HashMap::new();
    let mut acknowledged = 0;
    while *all_sent.borrow() != Some(acknowledged) {
        // Woken at least by keep-alive; a short bound lets it see that everything is acknowledged.
        match tokio::time::timeout(TICK * 20, events.poll()).await {
            Ok(Ok(Event::Outgoing(Outgoing::Publish(packet)))) => {
                if let Ok(id) = sending.try_recv() {
                    in_flight.insert(packet, id);
                }
            }
            // "No matching subscribers" is an answer too, but nobody has the message then.
            Ok(Ok(Event::Incoming(Packet::PubAck(ack)))) => {
                acknowledged += 1;
                let id = in_flight
                    .remove(&ack.pkid)
                    .filter(|_| ack.reason == PubAckReason::Success);
                id.into_iter().for_each(|id| lock(&audit).acknowledge(id));
            }
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "a plant has lost its connection");
                return;
            }
        }
    }
}

//! `millrace check-route`: whether a route that runs elsewhere moves messages.
//!
//! This process is both sides of the route, an MQTT broker and a Kafka, so that `helm test` needs nothing but the
//! product's image. It publishes until one message has come through: when the route will be ready is not known here.

mod gateway;
mod kafka;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use mqtt5::broker::{BrokerEventHandler, ClientSubscribeEvent};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::{AsyncClient, EventLoop, MqttOptions};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use self::gateway::Gateway;
pub(crate) use self::gateway::HostPort;
use self::kafka::Kafka;
use crate::app::CheckRoute;
use crate::broker::Broker;
use crate::exit::Exit;
use crate::run::runtime;
use crate::signals::Signals;

/// How often a message is published.
const EVERY: Duration = Duration::from_millis(500);
/// Messages that may wait to be sent: one is published at a time.
const QUEUE: usize = 10;

/// Serves, publishes, and returns success once a message has arrived.
pub(crate) fn main(args: &CheckRoute) -> anyhow::Result<Exit> {
    bridge_worker::telemetry::init(bridge_worker::telemetry::LogFormat::Auto, "warn")?;
    runtime()?.block_on(check(args))
}

async fn check(args: &CheckRoute) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen()?;
    let (subscribed, is_subscribed) = watch::channel(false);
    let subscriptions = Subscriptions {
        filter: args.mqtt_topic.clone(),
        subscribed,
    };
    let broker = Broker::start(args.mqtt, Some(Arc::new(subscriptions))).await?;
    let mut kafka = Kafka::start(&args.kafka_topic)?;
    let gateway = Gateway::start(args.kafka, kafka.address, args.advertise.clone()).await?;
    println!(
        "listening: mqtt={} kafka={} advertised={}",
        broker.address, gateway.address, gateway.advertised
    );

    let client = MqttOptions::new("millrace-check-route", "127.0.0.1", broker.address.port());
    let (client, events) = AsyncClient::new(client, QUEUE);
    let started = Instant::now();
    let came = tokio::select! {
        came = timeout(args.timeout, first_message(&client, &args.mqtt_topic, &mut kafka)) => came.ok(),
        error = connection(events) => return Err(error),
        () = signals.next() => anyhow::bail!("ended by a signal before a message came through"),
    };
    broker.stop().await;
    let Some(came) = came.transpose()? else {
        let heard = *is_subscribed.borrow();
        eprintln!("error: {}", nothing_came(args, heard));
        return Ok(Exit::Failed);
    };
    println!(
        "ok: message {} went from MQTT topic `{}` to Kafka topic `{}` in {} ms, {:.1} s after the start",
        came.number,
        args.mqtt_topic,
        args.kafka_topic,
        came.took.as_millis(),
        started.elapsed().as_secs_f64()
    );
    Ok(Exit::Success)
}

/// What is known of a message that did not come, for the one who has to find out why.
fn nothing_came(args: &CheckRoute, subscribed: bool) -> String {
    let waited = args.timeout.as_secs_f64();
    if subscribed {
        format!(
            "a route has subscribed to `{}`, but in {waited} s nothing arrived in Kafka topic `{}`: see the route's \
             conditions and the log of its workers",
            args.mqtt_topic, args.kafka_topic
        )
    } else {
        format!(
            "in {waited} s nobody subscribed to `{}`: see the conditions of the route and the log of the operator",
            args.mqtt_topic
        )
    }
}

/// A message that has arrived.
struct Arrived {
    number: u64,
    /// Publishing to reading back.
    took: Duration,
}

/// Publishes until a message is read back from Kafka. A message published before the route subscribes is nobody's.
async fn first_message(client: &AsyncClient, topic: &str, kafka: &mut Kafka) -> anyhow::Result<Arrived> {
    let mut published: HashMap<String, (u64, Instant)> = HashMap::new();
    let mut ticks = tokio::time::interval(EVERY);
    for number in 1.. {
        let text = format!("millrace check-route: message {number}");
        published.insert(text.clone(), (number, Instant::now()));
        client
            .publish(topic, QoS::AtLeastOnce, false, text)
            .await
            .context("cannot publish")?;
        tokio::select! {
            _ = ticks.tick() => {}
            value = kafka.next() => {
                let value = value?;
                let (number, at) = published
                    .get(&value)
                    .with_context(|| format!("in Kafka is what was never published: {value:?}"))?;
                return Ok(Arrived { number: *number, took: at.elapsed() });
            }
        }
    }
    anyhow::bail!("no number is left")
}

/// Keeps the publisher's connection going. Returns only what ended it.
async fn connection(mut events: EventLoop) -> anyhow::Error {
    loop {
        if let Err(error) = events.poll().await {
            return anyhow::Error::new(error).context("lost the connection to the own broker");
        }
    }
}

/// Notes when somebody reads what is published.
struct Subscriptions {
    filter: String,
    subscribed: watch::Sender<bool>,
}

impl BrokerEventHandler for Subscriptions {
    fn on_client_subscribe<'a>(
        &'a self,
        event: ClientSubscribeEvent,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            let mut filters = event.subscriptions.iter();
            if filters.any(|subscription| *subscription.topic_filter == *self.filter)
                && !self.subscribed.send_replace(true)
            {
                println!("a route has subscribed");
            }
        })
    }
}

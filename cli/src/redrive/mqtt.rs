//! Publishes messages one after the other, and waits for the broker's last word on each.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bridge_worker::{addresses, read_login};
use bytes::Bytes;
use millrace_contract::{Broker, NoMatchingSubscribers, ProtocolVersion};
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason, PubCompReason, PubRecReason, PublishProperties};
use rumqttc::{Outgoing, v5};

use super::again::Made;
use super::outlet::ANSWER;

/// A connection to a broker. It is kept alive by a thread of its own, which ends with the connection.
pub(super) struct Publisher {
    client: Client,
    answers: Receiver<Answer>,
    no_subscribers: NoMatchingSubscribers,
}

enum Client {
    V5(v5::Client),
    V311(rumqttc::Client),
}

/// What the broker says of a message, or what has become of it.
#[derive(Debug)]
enum Answer {
    Sent,
    Taken,
    NobodySubscribed,
    Refused(String),
    Gone(String),
}

impl Publisher {
    pub(super) fn connect(broker: &Broker, no_subscribers: NoMatchingSubscribers) -> anyhow::Result<Self> {
        let addresses = addresses(broker)?;
        let (host, port) = addresses
            .into_iter()
            .next()
            .context("the MqttBroker has no url")?;
        let id = format!("{}-redrive-{}", broker.client_id_prefix, std::process::id());
        let login = broker.credentials.as_ref().map(read_login).transpose();
        let login = login.map_err(|error| anyhow!(error))?;
        let alive = Duration::from_secs(30);
        let (sender, answers) = channel();
        let client = match broker.protocol_version {
            // What only knows 3.1.1 says so in the manifest.
            ProtocolVersion::V5 | ProtocolVersion::Auto => {
                let mut options = v5::MqttOptions::new(id, host, port);
                options.set_clean_start(true);
                options.set_keep_alive(alive);
                if let Some((username, password)) = login {
                    options.set_credentials(username, password);
                }
                let (client, mut connection) = v5::Client::new(options, 16);
                std::thread::spawn(move || {
                    let events = connection
                        .iter()
                        .map(|event| event.map_err(|error| error.to_string()));
                    hear(events.map(|event| event.map(of_v5)), &sender);
                });
                Client::V5(client)
            }
            ProtocolVersion::V311 => {
                let mut options = rumqttc::MqttOptions::new(id, host, port);
                options.set_clean_session(true);
                options.set_keep_alive(alive);
                if let Some((username, password)) = login {
                    options.set_credentials(username, password);
                }
                let (client, mut connection) = rumqttc::Client::new(options, 16);
                std::thread::spawn(move || {
                    let events = connection
                        .iter()
                        .map(|event| event.map_err(|error| error.to_string()));
                    hear(events.map(|event| event.map(of_v311)), &sender);
                });
                Client::V311(client)
            }
        };
        Ok(Self {
            client,
            answers,
            no_subscribers,
        })
    }

    /// Returns when the broker has the message.
    pub(super) fn publish(&mut self, made: &Made) -> anyhow::Result<()> {
        self.send(made)?;
        let until = Instant::now() + ANSWER;
        let mut is_lonely = false;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let Ok(answer) = self.answers.recv_timeout(left) else {
                bail!(
                    "the MQTT broker has not confirmed a message to {} for {} s",
                    made.topic,
                    ANSWER.as_secs()
                );
            };
            match answer {
                Answer::Sent if made.qos > 0 => {}
                // With QoS 2 the last word follows.
                Answer::NobodySubscribed => is_lonely = true,
                Answer::Sent | Answer::Taken
                    if !is_lonely || self.no_subscribers == NoMatchingSubscribers::Ignore =>
                {
                    return Ok(());
                }
                Answer::Sent | Answer::Taken => bail!(
                    "nobody is subscribed to {}: wait until somebody is, or set spec.to.mqtt.noMatchingSubscribers to Ignore",
                    made.topic
                ),
                Answer::Refused(why) => {
                    bail!("the MQTT broker does not take a message to {}: {why}", made.topic)
                }
                Answer::Gone(why) => {
                    return Err(anyhow!(why).context("the MQTT broker cannot be reached, or has gone"));
                }
            }
        }
    }

    fn send(&self, made: &Made) -> anyhow::Result<()> {
        match &self.client {
            Client::V5(client) => {
                use v5::mqttbytes::QoS;
                let qos = match made.qos {
                    0 => QoS::AtMostOnce,
                    1 => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                };
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let user = made.headers.iter();
                let properties = PublishProperties {
                    content_type: made.content_type.clone(),
                    response_topic: made.response_topic.clone(),
                    correlation_data: made.correlation_data.clone().map(Bytes::from),
                    message_expiry_interval: made.expiry_seconds,
                    user_properties: user.map(|(name, value)| (name.clone(), text(value))).collect(),
                    ..PublishProperties::default()
                };
                client.publish_with_properties(
                    &made.topic,
                    qos,
                    made.retain,
                    made.value.clone(),
                    properties,
                )?;
            }
            Client::V311(client) => {
                use rumqttc::QoS;
                let qos = match made.qos {
                    0 => QoS::AtMostOnce,
                    1 => QoS::AtLeastOnce,
                    _ => QoS::ExactlyOnce,
                };
                client.publish(&made.topic, qos, made.retain, made.value.clone())?;
            }
        }
        Ok(())
    }
}

/// Passes on what concerns a message, until the connection ends or nobody listens.
fn hear(events: impl Iterator<Item = Result<Vec<Answer>, String>>, to: &Sender<Answer>) {
    for event in events {
        let (answers, is_last) = match event {
            Ok(answers) => (answers, false),
            Err(error) => (vec![Answer::Gone(error)], true),
        };
        let is_heard = answers.into_iter().all(|answer| to.send(answer).is_ok());
        if is_last || !is_heard {
            return;
        }
    }
}

fn of_v5(event: v5::Event) -> Vec<Answer> {
    let refused = |reason: &dyn std::fmt::Debug| vec![Answer::Refused(format!("{reason:?}"))];
    match event {
        v5::Event::Outgoing(Outgoing::Publish(_)) => vec![Answer::Sent],
        v5::Event::Incoming(Packet::PubAck(ack)) => match ack.reason {
            PubAckReason::Success => vec![Answer::Taken],
            PubAckReason::NoMatchingSubscribers => vec![Answer::NobodySubscribed, Answer::Taken],
            reason => refused(&reason),
        },
        v5::Event::Incoming(Packet::PubRec(rec)) => match rec.reason {
            PubRecReason::Success => Vec::new(),
            PubRecReason::NoMatchingSubscribers => vec![Answer::NobodySubscribed],
            reason => refused(&reason),
        },
        v5::Event::Incoming(Packet::PubComp(comp)) => match comp.reason {
            PubCompReason::Success => vec![Answer::Taken],
            reason @ PubCompReason::PacketIdentifierNotFound => refused(&reason),
        },
        _ => Vec::new(),
    }
}

fn of_v311(event: rumqttc::Event) -> Vec<Answer> {
    use rumqttc::{Event, Packet};
    match event {
        Event::Outgoing(Outgoing::Publish(_)) => vec![Answer::Sent],
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => vec![Answer::Taken],
        _ => Vec::new(),
    }
}

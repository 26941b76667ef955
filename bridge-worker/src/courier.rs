//! A client that publishes one message after the other, each with the broker's last word on it: for those who have few, and
//! time.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use millrace_contract::Broker;
use thiserror::Error;
use tokio::time::{sleep, timeout_at};

use crate::config::{self, ConfigError};
use crate::mqtt::{
    Access, Answer, ConnectError, Connection, Ended, Goodbye, Inbound, Outbound, Packet, Property,
    SessionOptions, Version, negotiate, pubrel, put_property, put_user_property, refusal,
};

/// What is received is answers.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
const KEEP_ALIVE_SECONDS: u16 = 30;
/// No matching subscribers [MQTT-3.4.2.1].
const NOBODY: u8 = 0x10;
/// One message at a time needs one identifier.
const ID: u16 = 1;

/// A message.
#[derive(Clone, Debug, Default)]
pub struct Parcel {
    /// Where to.
    pub topic: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// How long it may still take (MQTT 5).
    pub expiry_seconds: Option<u32>,
    /// What it is (MQTT 5).
    pub content_type: Option<String>,
    /// Where an answer goes (MQTT 5).
    pub response_topic: Option<String>,
    /// What an answer carries (MQTT 5).
    pub correlation_data: Option<Vec<u8>>,
    /// User properties (MQTT 5).
    pub user: Vec<(String, Vec<u8>)>,
}

/// Why a message is not with the broker.
#[derive(Debug, Error)]
pub enum CourierError {
    /// The document cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no connection, and why.
    #[error("{0}")]
    NotConnected(String),
    /// The broker does not take the message.
    #[error("the MQTT broker does not take a message to {topic}: {why}")]
    Refused {
        /// Where to.
        topic: String,
        /// What it says.
        why: String,
    },
    /// The broker does not answer.
    #[error("the MQTT broker has not confirmed a message to {topic} for {} s", .patience.as_secs())]
    Silent {
        /// Where to.
        topic: String,
        /// How long it was waited for.
        patience: Duration,
    },
    /// The connection has ended, and why.
    #[error("the connection to the MQTT broker has ended: {0}")]
    Gone(String),
}

type Reply = mpsc::SyncSender<Result<bool, CourierError>>;

/// A connection to a broker. A thread of its own keeps it alive until this is dropped.
#[derive(Debug)]
pub struct Courier(tokio::sync::mpsc::UnboundedSender<(Parcel, Duration, Reply)>);

impl Courier {
    /// Connects with a session that ends with the connection.
    ///
    /// # Errors
    /// When the document cannot be used, or there is no connection.
    pub fn connect(broker: &Broker, client_id: String) -> Result<Self, CourierError> {
        let options = SessionOptions {
            addresses: config::addresses(broker)?,
            server_name: config::server_name(broker),
            client_id,
            clean_start: true,
            session_expiry_seconds: 0,
            keep_alive_seconds: KEEP_ALIVE_SECONDS,
            receive_maximum: broker.receive_maximum,
            max_message_bytes: MAX_MESSAGE_BYTES,
        };
        let failed = |error: &dyn std::fmt::Display| CourierError::NotConnected(error.to_string());
        let access = Access::read(broker).map_err(|error| failed(&error))?;
        let protocol = broker.protocol_version;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(&error))?;
        let connected = runtime.block_on(negotiate(&options, &access, protocol));
        let (connection, granted) = connected.map_err(|error: ConnectError| failed(&error))?;
        let (sender, mut parcels) = tokio::sync::mpsc::unbounded_channel::<(Parcel, Duration, Reply)>();
        let mut round = Round {
            connection,
            version: granted.version,
        };
        let run = async move {
            let mut ended = None;
            loop {
                let next = round.connection.next_check();
                tokio::select! {
                    parcel = parcels.recv() => {
                        let Some((parcel, patience, reply)) = parcel else {
                            return round.connection.disconnect(Goodbye::End).await;
                        };
                        let outcome = match &ended {
                            Some(why) => Err(CourierError::Gone(String::clone(why))),
                            None => round.deliver(&parcel, patience).await,
                        };
                        // Whoever asked may be gone.
                        reply.send(outcome).ok();
                    }
                    () = sleep(next), if ended.is_none() => {
                        ended = round.rest().err().map(|error| error.to_string());
                    }
                }
            }
        };
        std::thread::Builder::new()
            .name("mqtt-courier".into())
            .spawn(move || runtime.block_on(run))
            .map_err(|error| failed(&error))?;
        Ok(Self(sender))
    }

    /// Returns when the broker has the message: whether anybody is subscribed to its topic, as far as the broker says.
    ///
    /// # Errors
    /// When it does not take it, or says nothing for so long.
    pub fn deliver(&self, parcel: Parcel, patience: Duration) -> Result<bool, CourierError> {
        let (reply, answer) = mpsc::sync_channel(1);
        let gone = |_| CourierError::Gone("its thread has ended".into());
        self.0
            .send((parcel, patience, reply))
            .map_err(|_| CourierError::Gone("its thread has ended".into()))?;
        answer.recv().map_err(gone)?
    }
}

/// The connection at work.
struct Round {
    connection: Connection,
    version: Version,
}

impl Round {
    /// Between two messages.
    fn rest(&mut self) -> Result<(), Ended> {
        while let Some(bytes) = self.connection.try_read()? {
            if bytes == 0 {
                return Err(Ended::Closed);
            }
            while let Some(packet) = self.connection.next_packet()? {
                self.take(packet)?;
            }
        }
        self.connection.keep_alive(true)
    }

    /// Publishes a message, and waits for the last answer to it.
    async fn deliver(&mut self, parcel: &Parcel, patience: Duration) -> Result<bool, CourierError> {
        self.publish(parcel);
        let until = Instant::now() + patience;
        let gone = |error: Ended| CourierError::Gone(error.to_string());
        let mut is_heard = true;
        loop {
            let answer = timeout_at(until.into(), self.answer(parcel.qos == 0)).await;
            let answer = answer.map_err(|_| CourierError::Silent {
                topic: parcel.topic.clone(),
                patience,
            })?;
            let Some(answer) = answer.map_err(gone)? else {
                return Ok(true);
            };
            let (Answer::PubAck { code, .. } | Answer::PubRec { code, .. } | Answer::PubComp { code, .. }) =
                answer;
            is_heard &= code != NOBODY;
            match answer {
                _ if code >= 0x80 => {
                    return Err(CourierError::Refused {
                        topic: parcel.topic.clone(),
                        why: refusal(code),
                    });
                }
                Answer::PubRec { id, .. } => pubrel(self.connection.out(), id),
                Answer::PubAck { .. } | Answer::PubComp { .. } => return Ok(is_heard),
            }
        }
    }

    fn publish(&mut self, parcel: &Parcel) {
        let mut properties = BytesMut::new();
        let texts = [
            (Property::ContentType, parcel.content_type.as_deref()),
            (Property::ResponseTopic, parcel.response_topic.as_deref()),
        ];
        for (property, text) in texts {
            if let Some(text) = text {
                put_property(&mut properties, property, text.as_bytes());
            }
        }
        if let Some(data) = &parcel.correlation_data {
            put_property(&mut properties, Property::CorrelationData, data);
        }
        for (name, value) in &parcel.user {
            put_user_property(&mut properties, name.as_bytes(), value);
        }
        let message = Outbound {
            topic: parcel.topic.as_bytes(),
            payload: &parcel.payload,
            properties: &properties,
            expiry_seconds: parcel.expiry_seconds,
            qos: parcel.qos,
            retain: parcel.retain,
        };
        message.write(self.version, ID, false, self.connection.out());
    }

    /// The next answer; with `only_written` nothing, once all is written.
    async fn answer(&mut self, only_written: bool) -> Result<Option<Answer>, Ended> {
        loop {
            self.connection.flush().await?;
            if only_written {
                return Ok(None);
            }
            while let Some(packet) = self.connection.next_packet()? {
                if let Some(answer) = self.take(packet)? {
                    return Ok(Some(answer));
                }
            }
            if self.connection.read().await? == 0 {
                return Err(Ended::Closed);
            }
        }
    }

    fn take(&mut self, packet: Packet) -> Result<Option<Answer>, Ended> {
        match packet {
            Packet::Answer(answer) => Ok(Some(answer)),
            Packet::Inbound(Inbound::PingResp) => {
                self.connection.pong();
                Ok(None)
            }
            Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                Err(Ended::Disconnected { reason, text })
            }
            _ => Ok(None),
        }
    }
}

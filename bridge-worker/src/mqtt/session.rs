//! The handshake: TCP, CONNECT, CONNACK. SUBSCRIBE is written here and answered on the running connection,
//! because a resumed session sends messages before SUBACK.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use millrace_contract::Value;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::Connection;
use super::packet::{ConnAck, Inbound, PacketError, Version};

/// How long connecting, and waiting for CONNACK, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Unsupported protocol version, in MQTT 5's codes.
const UNSUPPORTED_VERSION: u8 = 0x84;

/// What a lane asks of its broker.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    /// Host and port, tried in order.
    pub(crate) addresses: Vec<(String, u16)>,
    pub(crate) client_id: String,
    /// User name and password.
    pub(crate) credentials: Option<(Value, Value)>,
    pub(crate) session_expiry_seconds: u32,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) receive_maximum: u16,
    /// What is subscribed to, as sent: with `$share/...` when shared.
    pub(crate) filters: Vec<String>,
    pub(crate) shared: bool,
    /// Share subscriptions even if the broker says it cannot.
    pub(crate) assume_shared: bool,
    pub(crate) qos: u8,
    /// Largest payload held in memory, in bytes.
    pub(crate) max_message_bytes: usize,
}

/// What the broker granted in CONNACK.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    pub(crate) version: Version,
    pub(crate) session_present: bool,
    /// `None`: as asked, or not said (3.1.1).
    pub(crate) session_expiry_seconds: Option<u32>,
    pub(crate) maximum_qos: u8,
    pub(crate) shared_subscriptions: bool,
    pub(crate) keep_alive: Duration,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect to {address}: {source}")]
    Unreachable { address: String, source: io::Error },
    #[error("{address} does not answer: no CONNACK within {} s", TIMEOUT.as_secs())]
    Silent { address: String },
    #[error("{address} closed the connection instead of answering CONNECT")]
    Closed { address: String },
    #[error("{address} refused the connection: {reason} ({code:#04x})")]
    Refused {
        address: String,
        code: u8,
        reason: String,
    },
    #[error("{address} is no MQTT broker, or breaks the protocol: {source}")]
    Protocol { address: String, source: PacketError },
    #[error("cannot read the credentials: {place}: {source}")]
    Credentials { place: String, source: io::Error },
}

impl ConnectError {
    /// Whether the broker may speak another version of MQTT. A closed socket says so only as long as version 5
    /// has never worked: later it is just a closed socket.
    pub(crate) fn suggests_other_version(&self, v5_has_worked: bool) -> bool {
        match self {
            Self::Refused { code, .. } => *code == UNSUPPORTED_VERSION,
            Self::Closed { .. } | Self::Protocol { .. } => !v5_has_worked,
            _ => false,
        }
    }

    /// Whether the broker answered, and said no.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

/// Connects to the first address that accepts, in the given version of MQTT.
pub(crate) async fn connect(
    options: &SessionOptions,
    version: Version,
) -> Result<(Connection, Granted), ConnectError> {
    let login = match &options.credentials {
        None => None,
        Some((username, password)) => Some((read(username)?, read(password)?)),
    };
    let mut last = None;
    for (host, port) in &options.addresses {
        let address = format!("{host}:{port}");
        match connect_to(options, version, login.as_ref(), host, *port, &address).await {
            Err(error @ (ConnectError::Unreachable { .. } | ConnectError::Silent { .. })) => {
                last = Some(error)
            }
            other => return other,
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::Unreachable {
        address: "(none)".into(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "no url given"),
    }))
}

async fn connect_to(
    options: &SessionOptions,
    version: Version,
    login: Option<&(String, String)>,
    host: &str,
    port: u16,
    address: &str,
) -> Result<(Connection, Granted), ConnectError> {
    let address = || address.to_owned();
    let unreachable = |source| ConnectError::Unreachable {
        address: address(),
        source,
    };
    let stream = timeout(TIMEOUT, TcpStream::connect((host, port)))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s")))
        .map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let mut connection = Connection::new(stream, version, options.max_message_bytes);
    write_connect(options, version, login, connection.out());
    let handshake = async {
        loop {
            connection.flush().await?;
            if let Some(packet) = connection.next_packet()? {
                return Ok::<_, Handshake>(packet);
            }
            if connection.read().await? == 0 {
                return Err(Handshake::Closed);
            }
        }
    };
    let packet = timeout(TIMEOUT, handshake)
        .await
        .map_err(|_| ConnectError::Silent { address: address() })?
        .map_err(|error| match error {
            Handshake::Closed | Handshake::Io(_) => ConnectError::Closed { address: address() },
            Handshake::Packet(source) => ConnectError::Protocol {
                address: address(),
                source,
            },
        })?;
    let super::connection::Packet::Inbound(Inbound::ConnAck(ack)) = packet else {
        return Err(ConnectError::Protocol {
            address: address(),
            source: PacketError::NoConnAck,
        });
    };
    if ack.code != 0 {
        return Err(ConnectError::Refused {
            address: address(),
            code: ack.code,
            reason: ack.reason,
        });
    }
    let granted = granted(options, version, &ack);
    write_subscribe(options, version, connection.out());
    connection.set_keep_alive(granted.keep_alive);
    Ok((connection, granted))
}

/// Why the handshake ended early.
#[derive(Debug, Error)]
enum Handshake {
    #[error("closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Packet(#[from] PacketError),
}

fn granted(options: &SessionOptions, version: Version, ack: &ConnAck) -> Granted {
    let keep_alive = ack.keep_alive_seconds.unwrap_or(options.keep_alive_seconds);
    Granted {
        version,
        session_present: ack.session_present,
        session_expiry_seconds: ack.session_expiry_seconds,
        maximum_qos: ack.maximum_qos.unwrap_or(2),
        shared_subscriptions: ack.shared_subscriptions.unwrap_or(true),
        keep_alive: Duration::from_secs(keep_alive.into()),
    }
}

fn read(value: &Value) -> Result<String, ConnectError> {
    let from_file = |path: &PathBuf| {
        std::fs::read_to_string(path)
            .map(|text| text.trim_end_matches(['\r', '\n']).to_owned())
            .map_err(|source| ConnectError::Credentials {
                place: format!("file {}", path.display()),
                source,
            })
    };
    match value {
        Value::Literal(text) => Ok(text.clone()),
        Value::File(path) => from_file(path),
        Value::Env(name) => std::env::var(name).map_err(|error| ConnectError::Credentials {
            place: format!("environment variable {name}"),
            source: io::Error::new(io::ErrorKind::NotFound, error),
        }),
    }
}

/// Clean start is false, always: the session is what makes a crash lose nothing.
fn write_connect(
    options: &SessionOptions,
    version: Version,
    login: Option<&(String, String)>,
    out: &mut BytesMut,
) {
    let written = match version {
        Version::V5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(options.session_expiry_seconds);
            properties.receive_maximum = Some(options.receive_maximum);
            properties.topic_alias_max = Some(0);
            let connect = v5::Connect {
                keep_alive: options.keep_alive_seconds,
                client_id: options.client_id.clone(),
                clean_start: false,
                properties: Some(properties),
            };
            let login = login.map(|(username, password)| v5::Login {
                username: username.clone(),
                password: password.clone(),
            });
            connect
                .write(&None, &login, out)
                .map_err(|error| error.to_string())
        }
        Version::V311 => {
            let mut connect = v4::Connect::new(options.client_id.clone());
            connect.keep_alive = options.keep_alive_seconds;
            connect.clean_session = false;
            if let Some((username, password)) = login {
                connect.set_login(username, password);
            }
            connect.write(out).map_err(|error| error.to_string())
        }
    };
    debug_assert!(written.is_ok(), "a CONNECT is never too large");
}

/// The packet identifier of SUBSCRIBE, the only packet with one that the worker starts.
pub(crate) const SUBSCRIBE_ID: u16 = 1;

/// Everything, on every connect: mosquitto forgets shared subscriptions over a restart, and a connection cut
/// before SUBACK looks no different. Retained messages come once: Retain Handling 2 for shared subscriptions,
/// where every lane would get them, 1 for others.
fn write_subscribe(options: &SessionOptions, version: Version, out: &mut BytesMut) {
    let written = match version {
        Version::V5 => {
            use rumqttc::v5::mqttbytes::qos;
            let filters = options.filters.iter().map(|path| v5::Filter {
                path: path.clone(),
                qos: qos(options.qos).unwrap_or(rumqttc::v5::mqttbytes::QoS::AtLeastOnce),
                nolocal: false,
                preserve_retain: true,
                retain_forward_rule: if options.shared {
                    v5::RetainForwardRule::Never
                } else {
                    v5::RetainForwardRule::OnNewSubscribe
                },
            });
            let mut subscribe = v5::Subscribe::new_many(filters, None);
            subscribe.pkid = SUBSCRIBE_ID;
            subscribe.write(out).map_err(|error| error.to_string())
        }
        Version::V311 => {
            use rumqttc::mqttbytes::{QoS, qos};
            let filters = options.filters.iter().map(|path| v4::SubscribeFilter {
                path: path.clone(),
                qos: qos(options.qos).unwrap_or(QoS::AtLeastOnce),
            });
            let mut subscribe = v4::Subscribe::new_many(filters);
            subscribe.pkid = SUBSCRIBE_ID;
            subscribe.write(out).map_err(|error| error.to_string())
        }
    };
    debug_assert!(written.is_ok(), "a SUBSCRIBE is never too large");
}

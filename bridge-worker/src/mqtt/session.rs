//! The handshake: TCP and what is on it, CONNECT, CONNACK.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use millrace_contract::status::Reason;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use rustls::pki_types::ServerName;
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::access::{Access, Login};
use super::connection::Connection;
use super::packet::{ConnAck, Inbound, PacketError, Version};
use super::transport::{Transport, explain_websocket};
use crate::certificates::{CertificatesError, Peer, Validity, explain};
use crate::config::Address;
use crate::random;
use crate::value::Unreadable;

/// How long connecting, and waiting for CONNACK, may take.
const TIMEOUT: Duration = Duration::from_secs(10);

const BROKER: Peer = Peer {
    who: "the broker",
    kind: "MqttBroker",
    addresses: "spec.urls",
    tls: "spec.tls",
    other_name: "set spec.tls.serverName to one",
};

/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;

/// Unsupported protocol version, in MQTT 5's codes.
const UNSUPPORTED_VERSION: u8 = 0x84;

/// Bad user name or password, in MQTT 5's codes.
const BAD_LOGIN: u8 = 0x86;

/// Not authorized, in MQTT 5's codes. Some brokers answer it for a wrong password too.
const NOT_AUTHORIZED: u8 = 0x87;

/// What a client asks of its broker in CONNECT.
#[derive(Clone, Debug)]
pub(crate) struct SessionOptions {
    /// Tried in order, each time from the first.
    pub(crate) addresses: Vec<Address>,
    /// The name that certificates must have. Absent: the address' host.
    pub(crate) server_name: Option<String>,
    pub(crate) client_id: String,
    /// Whether what the broker may hold for this client id is thrown away. Never for a lane: the session is what makes
    /// a crash lose nothing.
    pub(crate) clean_start: bool,
    pub(crate) session_expiry_seconds: u32,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) receive_maximum: u16,
    /// Largest payload held in memory, in bytes.
    pub(crate) max_message_bytes: usize,
}

impl SessionOptions {
    /// For a connection that only shows whether one can be made: with a client id of its own, and nothing stays of it.
    pub(crate) fn for_trial(&self) -> Self {
        Self {
            client_id: format!("{}-try-{}", self.client_id, random::word()),
            clean_start: true,
            session_expiry_seconds: 0,
            ..self.clone()
        }
    }
}

/// What the broker granted in CONNACK.
#[derive(Clone, Debug)]
pub(crate) struct Granted {
    /// Which of the addresses it is, from 0, and as it is written.
    pub(crate) place: usize,
    pub(crate) address: String,
    pub(crate) version: Version,
    /// From CONNECT to CONNACK.
    pub(crate) round_trip: Duration,
    pub(crate) session_present: bool,
    /// `None`: as asked, or not said (3.1.1).
    pub(crate) session_expiry_seconds: Option<u32>,
    pub(crate) maximum_qos: u8,
    pub(crate) shared_subscriptions: bool,
    pub(crate) retain_available: bool,
    pub(crate) keep_alive: Duration,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_packet_bytes: Option<u32>,
    /// The certificate that the broker has shown, if TLS is spoken.
    pub(crate) certificate: Option<Validity>,
}

/// Why there is no connection.
#[derive(Debug, Error)]
pub(crate) enum ConnectError {
    #[error(
        "cannot resolve the host name of {address}: {source}; check the MqttBroker's spec.urls and the name service (DNS)"
    )]
    Unresolved { address: String, source: io::Error },
    #[error(
        "cannot connect to {address}: {source}; check the MqttBroker's spec.urls, the port, and the network in between"
    )]
    Unreachable { address: String, source: io::Error },
    #[error("no TLS with {address}: {why}")]
    Tls { address: String, why: String },
    #[error("{address} does not speak WebSocket: {why}")]
    WebSocket { address: String, why: String },
    #[error(
        "{address} does not answer: no CONNACK within {} s; check that an MQTT broker listens there, {how}",
        TIMEOUT.as_secs()
    )]
    Silent { address: String, how: Layers },
    #[error(
        "{address} closed the connection instead of answering CONNECT; check that an MQTT broker listens there, {how}"
    )]
    Closed { address: String, how: Layers },
    #[error("{address} refused the connection: {reason} ({code:#04x}); {}", advice(*.code))]
    Refused {
        address: String,
        code: u8,
        reason: String,
    },
    #[error(
        "{address} is no MQTT broker, or breaks the protocol: {source}; check host and port in the MqttBroker's spec.urls"
    )]
    Protocol { address: String, source: PacketError },
    #[error(
        "cannot read the credentials: {0}; check the Secret that the MqttBroker's spec.auth names, and its keys"
    )]
    Credentials(Unreadable),
    #[error("MqttBroker: {0}")]
    Certificates(#[from] CertificatesError),
}

/// What is between MQTT and TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layers {
    has_tls: bool,
    has_websocket: bool,
    shows_certificate: bool,
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.has_tls, self.has_websocket) {
            (false, false) => "without TLS",
            (false, true) => "in WebSockets without TLS",
            (true, false) => "with TLS",
            (true, true) => "in WebSockets with TLS",
        })?;
        match (self.has_tls, self.shows_certificate) {
            (true, false) => f.write_str(", and that it wants no client certificate"),
            (true, true) => f.write_str(", and that it takes the client certificate"),
            (false, _) => Ok(()),
        }
    }
}

/// What to do about a CONNECT that was refused with this code.
fn advice(code: u8) -> &'static str {
    match code {
        BAD_LOGIN => "check the MqttBroker's spec.auth, the keys of its Secret, and the user at the broker",
        NOT_AUTHORIZED => {
            "check the MqttBroker's spec.auth and the broker's access rules: some brokers say this of a wrong password \
             too"
        }
        UNSUPPORTED_VERSION => {
            "set the MqttBroker's spec.protocolVersion to Auto, or to the version the broker speaks"
        }
        0x85 => {
            "check the broker's rules for client ids, or create an MqttBroker with another spec.session.clientIdPrefix"
        }
        0x88 | 0x89 | 0x97 | 0x9F => "it is tried again",
        _ => "see the broker's log",
    }
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

    /// Whether something answered there.
    fn is_answer(&self) -> bool {
        !matches!(
            self,
            Self::Unresolved { .. } | Self::Unreachable { .. } | Self::Silent { .. }
        )
    }

    /// Whether the broker answered, and said no, or is not to be trusted: with another access it may be otherwise.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Tls { .. } | Self::Certificates(_)
        )
    }

    /// The word for it in status.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } => Reason::BrokerRefused,
            Self::Tls { .. } | Self::Certificates(_) => Reason::BrokerTlsFailed,
            _ => Reason::BrokerUnreachable,
        }
    }
}

/// Connects to the first address that lets this client in, in the given version of MQTT. The error is what the first
/// said that has answered at all.
pub(crate) async fn connect(
    options: &SessionOptions,
    access: &Access,
    version: Version,
) -> Result<(Connection, Granted), ConnectError> {
    let mut told: Option<ConnectError> = None;
    for (place, address) in options.addresses.iter().enumerate() {
        match connect_to(options, version, access, address).await {
            Ok((connection, granted)) => return Ok((connection, Granted { place, ..granted })),
            Err(error) => told = told.filter(ConnectError::is_answer).or(Some(error)),
        }
    }
    Err(told.unwrap_or_else(|| ConnectError::Unreachable {
        address: "(none)".into(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "no url given"),
    }))
}

async fn connect_to(
    options: &SessionOptions,
    version: Version,
    access: &Access,
    to: &Address,
) -> Result<(Connection, Granted), ConnectError> {
    let address = || to.to_string();
    let how = Layers {
        has_tls: to.has_tls,
        has_websocket: to.path.is_some(),
        shows_certificate: access.shows_certificate(),
    };
    let transport = open(options, access, to).await?;
    let certificate = transport.server();
    let mut connection = Connection::new(transport, version, options.max_message_bytes);
    write_connect(options, version, access.login(), connection.out());
    let handshake = async {
        loop {
            connection.flush().await?;
            if let Some(packet) = connection.next_packet()? {
                return Ok::<_, Handshake>(packet);
            }
            if connection.read().await? == 0 {
                return Err(Handshake::Closed);
            }
            // What begins otherwise may never be complete: it is no MQTT.
            if !connection.begins_with(CONNACK) {
                return Err(PacketError::NoConnAck.into());
            }
        }
    };
    let asked = Instant::now();
    let packet = timeout(TIMEOUT, handshake)
        .await
        .map_err(|_| ConnectError::Silent {
            address: address(),
            how,
        })?
        .map_err(|error| match error {
            // With TLS 1.3 a server says only now what it thinks of the certificate.
            Handshake::Io(error) if let Some(why) = explain(&error, how.shows_certificate, &BROKER) => {
                ConnectError::Tls {
                    address: address(),
                    why,
                }
            }
            Handshake::Closed | Handshake::Io(_) => ConnectError::Closed {
                address: address(),
                how,
            },
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
    let granted = Granted {
        address: address(),
        certificate,
        ..granted(options, version, asked.elapsed(), &ack)
    };
    connection.set_keep_alive(granted.keep_alive);
    Ok((connection, granted))
}

/// The certificate that a broker shows now, whoever connects.
pub(crate) async fn shown_certificate(options: &SessionOptions, access: &Access) -> Option<Validity> {
    for address in options.addresses.iter().filter(|address| address.has_tls) {
        let bare = Address {
            path: None,
            ..address.clone()
        };
        if let Ok(transport) = open(options, access, &bare).await {
            return transport.server();
        }
    }
    None
}

/// Connects, in all layers below MQTT.
async fn open(options: &SessionOptions, access: &Access, to: &Address) -> Result<Transport, ConnectError> {
    let address = || to.to_string();
    let unreachable = |source| ConnectError::Unreachable {
        address: address(),
        source,
    };
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
    let found: Vec<SocketAddr> = timeout(TIMEOUT, lookup_host((to.host.as_str(), to.port)))
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(|source| ConnectError::Unresolved {
            address: address(),
            source,
        })?
        .collect();
    let socket = timeout(TIMEOUT, TcpStream::connect(&found[..]))
        .await
        .unwrap_or_else(|_| Err(late()))
        .map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    let transport = match access.tls().filter(|_| to.has_tls) {
        None => Transport::tcp(socket),
        Some(tls) => {
            let no_tls = |why: String| ConnectError::Tls {
                address: address(),
                why,
            };
            let name = options.server_name.as_ref().unwrap_or(&to.host).clone();
            let name = ServerName::try_from(name)
                .map_err(|_| no_tls("spec.tls.serverName is no name of a host; correct it".into()))?;
            let shaken = timeout(TIMEOUT, Transport::tls(socket, Arc::clone(tls), name)).await;
            let shows = access.shows_certificate();
            shaken.unwrap_or_else(|_| Err(late())).map_err(|error| {
                no_tls(explain(&error, shows, &BROKER).unwrap_or_else(|| {
                    format!("{error} in the handshake; check that its listener speaks TLS, and its log")
                }))
            })?
        }
    };
    let Some(path) = &to.path else {
        return Ok(transport);
    };
    let no_websocket = |why| ConnectError::WebSocket {
        address: address(),
        why,
    };
    match timeout(TIMEOUT, transport.into_websocket(&address(), path)).await {
        Ok(shaken) => shaken.map_err(|error| no_websocket(explain_websocket(&error))),
        Err(_) => Err(no_websocket(format!(
            "{}; use the port of its WebSocket listener",
            late()
        ))),
    }
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

fn granted(options: &SessionOptions, version: Version, round_trip: Duration, ack: &ConnAck) -> Granted {
    let keep_alive = ack.keep_alive_seconds.unwrap_or(options.keep_alive_seconds);
    Granted {
        place: 0,
        address: String::new(),
        version,
        round_trip,
        session_present: ack.session_present,
        session_expiry_seconds: ack.session_expiry_seconds,
        maximum_qos: ack.maximum_qos.unwrap_or(2),
        shared_subscriptions: ack.shared_subscriptions.unwrap_or(true),
        retain_available: ack.retain_available.unwrap_or(true),
        keep_alive: Duration::from_secs(keep_alive.into()),
        receive_maximum: ack.receive_maximum,
        maximum_packet_bytes: ack.maximum_packet_bytes,
        certificate: None,
    }
}

fn write_connect(options: &SessionOptions, version: Version, login: Option<&Login>, out: &mut BytesMut) {
    let written = match version {
        Version::V5 => {
            let mut properties = v5::ConnectProperties::new();
            properties.session_expiry_interval = Some(options.session_expiry_seconds);
            properties.receive_maximum = Some(options.receive_maximum);
            properties.topic_alias_max = Some(0);
            let connect = v5::Connect {
                keep_alive: options.keep_alive_seconds,
                client_id: options.client_id.clone(),
                clean_start: options.clean_start,
                properties: Some(properties),
            };
            let login = login.map(|login| v5::Login {
                username: login.username.clone(),
                password: login.password.clone(),
            });
            connect
                .write(&None, &login, out)
                .map_err(|error| error.to_string())
        }
        Version::V311 => {
            let mut connect = v4::Connect::new(options.client_id.clone());
            connect.keep_alive = options.keep_alive_seconds;
            connect.clean_session = options.clean_start;
            if let Some(login) = login {
                connect.set_login(&login.username, &login.password);
            }
            connect.write(out).map_err(|error| error.to_string())
        }
    };
    debug_assert!(written.is_ok(), "a CONNECT is never too large");
}

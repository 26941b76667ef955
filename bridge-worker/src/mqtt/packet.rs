//! Packets as the worker sees them, and their translation from and to rumqttc's codecs for MQTT 5 and 3.1.1.

use bytes::{Bytes, BytesMut};
use millrace_contract::ProtocolVersion;
use millrace_mapping::Properties;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;
use thiserror::Error;

use crate::pipeline::Ack;

/// The version of MQTT a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V5,
    V311,
}

/// What a DISCONNECT says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goodbye {
    /// The session stays.
    Keep,
    /// The broker broke a rule; the session stays.
    ProtocolError,
    /// The session ends. Only MQTT 5 can say so: to one of 3.1.1 this is [`Goodbye::Keep`].
    End,
}

/// A packet from the broker.
#[derive(Debug)]
pub(crate) enum Inbound {
    ConnAck(Box<ConnAck>),
    SubAck {
        id: u16,
        granted: Vec<Grant>,
    },
    Publish(Publish),
    PubRel {
        id: u16,
    },
    PingResp,
    UnsubAck {
        id: u16,
    },
    /// MQTT 5: the broker ends the connection.
    Disconnect {
        reason: u8,
        text: Option<String>,
    },
}

/// The answer to CONNECT.
#[derive(Debug, Default)]
pub(crate) struct ConnAck {
    /// 0: accepted.
    pub(crate) code: u8,
    /// The code in words.
    pub(crate) reason: String,
    pub(crate) session_present: bool,
    pub(crate) session_expiry_seconds: Option<u32>,
    pub(crate) maximum_qos: Option<u8>,
    pub(crate) shared_subscriptions: Option<bool>,
    pub(crate) retain_available: Option<bool>,
    pub(crate) keep_alive_seconds: Option<u16>,
    pub(crate) receive_maximum: Option<u16>,
    pub(crate) maximum_packet_bytes: Option<u32>,
}

/// What the broker grants for a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    Qos(u8),
    Refused(&'static str),
    SharedUnsupported,
}

/// An application message.
#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) id: u16,
    pub(crate) ack: Ack,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) topic: Bytes,
    pub(crate) payload: Bytes,
    pub(crate) properties: Option<Properties>,
}

/// What the broker sent is not MQTT, or not what it may send here.
#[derive(Debug, Error)]
pub(crate) enum PacketError {
    #[error("malformed packet: {0}")]
    V5(#[from] rumqttc::v5::mqttbytes::Error),
    #[error("malformed packet: {0}")]
    V311(#[from] rumqttc::mqttbytes::Error),
    #[error("a broker may not send a packet of type {0}")]
    Unexpected(u8),
    #[error("topic alias {0}, although none is allowed on this connection (Topic Alias Maximum 0)")]
    TopicAlias(u16),
    #[error("a topic that is empty or not UTF-8")]
    Topic,
    #[error("a PUBLISH that is shorter than its own topic")]
    HeaderTooLarge,
    #[error("a packet of {0} bytes that is no PUBLISH")]
    TooLarge(usize),
    #[error("something else than CONNACK in answer to CONNECT")]
    NoConnAck,
    #[error("a SUBACK with {0} reason codes, not one for each filter")]
    SubAckCodes(usize),
    #[error("a remaining length of more than four bytes")]
    RemainingLength,
}

impl Version {
    /// The one to begin with.
    pub(crate) fn first(protocol: ProtocolVersion) -> Self {
        match protocol {
            ProtocolVersion::Auto | ProtocolVersion::V5 => Self::V5,
            ProtocolVersion::V311 => Self::V311,
        }
    }

    /// Its name in status and reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }

    /// Takes the next packet, which must be complete, out of `buffer`.
    pub(crate) fn decode(self, buffer: &mut BytesMut) -> Result<Inbound, PacketError> {
        match (
            self,
            buffer.first().copied().unwrap_or_default() >> 4,
            buffer.get(1).copied(),
        ) {
            // rumqttc's codec for MQTT 5 does not know a DISCONNECT without reason code, which is a normal one.
            (Self::V5, 14, Some(0)) => {
                drop(buffer.split_to(2));
                Ok(Inbound::Disconnect {
                    reason: 0,
                    text: None,
                })
            }
            // A 3.1.1 broker answers a CONNECT of MQTT 5 in its own format.
            (Self::V311, ..) | (Self::V5, 2, Some(2)) => from_v311(v4::Packet::read(buffer, usize::MAX)?),
            (Self::V5, ..) => from_v5(v5::Packet::read(buffer, None)?),
        }
    }

    /// Appends PINGREQ.
    pub(crate) fn ping(self, out: &mut BytesMut) {
        out.extend_from_slice(&[0xC0, 0]);
    }

    /// Appends a DISCONNECT.
    pub(crate) fn disconnect(self, out: &mut BytesMut, goodbye: Goodbye) {
        match (self, goodbye) {
            (Self::V311, _) | (Self::V5, Goodbye::Keep) => out.extend_from_slice(&[0xE0, 0]),
            (Self::V5, Goodbye::ProtocolError) => out.extend_from_slice(&[0xE0, 1, 0x82]),
            // Reason 0, and a Session Expiry Interval (0x11) of 0 [MQTT-3.14.2.2.2].
            (Self::V5, Goodbye::End) => out.extend_from_slice(&[0xE0, 7, 0, 5, 0x11, 0, 0, 0, 0]),
        }
    }
}

/// Appends PUBACK or PUBREC: with reason 0 both versions write it alike.
pub(crate) fn ack(out: &mut BytesMut, ack: Ack, id: u16) {
    let kind = match ack {
        Ack::None => return,
        Ack::PubAck => 0x40,
        Ack::PubRec => 0x50,
    };
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[kind, 2, high, low]);
}

/// Appends PUBCOMP.
pub(crate) fn pubcomp(out: &mut BytesMut, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x70, 2, high, low]);
}

fn from_v5(packet: v5::Packet) -> Result<Inbound, PacketError> {
    use rumqttc::v5::mqttbytes::QoS;
    Ok(match packet {
        v5::Packet::Publish(publish) => {
            let ack = match publish.qos {
                QoS::AtMostOnce => Ack::None,
                QoS::AtLeastOnce => Ack::PubAck,
                QoS::ExactlyOnce => Ack::PubRec,
            };
            if let Some(alias) = publish
                .properties
                .as_ref()
                .and_then(|properties| properties.topic_alias)
            {
                return Err(PacketError::TopicAlias(alias));
            }
            Inbound::Publish(Publish {
                id: publish.pkid,
                ack,
                dup: publish.dup,
                retain: publish.retain,
                topic: publish.topic,
                payload: publish.payload,
                properties: publish.properties.map(properties),
            })
        }
        v5::Packet::PubRel(pubrel) => Inbound::PubRel { id: pubrel.pkid },
        v5::Packet::PingResp(_) => Inbound::PingResp,
        v5::Packet::ConnAck(ack) => Inbound::ConnAck(Box::new(connack_v5(ack))),
        v5::Packet::SubAck(ack) => Inbound::SubAck {
            id: ack.pkid,
            granted: ack.return_codes.into_iter().map(grant_v5).collect(),
        },
        v5::Packet::Disconnect(disconnect) => Inbound::Disconnect {
            reason: disconnect.reason_code as u8,
            text: disconnect
                .properties
                .and_then(|properties| properties.reason_string),
        },
        v5::Packet::UnsubAck(ack) => Inbound::UnsubAck { id: ack.pkid },
        v5::Packet::Connect(..) => return Err(PacketError::Unexpected(1)),
        v5::Packet::PubAck(_) => return Err(PacketError::Unexpected(4)),
        v5::Packet::PubRec(_) => return Err(PacketError::Unexpected(5)),
        v5::Packet::PubComp(_) => return Err(PacketError::Unexpected(7)),
        v5::Packet::Subscribe(_) => return Err(PacketError::Unexpected(8)),
        v5::Packet::Unsubscribe(_) => return Err(PacketError::Unexpected(10)),
        v5::Packet::PingReq(_) => return Err(PacketError::Unexpected(12)),
        v5::Packet::Auth(_) => return Err(PacketError::Unexpected(15)),
    })
}

fn from_v311(packet: v4::Packet) -> Result<Inbound, PacketError> {
    use rumqttc::mqttbytes::QoS;
    Ok(match packet {
        v4::Packet::Publish(publish) => Inbound::Publish(Publish {
            id: publish.pkid,
            ack: match publish.qos {
                QoS::AtMostOnce => Ack::None,
                QoS::AtLeastOnce => Ack::PubAck,
                QoS::ExactlyOnce => Ack::PubRec,
            },
            dup: publish.dup,
            retain: publish.retain,
            topic: Bytes::from(publish.topic),
            payload: publish.payload,
            properties: None,
        }),
        v4::Packet::PubRel(pubrel) => Inbound::PubRel { id: pubrel.pkid },
        v4::Packet::PingResp => Inbound::PingResp,
        v4::Packet::ConnAck(ack) => Inbound::ConnAck(Box::new(connack_v311(ack))),
        v4::Packet::SubAck(ack) => Inbound::SubAck {
            id: ack.pkid,
            granted: ack
                .return_codes
                .into_iter()
                .map(|code| match code {
                    v4::SubscribeReasonCode::Success(qos) => Grant::Qos(qos as u8),
                    v4::SubscribeReasonCode::Failure => Grant::Refused("failure (0x80)"),
                })
                .collect(),
        },
        v4::Packet::UnsubAck(ack) => Inbound::UnsubAck { id: ack.pkid },
        v4::Packet::Connect(_) => return Err(PacketError::Unexpected(1)),
        v4::Packet::PubAck(_) => return Err(PacketError::Unexpected(4)),
        v4::Packet::PubRec(_) => return Err(PacketError::Unexpected(5)),
        v4::Packet::PubComp(_) => return Err(PacketError::Unexpected(7)),
        v4::Packet::Subscribe(_) => return Err(PacketError::Unexpected(8)),
        v4::Packet::Unsubscribe(_) => return Err(PacketError::Unexpected(10)),
        v4::Packet::PingReq => return Err(PacketError::Unexpected(12)),
        v4::Packet::Disconnect => return Err(PacketError::Unexpected(14)),
    })
}

fn properties(properties: v5::PublishProperties) -> Properties {
    Properties {
        content_type: properties.content_type,
        response_topic: properties.response_topic,
        correlation_data: properties.correlation_data,
        user: properties.user_properties,
    }
}

fn connack_v5(ack: v5::ConnAck) -> ConnAck {
    use v5::ConnectReturnCode as Code;
    let (code, reason) = match ack.code {
        Code::Success => (0x00, "accepted"),
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            (0x84, "unsupported protocol version")
        }
        Code::BadClientId | Code::ClientIdentifierNotValid => (0x85, "client identifier not valid"),
        Code::BadUserNamePassword => (0x86, "bad user name or password"),
        Code::NotAuthorized => (0x87, "not authorized"),
        Code::ServiceUnavailable | Code::ServerUnavailable => (0x88, "server unavailable"),
        Code::ServerBusy => (0x89, "server busy"),
        Code::Banned => (0x8A, "banned"),
        Code::QuotaExceeded => (0x97, "quota exceeded"),
        Code::UseAnotherServer => (0x9C, "use another server"),
        Code::ServerMoved => (0x9D, "server moved"),
        Code::ConnectionRateExceeded => (0x9F, "connection rate exceeded"),
        Code::BadAuthenticationMethod => (0x8C, "bad authentication method"),
        Code::PacketTooLarge => (0x95, "packet too large"),
        Code::ProtocolError => (0x82, "protocol error"),
        Code::MalformedPacket => (0x81, "malformed packet"),
        Code::ImplementationSpecificError => (0x83, "implementation specific error"),
        Code::UnspecifiedError
        | Code::TopicNameInvalid
        | Code::PayloadFormatInvalid
        | Code::RetainNotSupported
        | Code::QoSNotSupported => (0x80, "unspecified error"),
    };
    let given = ack.properties;
    let text = given
        .as_ref()
        .and_then(|properties| properties.reason_string.clone());
    ConnAck {
        code,
        reason: text.map_or_else(|| reason.to_owned(), |text| format!("{reason}: {text}")),
        session_present: ack.session_present,
        session_expiry_seconds: given
            .as_ref()
            .and_then(|properties| properties.session_expiry_interval),
        maximum_qos: given.as_ref().and_then(|properties| properties.max_qos),
        shared_subscriptions: given
            .as_ref()
            .and_then(|properties| properties.shared_subscription_available)
            .map(|available| available != 0),
        retain_available: given
            .as_ref()
            .and_then(|properties| properties.retain_available)
            .map(|available| available != 0),
        keep_alive_seconds: given.as_ref().and_then(|properties| properties.server_keep_alive),
        receive_maximum: given.as_ref().and_then(|properties| properties.receive_max),
        maximum_packet_bytes: given.as_ref().and_then(|properties| properties.max_packet_size),
    }
}

fn connack_v311(ack: v4::ConnAck) -> ConnAck {
    use v4::ConnectReturnCode as Code;
    // Told in the codes of MQTT 5, so that one place judges both.
    let (code, reason) = match ack.code {
        Code::Success => (0x00, "accepted"),
        Code::RefusedProtocolVersion => (0x84, "unsupported protocol version"),
        Code::BadClientId => (0x85, "client identifier not valid"),
        Code::ServiceUnavailable => (0x88, "server unavailable"),
        Code::BadUserNamePassword => (0x86, "bad user name or password"),
        Code::NotAuthorized => (0x87, "not authorized"),
    };
    ConnAck {
        code,
        reason: reason.to_owned(),
        session_present: ack.session_present,
        ..ConnAck::default()
    }
}

fn grant_v5(code: v5::SubscribeReasonCode) -> Grant {
    use v5::SubscribeReasonCode as Code;
    match code {
        Code::Success(qos) => Grant::Qos(qos as u8),
        Code::SharedSubscriptionsNotSupported => Grant::SharedUnsupported,
        Code::NotAuthorized => Grant::Refused("not authorized (0x87)"),
        Code::TopicFilterInvalid => Grant::Refused("topic filter invalid (0x8F)"),
        Code::QuotaExceeded => Grant::Refused("quota exceeded (0x97)"),
        Code::WildcardSubscriptionsNotSupported => Grant::Refused("wildcards not supported (0xA2)"),
        Code::Failure | Code::Unspecified => Grant::Refused("unspecified error (0x80)"),
        Code::ImplementationSpecific => Grant::Refused("implementation specific error (0x83)"),
        Code::PkidInUse => Grant::Refused("packet identifier in use (0x91)"),
        Code::SubscriptionIdNotSupported => Grant::Refused("subscription identifiers not supported (0xA1)"),
    }
}

//! What an MQTT broker can do: CONNECT, a SUBSCRIBE of each kind, UNSUBSCRIBE, DISCONNECT. Nothing of it stays.

use std::time::Instant;

use millrace_contract::SharedSubscriptions;
use millrace_contract::probe::{BrokerFound, BrokerRequest, Failure};
use millrace_contract::status::Reason;
use tokio::time::timeout_at;

use crate::config;
use crate::mqtt::{
    Access, ConnectError, Connection, Ended, Goodbye, Grant, Granted, Inbound, Packet, SessionOptions,
    Version, Wanted, negotiate, write_subscribe, write_unsubscribe,
};
use crate::random;

/// Packet identifiers: the two SUBSCRIBEs, then UNSUBSCRIBE.
const PLAIN: u16 = 1;
const SHARED: u16 = 2;
const UNSUBSCRIBE: u16 = 3;

/// No message is meant for the probe; one that comes all the same is not held.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Asks a broker until `deadline`.
pub(super) async fn ask(request: &BrokerRequest, deadline: Instant) -> Result<BrokerFound, Failure> {
    let started = Instant::now();
    timeout_at(deadline.into(), try_all(request))
        .await
        .unwrap_or_else(|_| {
            Err(Failure {
                reason: Reason::BrokerUnreachable,
                message: format!(
                    "{} did not answer within {} s; check the MqttBroker's spec.urls, the port, and the network in between",
                    request.broker.urls.join(", "),
                    (deadline - started).as_secs_f64().round()
                ),
            })
        })
}

async fn try_all(request: &BrokerRequest) -> Result<BrokerFound, Failure> {
    let broker = &request.broker;
    let access = Access::read(broker).map_err(refused)?;
    let options = SessionOptions {
        addresses: config::addresses(broker).map_err(|error| Failure {
            reason: Reason::BrokerUnreachable,
            message: error.to_string(),
        })?,
        server_name: config::server_name(broker),
        client_id: format!("{}-probe-{}", broker.client_id_prefix, random::word()),
        clean_start: true,
        session_expiry_seconds: broker.session_expiry_seconds,
        keep_alive_seconds: broker.keep_alive_seconds,
        receive_maximum: broker.receive_maximum,
        max_message_bytes: MAX_MESSAGE_BYTES,
    };
    let outcome = negotiate(&options, &access, broker.protocol_version).await;
    let (connection, granted) = outcome.map_err(refused)?;
    let may_share = match broker.shared_subscriptions {
        SharedSubscriptions::Unsupported => false,
        SharedSubscriptions::Supported => granted.version == Version::V5,
        SharedSubscriptions::Auto => granted.version == Version::V5 && granted.shared_subscriptions,
    };
    let answers = subscribe(connection, granted.version, request.qos, may_share).await;
    let (plain, shared) = answers.map_err(|ended| Failure {
        reason: Reason::BrokerUnreachable,
        message: format!("{}: {ended}", broker.urls.join(", ")),
    })?;
    let found = found(request, &granted, plain, shared);
    if request.shares && found.shared_subscriptions == Some(false) {
        return Err(Failure {
            reason: Reason::SharedSubscriptionsUnsupported,
            message: format!(
                "{}: the broker cannot share subscriptions: use spec.from.mqtt.ordering: PerTopic, which needs none",
                broker.urls.join(", ")
            ),
        });
    }
    Ok(found)
}

/// Subscribes to a topic that nobody knows, alone and shared, ends it all, and returns what was granted.
async fn subscribe(
    mut connection: Connection,
    version: Version,
    qos: u8,
    may_share: bool,
) -> Result<(Option<Grant>, Option<Grant>), Ended> {
    let word = random::word();
    let wanted = |path: &String| Wanted {
        path: path.clone(),
        retained: false,
    };
    let mut filters = vec![format!("millrace/probe/{word}")];
    write_subscribe(version, PLAIN, &[wanted(&filters[0])], qos, connection.out());
    if may_share {
        let shared = format!("$share/{word}/millrace/probe/{word}");
        write_subscribe(version, SHARED, &[wanted(&shared)], qos, connection.out());
        filters.push(shared);
    }
    let (mut of_plain, mut of_shared) = (None, None);
    let mut answers = if may_share { 2 } else { 1 };
    loop {
        connection.flush().await?;
        let Some(packet) = connection.next_packet()? else {
            if connection.read().await? == 0 {
                return Err(Ended::Closed);
            }
            continue;
        };
        match packet {
            Packet::Inbound(Inbound::SubAck { id, granted }) => {
                match id {
                    PLAIN => of_plain = granted.first().copied(),
                    _ => of_shared = granted.first().copied(),
                }
                answers -= 1;
                if answers == 0 {
                    write_unsubscribe(version, UNSUBSCRIBE, &filters, connection.out());
                }
            }
            Packet::Inbound(Inbound::UnsubAck { id: UNSUBSCRIBE }) => break,
            Packet::Inbound(Inbound::Disconnect { reason, text }) => {
                return Err(Ended::Disconnected { reason, text });
            }
            _ => {}
        }
    }
    connection.disconnect(Goodbye::End).await;
    Ok((of_plain, of_shared))
}

/// A subscription that was refused says nothing of the route's own filters, to which the client may have access.
fn found(
    request: &BrokerRequest,
    granted: &Granted,
    plain: Option<Grant>,
    shared: Option<Grant>,
) -> BrokerFound {
    let is_5 = granted.version == Version::V5;
    BrokerFound {
        protocol_version: granted.version.name().to_owned(),
        shared_subscriptions: match shared {
            Some(Grant::Qos(_)) => Some(true),
            Some(Grant::SharedUnsupported) => Some(false),
            Some(Grant::Refused(_)) => None,
            None => (is_5 && !granted.shared_subscriptions).then_some(false),
        },
        maximum_qos: match plain {
            Some(Grant::Qos(qos)) => qos,
            _ => granted.maximum_qos.min(request.qos),
        },
        receive_maximum: granted.receive_maximum,
        session_expiry_seconds: is_5.then(|| {
            granted
                .session_expiry_seconds
                .unwrap_or(request.broker.session_expiry_seconds)
        }),
        maximum_packet_bytes: granted.maximum_packet_bytes,
    }
}

fn refused(error: ConnectError) -> Failure {
    Failure {
        reason: error.reason(),
        message: error.to_string(),
    }
}

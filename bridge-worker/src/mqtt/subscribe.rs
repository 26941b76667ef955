//! SUBSCRIBE and UNSUBSCRIBE, in both versions of MQTT.

use bytes::BytesMut;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use super::packet::Version;

/// A filter to subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// As sent: with `$share/...` when shared.
    pub(crate) path: String,
    /// Whether what is retained is to come (MQTT 5): once, when the subscription is made (Retain Handling 1).
    pub(crate) retained: bool,
}

/// Appends a SUBSCRIBE to at least one filter.
pub(crate) fn write_subscribe(version: Version, id: u16, filters: &[Wanted], qos: u8, out: &mut BytesMut) {
    let written = match version {
        Version::V5 => {
            use rumqttc::v5::mqttbytes::{QoS, qos as named};
            let filters = filters.iter().map(|wanted| v5::Filter {
                path: wanted.path.clone(),
                qos: named(qos).unwrap_or(QoS::AtLeastOnce),
                nolocal: false,
                preserve_retain: true,
                retain_forward_rule: if wanted.retained {
                    v5::RetainForwardRule::OnNewSubscribe
                } else {
                    v5::RetainForwardRule::Never
                },
            });
            let mut subscribe = v5::Subscribe::new_many(filters, None);
            subscribe.pkid = id;
            subscribe.write(out).map_err(|error| error.to_string())
        }
        Version::V311 => {
            use rumqttc::mqttbytes::{QoS, qos as named};
            let filters = filters.iter().map(|wanted| v4::SubscribeFilter {
                path: wanted.path.clone(),
                qos: named(qos).unwrap_or(QoS::AtLeastOnce),
            });
            let mut subscribe = v4::Subscribe::new_many(filters);
            subscribe.pkid = id;
            subscribe.write(out).map_err(|error| error.to_string())
        }
    };
    debug_assert!(written.is_ok(), "a SUBSCRIBE is never too large");
}

/// Appends an UNSUBSCRIBE from at least one filter, as it was subscribed to.
pub(crate) fn write_unsubscribe(version: Version, id: u16, filters: &[String], out: &mut BytesMut) {
    let written = match version {
        Version::V5 => {
            let unsubscribe = v5::Unsubscribe {
                pkid: id,
                filters: filters.to_vec(),
                properties: None,
            };
            unsubscribe.write(out).map_err(|error| error.to_string())
        }
        Version::V311 => {
            let unsubscribe = v4::Unsubscribe {
                pkid: id,
                topics: filters.to_vec(),
            };
            unsubscribe.write(out).map_err(|error| error.to_string())
        }
    };
    debug_assert!(written.is_ok(), "an UNSUBSCRIBE is never too large");
}

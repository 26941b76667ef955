//! What one MqttBroker says.

use super::path::FieldPath;
use super::{Note, bounds};
use crate::api::MqttBroker;
use crate::units::GepDuration;

pub(super) fn check(broker: &MqttBroker) -> Vec<Note> {
    let session = &broker.spec.session;
    let token = broker.spec.auth.as_ref().and_then(|auth| auth.token.as_ref());
    let urls = FieldPath::parse("spec.urls");
    let ports = broker
        .spec
        .urls
        .iter()
        .enumerate()
        .filter_map(|(index, url)| bounds::port(urls.index(index), url));
    // A session that ends while a worker restarts takes its messages with it. The keep-alive has 16 bits of seconds.
    let bound = |field, text, least, most| {
        bounds::duration(field, text, &GepDuration::new(least), &GepDuration::new(most))
    };
    ports
        .chain(bound(
            "spec.session.expiryInterval",
            &session.expiry_interval,
            "1m",
            "99999h",
        ))
        .chain(bound("spec.session.keepAlive", &session.keep_alive, "5s", "18h"))
        .chain(token.and_then(|token| bound("spec.auth.token.expiration", &token.expiration, "10m", "24h")))
        .collect()
}

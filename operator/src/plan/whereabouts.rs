use millrace_crds::{MqttBroker, SessionSource, TopicRoute};
use serde::{Deserialize, Serialize};

use crate::names;

/// Where the MQTT sessions of a route are. Workers carry it as an annotation, so it is known of sessions that are to be
/// ended after the route refers to another broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Whereabouts {
    /// The name of the MqttBroker; with its namespace, `namespace/name`, if that is another than the route's.
    pub broker: String,
    /// `<prefix>-<session id>`: client ids are this and the lane.
    pub client: String,
    /// Its addresses.
    pub urls: Vec<String>,
}

impl Whereabouts {
    /// Of a route that refers to a broker.
    pub fn of(route: &TopicRoute, broker: &MqttBroker) -> Self {
        Self {
            broker: name(route, broker),
            client: client(route, &broker.spec.session.client_id_prefix),
            urls: broker.spec.urls.clone(),
        }
    }

    /// As it is written in an annotation.
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// For an annotation.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether sessions there are sessions here: the same client ids, at a broker of the same name, which may have
    /// another address now, or at one of the same addresses.
    pub fn is_same(&self, other: &Self) -> bool {
        let is_same_broker =
            self.broker == other.broker || self.urls.iter().any(|url| other.urls.contains(url));
        self.client == other.client && is_same_broker
    }
}

fn name(route: &TopicRoute, broker: &MqttBroker) -> String {
    match route.metadata.namespace == broker.metadata.namespace {
        true => broker.metadata.name.clone().unwrap_or_default(),
        false => names::full(&broker.metadata),
    }
}

/// `<prefix>-<session id>`
pub fn client(route: &TopicRoute, prefix: &str) -> String {
    let id = millrace_crds::session_id(route, SessionSource::Uid).unwrap_or_default();
    format!("{prefix}-{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_stay_where_the_client_ids_and_the_broker_do() {
        let at = |broker: &str, client: &str, urls: &[&str]| Whereabouts {
            broker: broker.into(),
            client: client.into(),
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        };
        let here = at("plant", "millrace-1", &["mqtt://a", "mqtt://b"]);
        for (other, same) in [
            (at("plant", "millrace-1", &["mqtt://c"]), true),
            (at("with-tls", "millrace-1", &["mqtt://x", "mqtt://b"]), true),
            (at("other", "millrace-1", &["mqtt://c"]), false),
            (at("plant", "edge-1", &["mqtt://a", "mqtt://b"]), false),
        ] {
            assert_eq!(
                (here.is_same(&other), other.is_same(&here)),
                (same, same),
                "{other:?}"
            );
        }
        assert_eq!(Whereabouts::parse(&here.text()), Some(here));
    }
}

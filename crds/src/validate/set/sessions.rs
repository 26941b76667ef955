//! Two routes with the same client ids would take each other's sessions, for ever.

use crate::api::{MqttBroker, TopicRoute};
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let sessions: Vec<Session<'_>> = manifests
        .iter()
        .enumerate()
        .filter_map(|(index, manifest)| match &manifest.object {
            Object::Route(route) => Session::of(index, route, manifests),
            _ => None,
        })
        .collect();
    let mut notes = Vec::new();
    for (position, session) in sessions.iter().enumerate() {
        if let Some(other) = sessions[..position].iter().find(|other| other.clashes(session)) {
            let title = manifests[other.index].identity.title();
            let message = format!(
                "{:?} is the sessionId of {title} too, on the same broker: write another one",
                session.id
            );
            notes.push((
                session.index,
                Note::error(FieldPath::parse("spec.sessionId"), message),
            ));
        }
    }
    notes
}

struct Session<'m> {
    index: usize,
    id: &'m str,
    broker: &'m MqttBroker,
}

impl<'m> Session<'m> {
    fn of(index: usize, route: &'m TopicRoute, manifests: &'m [Manifest<'_>]) -> Option<Self> {
        let id = route.spec.session_id.as_deref()?;
        let reference = route.broker_ref()?;
        let broker = manifests.iter().find_map(|manifest| match &manifest.object {
            Object::Broker(broker) if reference.is_to(broker.as_ref()) => Some(broker.as_ref()),
            _ => None,
        })?;
        Some(Self { index, id, broker })
    }

    fn clashes(&self, other: &Self) -> bool {
        let (one, two) = (&self.broker.spec, &other.broker.spec);
        let is_same_broker = one.urls.iter().any(|url| two.urls.contains(url));
        self.id == other.id && one.session.client_id_prefix == two.session.client_id_prefix && is_same_broker
    }
}

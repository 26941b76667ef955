use sha2::{Digest, Sha256};

use super::SessionSource;
use crate::api::{Named, TopicRoute};

/// Length of a session id: client ids stay within the 23 bytes that every broker must take [MQTT-3.1.3-5], with
/// the default prefix.
const LENGTH: usize = 8;

/// The session id of a route. None only without both `spec.sessionId` and a uid, under [`SessionSource::Uid`].
pub fn session_id(route: &TopicRoute, source: SessionSource<'_>) -> Option<String> {
    if let Some(id) = &route.spec.session_id {
        return Some(id.clone());
    }
    match source {
        SessionSource::Uid => from_uid(route.metadata.uid.as_deref()?),
        SessionSource::Instance(instance) => Some(from_instance(route.namespace(), route.name(), instance)),
    }
}

fn from_uid(uid: &str) -> Option<String> {
    let id: String = uid
        .to_ascii_lowercase()
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(LENGTH)
        .collect();
    (!id.is_empty()).then_some(id)
}

fn from_instance(namespace: &str, name: &str, instance: &str) -> String {
    // No part contains a newline that could shift the border between parts: names are DNS labels.
    let digest = Sha256::digest(format!("{namespace}\n{name}\n{instance}"));
    digest
        .iter()
        .take(LENGTH / 2)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_gives_its_first_eight_letters_and_digits() {
        assert_eq!(
            from_uid("3f2a9c1e-77aa-4c8e-9d6e-1b2c3d4e5f60").as_deref(),
            Some("3f2a9c1e")
        );
        assert_eq!(from_uid("A-b").as_deref(), Some("ab"));
        assert_eq!(from_uid("--"), None);
    }

    #[test]
    fn the_same_instance_finds_its_sessions_again() {
        // Fixed for ever: another value would leave sessions, and their messages, behind on an upgrade.
        assert_eq!(from_instance("default", "telemetry", "local"), "61946afa");
        assert_ne!(
            from_instance("default", "telemetry", "a"),
            from_instance("default", "telemetry", "b")
        );
        assert_ne!(
            from_instance("a", "telemetry", "x"),
            from_instance("b", "telemetry", "x")
        );
    }
}

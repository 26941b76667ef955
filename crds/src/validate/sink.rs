//! What one KafkaSink says.

use millrace_mapping::TopicPattern;

use super::path::FieldPath;
use super::{Note, bounds, suggest};
use crate::api::{KafkaSink, LIBRDKAFKA_SETTINGS, TopicPolicy};
use crate::units::GepDuration;

const MIN_INSYNC: &str = "min.insync.replicas";

pub(super) fn check(sink: &KafkaSink) -> Vec<Note> {
    let servers = FieldPath::parse("spec.bootstrapServers");
    let settings = FieldPath::parse("spec.librdkafka");
    let topics = FieldPath::parse("spec.topics");
    let mut notes = Vec::new();
    for (index, server) in sink.spec.bootstrap_servers.iter().enumerate() {
        notes.extend(bounds::port(servers.index(index), server));
    }
    for key in sink.spec.librdkafka.keys() {
        notes.extend(setting(key).map(|message| Note::error(settings.key(key), message)));
    }
    let bearer = sink
        .spec
        .sasl
        .as_ref()
        .and_then(|sasl| sasl.oauth_bearer.as_ref());
    if let Some(client) = bearer.and_then(|bearer| bearer.client_credentials.as_ref()) {
        let url = FieldPath::parse("spec.sasl.oauthBearer.clientCredentials.tokenEndpointUrl");
        notes.extend(bounds::port(url, &client.token_endpoint_url));
        let extensions = FieldPath::parse("spec.sasl.oauthBearer.clientCredentials.extensions");
        let names = client.extensions.keys();
        notes
            .extend(names.filter_map(|name| {
                extension(name).map(|message| Note::error(extensions.key(name), message))
            }));
    }
    if let Some(token) = bearer.and_then(|bearer| bearer.token.as_ref()) {
        notes.extend(bounds::duration(
            "spec.sasl.oauthBearer.token.expiration",
            &token.expiration,
            &GepDuration::new("10m"),
            &GepDuration::new("24h"),
        ));
    }
    for (index, policy) in sink.spec.topics.iter().enumerate() {
        notes.extend(topic_policy(&topics.index(index), policy));
    }
    notes
}

/// What is wrong with the name of a SASL extension (RFC 7628, section 3.1).
fn extension(name: &str) -> Option<&'static str> {
    match name {
        "auth" => Some("is what the token is sent as: remove it"),
        "" => Some("has no name: write one of letters alone"),
        _ if !name.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            Some("is not the name of an extension: write letters alone")
        }
        _ => None,
    }
}

/// What is wrong with a setting, told more exactly than the CEL rule can.
fn setting(key: &str) -> Option<String> {
    if LIBRDKAFKA_SETTINGS.contains(&key) {
        return None;
    }
    let known = LIBRDKAFKA_SETTINGS.iter().copied();
    if let Some(close) = suggest::closest(key, known) {
        return Some(format!("is not a setting that is taken; did you mean {close}?"));
    }
    Some(match reason(key) {
        Some(reason) => format!("{reason}: remove it"),
        None => format!(
            "is not a setting that is taken: remove it; these are: {}",
            LIBRDKAFKA_SETTINGS.join(", ")
        ),
    })
}

/// Why settings that others recommend are not taken.
fn reason(key: &str) -> Option<&'static str> {
    let has = |parts: &[&str]| parts.iter().any(|part| key.contains(part));
    Some(match key {
        "bootstrap.servers" | "metadata.broker.list" => "is what spec.bootstrapServers says",
        "linger.ms" | "queue.buffering.max.ms" => "is what a route's spec.to.kafka.producer.linger says",
        "compression.type" | "compression.codec" => {
            "is what a route's spec.to.kafka.producer.compression says"
        }
        _ if has(&[
            "acks",
            "idempotence",
            "timeout",
            "retries",
            "in.flight",
            "transactional",
        ]) =>
        {
            "is part of the guarantee that a message is acknowledged only when Kafka has it, and cannot be set"
        }
        _ if has(&["ssl.", "sasl.", "security.protocol"]) => "is what spec.tls and spec.sasl say",
        _ if has(&[
            "queue.buffering",
            "batch.",
            "message.max",
            "metadata",
            "statistics",
            "keepalive",
            "nagle",
            "sticky.",
        ]) =>
        {
            "is set by Millrace itself"
        }
        _ => return None,
    })
}

fn topic_policy(path: &FieldPath, policy: &TopicPolicy) -> Vec<Note> {
    let mut notes = Vec::new();
    if let Err(error) = TopicPattern::parse(&policy.pattern) {
        notes.push(Note::error(
            path.key("pattern"),
            format!("{:?}: {error}", policy.pattern),
        ));
    }
    if let Some(written) = policy.config.get(MIN_INSYNC) {
        let replicas = policy.replication_factor;
        let message = match written.parse::<i32>() {
            Ok(least) if (1..=replicas).contains(&least) => None,
            Ok(_) if replicas == 1 => Some(format!(
                "{written:?} is more than replicationFactor 1 allows: write \"1\""
            )),
            Ok(_) => Some(format!(
                "{written:?} does not go with replicationFactor {replicas}: write \"1\" to \"{replicas}\""
            )),
            Err(_) => Some(format!(
                "{written:?} is not a number: write \"1\" to \"{replicas}\""
            )),
        };
        notes.extend(message.map(|message| Note::error(path.key("config").key(MIN_INSYNC), message)));
    }
    notes
}

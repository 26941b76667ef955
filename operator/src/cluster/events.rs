use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Resource;
use kube::api::{Api, PostParams};

use super::Cluster;
use crate::names;

/// As many bytes as the API server takes in a note.
const MAX_NOTE: usize = 1024;

/// Something that a person is told about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something is wrong.
    pub warning: bool,
    /// One word.
    pub reason: String,
    /// What the operator was doing.
    pub action: &'static str,
    /// What is to be known.
    pub text: String,
    /// It is told once of an object, however often that is tried.
    pub once: bool,
}

impl Cluster {
    /// Tells people about an object. Never fails: an Event that cannot be written costs visibility and nothing else.
    /// Returns whether it was to be told: false if it was told before and is told once.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, note: &Note) -> bool {
        let reference = object.object_ref(&());
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".into());
        let event = event(reference, note, &namespace);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams::default();
        match self
            .call_in_turn("create_event", api.create(&params, &event))
            .await
        {
            Err(error) if error.is_namespace_terminating() => {
                self.tell_about_namespace(&namespace, note).await
            }
            Err(error) if note.once && error.is_conflict() => false,
            Err(error) => {
                tracing::warn!(%error, reason = note.reason, "an Event could not be written");
                true
            }
            Ok(_) => true,
        }
    }

    /// Nothing can be written in a namespace that is being deleted, but something about it.
    async fn tell_about_namespace(&self, namespace: &str, note: &Note) -> bool {
        let reference = ObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Namespace".into()),
            name: Some(namespace.to_owned()),
            ..ObjectReference::default()
        };
        let event = event(reference, note, "default");
        let api: Api<Event> = Api::namespaced(self.client.clone(), "default");
        match self
            .call_in_turn("create_event", api.create(&PostParams::default(), &event))
            .await
        {
            Err(error) if note.once && error.is_conflict() => false,
            Err(error) => {
                tracing::warn!(%error, namespace, reason = note.reason, "an Event could not be written");
                true
            }
            Ok(_) => true,
        }
    }
}

/// The name of an Event that is told once says what of.
fn once(regarding: &ObjectReference, note: &Note) -> String {
    let uid = regarding.uid.as_deref().unwrap_or_default();
    let name = regarding.name.as_deref().unwrap_or_default();
    format!(
        "{name}-{}",
        names::hash(format!("{uid} {} {}", note.reason, note.text).as_bytes())
    )
}

fn event(regarding: ObjectReference, note: &Note, namespace: &str) -> Event {
    let mut text = note.text.clone();
    if text.len() > MAX_NOTE {
        let end = (0..MAX_NOTE - 4)
            .rev()
            .find(|end| text.is_char_boundary(*end))
            .unwrap_or_default();
        text.truncate(end);
        text.push_str(" ...");
    }
    let name = regarding.name.clone().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            name: note.once.then(|| once(&regarding, note)),
            generate_name: (!note.once).then(|| format!("{name}-")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(jiff::Timestamp::now())),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.into()),
        reason: Some(note.reason.clone()),
        action: Some(note.action.into()),
        note: Some(text),
        regarding: Some(regarding),
        reporting_controller: Some(names::FIELD_MANAGER.into()),
        reporting_instance: Some(std::env::var("POD_NAME").unwrap_or_else(|_| names::FIELD_MANAGER.into())),
        ..Event::default()
    }
}

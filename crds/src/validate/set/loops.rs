//! Routes that would feed each other, for ever.

use crate::api::{Named, TopicRoute};
use crate::feeds::cycle;
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let mut earlier: Vec<&TopicRoute> = Vec::new();
    let mut notes = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        let Object::Route(route) = &manifest.object else {
            continue;
        };
        match cycle(route, &earlier) {
            None => earlier.push(route),
            Some(through) => {
                let names: Vec<String> = through
                    .iter()
                    .map(|route| format!("{}/{}", route.namespace(), route.name()))
                    .collect();
                let field = match route.spec.to.mqtt {
                    Some(_) => "spec.to.mqtt.topic",
                    None => "spec.to.kafka.topic",
                };
                let message = format!(
                    "what this route writes comes back to it through {}, for ever: choose topics that none of them reads, or \
                     narrow allowedTopics",
                    names.join(" and ")
                );
                notes.push((index, Note::error(FieldPath::parse(field), message)));
            }
        }
    }
    notes
}

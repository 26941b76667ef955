//! Two routes in one consumer group would each get a part of the records.

use crate::api::TopicRoute;
use crate::render::{group, shares_group};
use crate::validate::path::FieldPath;
use crate::validate::{Manifest, Note, Object};

pub(super) fn check(manifests: &[Manifest<'_>]) -> Vec<(usize, Note)> {
    let mut seen: Vec<(usize, &TopicRoute)> = Vec::new();
    let mut notes = Vec::new();
    for (index, manifest) in manifests.iter().enumerate() {
        let Object::Route(route) = &manifest.object else {
            continue;
        };
        if let Some((other, _)) = seen.iter().find(|(_, other)| shares_group(other, route)) {
            let title = manifests[*other].identity.title();
            let message = format!(
                "the consumer group {:?} is that of {title} too, on the same KafkaSink, so each would get a part of the records: \
                 write another one",
                group(route).unwrap_or_default()
            );
            notes.push((
                index,
                Note::error(FieldPath::parse("spec.from.kafka.group"), message),
            ));
        }
        seen.push((index, route));
    }
    notes
}

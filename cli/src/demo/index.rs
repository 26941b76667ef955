//! Which route a record belongs to. Pure.

use std::collections::BTreeMap;

use millrace_contract::AnyDocument;

use super::audit::Place;

/// The topics of the demonstration's routes, which are numbered in the order of their documents.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    /// Pattern of Kafka topics and the route that writes there.
    topics: Vec<(String, usize)>,
    /// Routes by the name that their dead letters carry, and their topics.
    dead_letters: BTreeMap<(String, Vec<u8>), usize>,
}

impl Index {
    pub(crate) fn new(documents: &[AnyDocument]) -> Self {
        let mut index = Self::default();
        for (number, document) in documents.iter().enumerate() {
            let AnyDocument::ToKafka(document) = document else {
                continue;
            };
            let patterns = document.live.mapping.allowed_topics.iter();
            index
                .topics
                .extend(patterns.map(|pattern| (pattern.clone(), number)));
            if let Some(topic) = &document.live.on_error.dead_letter_topic {
                let name = format!(
                    "{}/{}",
                    document.settings.route.namespace, document.settings.route.name
                );
                index
                    .dead_letters
                    .insert((topic.clone(), name.into_bytes()), number);
            }
        }
        index
    }

    /// The route of a record in `topic`, which in dead letters a header names, and what the topic is to it.
    pub(crate) fn find(&self, topic: &str, route_header: Option<&[u8]>) -> Option<(usize, Place)> {
        let letter = route_header.and_then(|name| self.dead_letters.get(&(topic.to_owned(), name.to_vec())));
        if let Some(number) = letter {
            return Some((*number, Place::DeadLetters));
        }
        let matches = |(pattern, _): &&(String, usize)| match pattern.strip_suffix('*') {
            Some(prefix) => topic.starts_with(prefix),
            None => topic == pattern,
        };
        self.topics
            .iter()
            .find(matches)
            .map(|(_, number)| (*number, Place::Topic))
    }
}

//! The filters of a route, each and together.

use millrace_mapping::Filter;

use crate::api::Subscription;
use crate::validate::Note;
use crate::validate::path::FieldPath;

/// Reads all filters. Those that cannot be read are left out and reported.
pub(super) fn check(subscriptions: &[Subscription]) -> (Vec<Filter>, Vec<Note>) {
    let (mut filters, mut notes) = (Vec::new(), Vec::new());
    for (index, subscription) in subscriptions.iter().enumerate() {
        match Filter::parse(&subscription.filter) {
            Ok(filter) => filters.push(filter),
            Err(error) => notes.push(Note::error(path(index), error.to_string())),
        }
    }
    (filters, notes)
}

/// Filters that a message could match two of: the broker may deliver it once or twice, as it likes, and the route
/// could not tell which filter it was for.
pub(super) fn overlaps(filters: &[Filter]) -> Vec<Note> {
    let mut notes = Vec::new();
    for (index, filter) in filters.iter().enumerate() {
        let earlier = filters[..index]
            .iter()
            .enumerate()
            .find(|(_, other)| other.overlaps(filter));
        let Some((other_index, other)) = earlier else {
            continue;
        };
        let example = common_topic(filter, other)
            .map(|topic| format!(", {topic} for one"))
            .unwrap_or_default();
        let message = format!(
            "{:?} overlaps with subscriptions[{other_index}], {:?}: some topics match both{example}; narrow one of the \
             two or remove it",
            filter.text(),
            other.text()
        );
        notes.push(Note::error(path(index), message));
    }
    notes
}

/// A topic that both filters match.
fn common_topic(one: &Filter, other: &Filter) -> Option<String> {
    let (one_levels, other_levels) = (levels(one), levels(other));
    let mut topic = Vec::new();
    let mut at = 0;
    loop {
        let level = match (one_levels.get(at).copied(), other_levels.get(at).copied()) {
            (None | Some("#"), None | Some("#")) => break,
            (None | Some("#"), Some(level)) | (Some(level), None | Some("#")) => level,
            (Some("+"), Some(level)) | (Some(level), Some(_)) => level,
        };
        topic.push(if level == "+" { "x" } else { level });
        at += 1;
    }
    if topic.is_empty() {
        topic.push("x");
    }
    let topic = topic.join("/");
    (one.matches(&topic) && other.matches(&topic)).then_some(topic)
}

fn levels(filter: &Filter) -> Vec<&str> {
    filter.wire().split('/').collect()
}

pub(super) fn path(index: usize) -> FieldPath {
    FieldPath::parse("spec.from.mqtt.subscriptions")
        .index(index)
        .key("filter")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn overlapping_filters_have_a_topic_in_common(
            one in "([ab+]/){0,3}([ab+]|#)",
            other in "([ab+]/){0,3}([ab+]|#)",
        ) {
            let (one, other) = (Filter::parse(&one).unwrap(), Filter::parse(&other).unwrap());
            prop_assert_eq!(common_topic(&one, &other).is_some(), one.overlaps(&other));
        }
    }
}

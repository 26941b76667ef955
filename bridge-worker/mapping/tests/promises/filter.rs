use millrace_mapping::Filter;
use proptest::prelude::*;

use crate::support::filters;

fn matches(filter: &str, topic: &str) -> bool {
    Filter::parse(filter).unwrap().matches(topic)
}

fn refused(filter: &str) -> String {
    Filter::parse(filter).unwrap_err().to_string()
}

#[test]
fn names_are_for_us_and_not_sent_to_the_broker() {
    let filter = Filter::parse("plants/+plant/lines/+line/#rest").unwrap();
    assert_eq!(filter.wire(), "plants/+/lines/+/#");
    assert_eq!(filter.text(), "plants/+plant/lines/+line/#rest");
    assert_eq!(filter.names().collect::<Vec<_>>(), ["plant", "line", "rest"]);
}

#[test]
fn a_filter_matches_what_mqtt_says_it_matches() {
    // The examples of MQTT 5, sections 4.7.1 and 4.7.2.
    for topic in [
        "sport/tennis/player1",
        "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon",
    ] {
        assert!(matches("sport/tennis/player1/#", topic), "{topic}");
        assert!(matches("sport/#rest", topic), "{topic}");
        assert!(matches("#", topic), "{topic}");
    }
    assert!(matches("sport/#", "sport"));
    assert!(matches("sport/tennis/+", "sport/tennis/player1"));
    assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
    assert!(!matches("sport/+", "sport"));
    assert!(matches("sport/+", "sport/"));
    assert!(matches("+/+", "/finance"));
    assert!(matches("/+", "/finance"));
    assert!(!matches("+", "/finance"));
    assert!(!matches("#", "$SYS/broker/clients"));
    assert!(!matches("+/monitor/Clients", "$SYS/monitor/Clients"));
    assert!(matches("$SYS/#", "$SYS/broker/clients"));
    assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    assert!(!matches("a/b", "a/bc"));
    assert!(!matches("a/b", "a/B"));
}

#[test]
fn a_wrong_filter_is_refused_with_what_to_write_instead() {
    assert_eq!(
        refused(""),
        "a topic filter cannot be empty; write `#` for every topic"
    );
    assert_eq!(
        refused("a/#/b"),
        "`#` must be the last level; use `+` for a single level in the middle"
    );
    assert_eq!(
        refused("a/b#"),
        "level `b#`: `#` must stand alone or before a name, as in `#` or `#name`"
    );
    assert_eq!(
        refused("a/+b+/c"),
        "level `+b+`: `+` must stand alone or before a name, as in `+` or `+name`"
    );
    assert_eq!(
        refused("a/+1"),
        "`1` is not a name: a name begins with a letter or `_` and continues with letters, digits or `_`, all ASCII"
    );
    assert_eq!(
        refused("+a/+a"),
        "two wildcards are named `a`; give each its own name"
    );
    assert_eq!(
        refused("$share/group/a"),
        "`$share/...` is written by the route itself: write the filter without it and choose `ordering: Unordered`"
    );
    assert_eq!(
        refused("a\0"),
        "a topic filter cannot contain the character U+0000"
    );
    assert_eq!(
        refused(&"a".repeat(65_536)),
        "a topic filter has at most 65535 bytes, this one has 65536"
    );
}

#[test]
fn a_name_that_means_something_else_in_expressions_is_refused() {
    for name in [
        "payload",
        "message",
        "record",
        "in",
        "true",
        "null",
        "namespace",
        "merge",
        "size",
        "int",
        "map",
    ] {
        assert_eq!(
            refused(&format!("a/+{name}")),
            format!(
                "`{name}` cannot name a wildcard, because it means something else in expressions; choose another name"
            )
        );
    }
}

#[test]
fn filters_that_share_no_topic_do_not_overlap() {
    let overlap = |one: &str, other: &str| {
        let filters = filters(&[one, other]);
        let found = filters[0].overlaps(&filters[1]);
        assert_eq!(found, filters[1].overlaps(&filters[0]), "{one} {other}");
        found
    };
    assert!(overlap("a/+", "+/b"));
    assert!(overlap("a/#", "a"));
    assert!(overlap("a/#", "#"));
    assert!(overlap("a/+/c", "a/b/#"));
    assert!(!overlap("a/+", "a/b/c"));
    assert!(!overlap("a/+/c", "a/b/d"));
    assert!(!overlap("#", "$SYS/#"));
    assert!(!overlap("+", "/#"));
}

/// A filter over few letters, so that filters and topics meet often.
fn filter_text() -> impl Strategy<Value = String> {
    let level = prop_oneof![Just(""), Just("a"), Just("b"), Just("$x"), Just("+")];
    let last = prop_oneof![3 => Just(None), 1 => Just(Some("#"))];
    (prop::collection::vec(level, 0..4), last)
        .prop_map(|(mut levels, last)| {
            levels.extend(last);
            levels.join("/")
        })
        .prop_filter("a filter is not empty", |text| !text.is_empty())
}

fn topic_text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop_oneof![Just(""), Just("a"), Just("b"), Just("c"), Just("$x")],
        1..5,
    )
    .prop_map(|levels| levels.join("/"))
}

/// The rules of MQTT, level by level.
fn naive_matches(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => naive_matches(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) => level == name && naive_matches(filter, topic),
        _ => false,
    }
}

fn naive(filter: &str, topic: &str) -> bool {
    let is_reserved = topic.starts_with('$') && filter.starts_with(['+', '#']);
    let (filter, topic_levels): (Vec<_>, Vec<_>) = (filter.split('/').collect(), topic.split('/').collect());
    !topic.is_empty() && !is_reserved && naive_matches(&filter, &topic_levels)
}

/// Every topic of up to five levels over an alphabet that has a letter no filter has.
fn all_topics() -> Vec<String> {
    let names = ["", "a", "b", "c", "$x"];
    let mut topics = vec![String::new()];
    let mut longest: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    for _ in 0..4 {
        topics.extend(longest.iter().cloned());
        longest = longest
            .iter()
            .flat_map(|topic| names.iter().map(move |name| format!("{topic}/{name}")))
            .collect();
    }
    topics.extend(longest);
    topics
}

proptest! {
    #[test]
    fn matching_agrees_with_the_rules_read_one_by_one(filter in filter_text(), topic in topic_text()) {
        prop_assert_eq!(matches(&filter, &topic), naive(&filter, &topic));
    }

    #[test]
    fn names_stand_for_the_levels_the_wildcards_stand_for(topic in topic_text()) {
        let count = topic.split('/').count();
        let filter = (0..count).map(|n| format!("+n{n}")).collect::<Vec<_>>().join("/");
        prop_assume!(!topic.is_empty() && !topic.starts_with('$'));
        let template = (0..count).map(|n| format!("{{n{n}}}")).collect::<Vec<_>>().join("/");
        let mapping = millrace_contract::Mapping { key: template, ..crate::support::mapping() };
        let filters = filters(&[&filter]);
        let format = millrace_contract::PayloadFormat::Bytes;
        let mut mapper = millrace_mapping::Mapper::compile(&mapping, &filters, format).unwrap();
        let mut record = millrace_mapping::Record::default();
        let message = millrace_mapping::Message { topic: &topic, ..crate::support::message(b"") };
        mapper.map(&message, &mut record).unwrap();
        prop_assert_eq!(record.key().unwrap_or_default(), topic.as_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn filters_overlap_exactly_if_some_topic_matches_both(one in filter_text(), other in filter_text()) {
        let filters = filters(&[&one, &other]);
        let witness = all_topics().into_iter().find(|topic| naive(&one, topic) && naive(&other, topic));
        prop_assert_eq!(filters[0].overlaps(&filters[1]), witness.is_some(), "{:?}", witness);
    }
}

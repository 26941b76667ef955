//! A mapping that cannot work is refused before it runs, with what to write instead.

use millrace_contract::{Mapping, PayloadFormat, Propagate};
use millrace_mapping::{Mapper, MappingError, Part, TopicPattern, check_kafka_topic};

use crate::support::{compile, filters, mapping};

fn errors(change: impl FnOnce(&mut Mapping)) -> Vec<(Part, String)> {
    errors_in(PayloadFormat::Json, change)
}

fn errors_in(format: PayloadFormat, change: impl FnOnce(&mut Mapping)) -> Vec<(Part, String)> {
    let mut changed = mapping();
    change(&mut changed);
    let found = compile(&changed, format).err().unwrap_or_default();
    found
        .into_iter()
        .map(|MappingError { part, message }| (part, message))
        .collect()
}

fn value_error(expression: &str) -> String {
    let found = errors(|m| m.value = Some(expression.to_owned()));
    assert_eq!(found.len(), 1, "{expression}: {found:?}");
    assert_eq!(found[0].0, Part::Value);
    found[0].1.clone()
}

#[test]
fn an_unknown_name_is_refused_and_the_known_ones_are_listed() {
    assert_eq!(
        value_error("plnt"),
        "unknown name `plnt`; known here: `plant`, `line`, `rest`, `payload`, `message`"
    );
    assert_eq!(
        value_error("[1].map(x, y)"),
        value_error("plnt").replace("plnt", "y")
    );
    assert_eq!(
        value_error("[1].map(x, x)[0] + x"),
        value_error("plnt").replace("plnt", "x")
    );
    assert_eq!(
        value_error("record"),
        "`record` is what a route from Kafka reads; this one reads MQTT: write `message`"
    );
    assert_eq!(
        value_error(".plant"),
        value_error("plnt").replace("plnt", ".plant")
    );
}

#[test]
fn a_name_must_be_bound_by_every_filter() {
    let mapping = Mapping {
        key: "{a}{b}".to_owned(),
        ..mapping()
    };
    let found = Mapper::compile(&mapping, &filters(&["x/+a", "y/+b/+a"]), PayloadFormat::Bytes).unwrap_err();
    assert_eq!(
        found,
        [MappingError {
            part: Part::Key,
            message:
                "`{b}`: `b` is not a name of every filter of the route; name a wildcard `b` in each of them"
                    .to_owned()
        }]
    );
}

#[test]
fn an_unknown_function_is_refused_and_the_known_ones_are_listed() {
    assert_eq!(
        value_error("plant.matches('a+')"),
        "unknown function `matches`; there are all, bool, bytes, contains, double, dyn, endsWith, exists, exists_one, \
         filter, get, has, int, map, merge, size, startsWith, string, type, uint, without"
    );
    assert_eq!(
        value_error("merge(payload)"),
        "`merge` is written `merge(map, map)`"
    );
    assert_eq!(
        value_error("payload.merge({})"),
        "`merge` is written `merge(map, map)`"
    );
    assert_eq!(
        value_error("contains('a', 'b')"),
        "`contains` is written `text.contains(part)`"
    );
    assert_eq!(value_error("size()"), "`size` is written `size(x)` or `x.size()`");
    assert_eq!(
        value_error("payload.all(x)"),
        "`all` is written `list.all(name, condition)`"
    );
}

#[test]
fn a_field_that_cannot_be_there_is_refused() {
    assert_eq!(
        value_error("message.payload"),
        "`message` has no field `payload`; it has contentType, correlationData, levels, qos, receivedAt, \
         responseTopic, retain, topic, user"
    );
    assert_eq!(
        value_error("plant.name"),
        "`plant.name`: `plant` is a part of the topic, a text, and has no fields"
    );
    let found = errors_in(PayloadFormat::Bytes, |m| {
        m.when = Some("payload.t > 1".to_owned())
    });
    assert_eq!(
        found,
        [(
            Part::When,
            "`payload.t`: the payload has no fields in format Bytes; set the payload's format to JSON"
                .to_owned()
        )]
    );
    let found = errors_in(PayloadFormat::Bytes, |m| {
        m.when = Some("payload == 'on'".to_owned())
    });
    assert_eq!(
        found,
        [(Part::When, "the payload is bytes and never equals a text; write `b'...'` or set the payload's format to Text".to_owned())]
    );
}

#[test]
fn what_is_not_cel_is_refused_with_its_position() {
    assert_eq!(
        value_error(" "),
        "the expression is empty; write one or leave the field out"
    );
    for expression in [
        "payload.t >",
        "'open",
        "a b",
        "payload.?t",
        "payload[?0]",
        "1 +",
        "{'a' 1}",
    ] {
        let message = value_error(expression);
        assert!(
            message.starts_with("not a CEL expression: ") && message.contains("(line 1, column "),
            "{message}"
        );
    }
    assert!(value_error("Point{x: 1}").starts_with("`Point{...}` makes a protobuf message"));
}

#[test]
fn a_result_that_can_never_do_is_refused() {
    let when = |expression: &str| {
        errors(|m| m.when = Some(expression.to_owned()))
            .pop()
            .map(|(_, message)| message)
    };
    assert_eq!(
        when("plant").unwrap(),
        "the expression gives a string, and `when` needs a bool; compare it with something, as in `x == y`"
    );
    assert!(when("size(plant)").unwrap().contains("gives a int"));
    assert!(when("[1]").is_some());
    assert!(when("true").is_none());
    let key = errors(|m| m.key = "{[plant]}".to_owned());
    assert_eq!(
        key,
        [(
            Part::Key,
            "`{[plant]}`: the expression gives a list, which has no text; choose a part of it that is a text, number, \
             bool or bytes"
                .to_owned()
        )]
    );
}

#[test]
fn a_topic_that_kafka_would_refuse_is_refused() {
    let topic = |text: &str, allowed: &[&str]| {
        errors(|m| {
            m.topic = text.to_owned();
            m.allowed_topics = allowed.iter().map(|pattern| (*pattern).to_owned()).collect();
        })
    };
    let one = |text: &str, allowed: &[&str]| {
        let mut found = topic(text, allowed);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        found.remove(0)
    };
    let characters = |c| {
        format!("a Kafka topic is named with the characters a-z, A-Z, 0-9, `.`, `_` and `-`, not with `{c}`")
    };
    assert_eq!(
        one("", &[]),
        (
            Part::Topic,
            "the name of a Kafka topic cannot be empty".to_owned()
        )
    );
    assert_eq!(one("a/b", &[]), (Part::Topic, characters('/')));
    assert_eq!(one("a/{plant}", &["*"]), (Part::Topic, characters('/')));
    assert_eq!(one("a.{plant}.ü", &[]), (Part::Topic, characters('ü')));
    assert_eq!(
        one("__a", &[]),
        (
            Part::Topic,
            "topics that begin with `__` are Kafka's own; choose another name".to_owned()
        )
    );
    assert_eq!(one("__a.{plant}", &[]).0, Part::Topic);
    assert_eq!(
        one("a", &["b*"]),
        (
            Part::Topic,
            "the topic is not one of allowedTopics; add it there".to_owned()
        )
    );
    assert_eq!(
        one("telemetry.{plant}", &["orders.*", "tele"]),
        (
            Part::AllowedTopics,
            "no pattern matches a topic that begins with `telemetry.`, as all topics of this route do; add `telemetry.*`".to_owned()
        )
    );
    assert_eq!(
        one("{plant}", &[]),
        (
            Part::AllowedTopics,
            "the topic begins with an expression, so a device could choose any topic; list the topics this route may write to".to_owned()
        )
    );
    assert_eq!(
        one("{plant}", &["a*b"]),
        (
            Part::AllowedTopics,
            "`a*b`: `*` must be the last character: a pattern is a name, or a prefix followed by `*`"
                .to_owned()
        )
    );
    assert!(topic("telemetry.{plant}", &["tele*", "telemetry.nord"]).is_empty());
    assert!(topic("telemetry.{plant}", &[]).is_empty());
}

#[test]
fn two_headers_of_one_name_are_refused() {
    let found = errors(|m| {
        m.headers = [
            ("mqtt.topic", "x"),
            ("mqtt.user.site", "x"),
            ("mqtt.qos", "x"),
            ("millrace.hops", "0"),
            ("", "x"),
        ]
        .map(|(n, t)| (n.to_owned(), t.to_owned()))
        .into();
        m.propagate = vec![Propagate::Topic, Propagate::UserProperties, Propagate::Topic];
    });
    let header = |name: &str| Part::Header(name.to_owned());
    assert_eq!(
        found,
        [
            (Part::Propagate, "Topic is listed twice; remove one".to_owned()),
            (header(""), "a header needs a name".to_owned()),
            (header("millrace.hops"), "Millrace itself says in it how often the message has come from Kafka; choose another name".to_owned()),
            (header("mqtt.topic"), "`propagate: [Topic]` writes headers of this name; choose another name or do not propagate Topic".to_owned()),
            (header("mqtt.user.site"), "`propagate: [UserProperties]` writes headers of this name; choose another name or do not propagate UserProperties".to_owned()),
        ]
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let found = errors(|m| {
        m.when = Some("a".to_owned());
        m.topic = "b {c}".to_owned();
        m.key = "{d} {e}".to_owned();
        m.headers = [("h".to_owned(), "{f".to_owned())].into();
        m.value = Some("g".to_owned());
    });
    let parts: Vec<_> = found.iter().map(|(part, _)| part.to_string()).collect();
    assert_eq!(parts, ["when", "topic", "key", "key", "headers[h]", "value"]);
}

#[test]
fn names_of_kafka_topics_are_what_kafka_accepts() {
    for name in ["a", "A-Z_0.9", "_a", "...", &"a".repeat(249)] {
        assert!(check_kafka_topic(name).is_ok(), "{name}");
    }
    for name in [
        "",
        ".",
        "..",
        "a/b",
        "a b",
        "ä",
        "a\0",
        "__consumer_offsets",
        &"a".repeat(250),
    ] {
        assert!(check_kafka_topic(name).is_err(), "{name}");
    }
    let pattern = |text: &str| TopicPattern::parse(text).unwrap();
    assert!(pattern("a.*").matches("a.b") && pattern("a.*").matches("a.") && !pattern("a.*").matches("a"));
    assert!(pattern("a").matches("a") && !pattern("a").matches("ab"));
    assert!(pattern("*").matches("anything"));
    assert!(pattern("abc*").specificity() > pattern("ab*").specificity());
    assert!(pattern("ab").specificity() > pattern("abc*").specificity());
    for text in ["", "a/b*", "**", "*a", "__a*"] {
        assert!(TopicPattern::parse(text).is_err(), "{text}");
    }
}

use millrace_contract::{Mapping, PayloadFormat, Propagate};
use millrace_mapping::{Decision, MapError, Mapper, Message, Part, Properties, Record};

use crate::support::{TOPIC, filters, key, map, mapping, message, value};

fn properties() -> Properties {
    Properties {
        content_type: Some("application/json".to_owned()),
        response_topic: Some("reply/to".to_owned()),
        correlation_data: Some(bytes::Bytes::from_static(b"\x00\xff")),
        user: vec![
            ("site".to_owned(), "n".to_owned()),
            ("site".to_owned(), "o".to_owned()),
        ],
    }
}

fn reason(expression: &str, payload: &str) -> &'static str {
    value(expression, payload).unwrap_err().reason()
}

#[test]
fn a_plain_mapping_gives_topic_and_key_and_leaves_the_payload_alone() {
    let mapping = Mapping {
        topic: "telemetry.{plant}".to_owned(),
        key: "{message.topic}".to_owned(),
        ..mapping()
    };
    let (decision, record) = map(&mapping, PayloadFormat::Bytes, &message(b"\xff")).unwrap();
    assert_eq!(decision, Decision::Write);
    assert_eq!(record.topic(), "telemetry.nord");
    assert_eq!(record.key(), Some(TOPIC.as_bytes()));
    assert_eq!(record.value(), None);
    assert_eq!(record.headers().len(), 0);
}

#[test]
fn a_key_that_renders_to_nothing_is_no_key() {
    assert_eq!(key("", &message(b"")).unwrap(), None);
    assert_eq!(key("{message.responseTopic}", &message(b"")).unwrap(), None);
}

#[test]
fn messages_for_which_when_is_false_are_filtered() {
    let mapping = Mapping {
        when: Some("payload.t > 80".to_owned()),
        ..mapping()
    };
    let decide =
        |payload: &[u8]| map(&mapping, PayloadFormat::Json, &message(payload)).map(|(decision, _)| decision);
    assert_eq!(decide(br#"{"t":81}"#).unwrap(), Decision::Write);
    assert_eq!(decide(br#"{"t":80}"#).unwrap(), Decision::Filtered);
    assert_eq!(decide(br#"{"u":80}"#).unwrap_err().reason(), "ExpressionFailed");
    assert_eq!(decide(b"{").unwrap_err().reason(), "PayloadNotJson");
}

#[test]
fn when_gives_a_bool_or_the_message_cannot_be_mapped() {
    let mapping = Mapping {
        when: Some("payload".to_owned()),
        ..mapping()
    };
    let error = map(&mapping, PayloadFormat::Json, &message(b"1")).unwrap_err();
    assert_eq!(error.reason(), "ResultType");
    assert_eq!(
        error.to_string(),
        "when: the expression gives a value of type double, where bool is needed"
    );
}

#[test]
fn the_payload_is_read_only_when_an_expression_needs_it() {
    let not_json = message(b"not json");
    let with = |change: fn(&mut Mapping)| {
        let mut changed = mapping();
        change(&mut changed);
        map(&changed, PayloadFormat::Json, &not_json)
    };
    assert!(with(|m| m.key = "{plant}".to_owned()).is_ok());
    assert!(with(|m| m.when = Some("message.qos == 1".to_owned())).is_ok());
    let filtered = with(|m| {
        m.when = Some("message.qos == 2".to_owned());
        m.value = Some("payload.t".to_owned());
    });
    assert_eq!(filtered.unwrap().0, Decision::Filtered);
    assert_eq!(
        with(|m| m.key = "{payload.t}".to_owned()).unwrap_err().reason(),
        "PayloadNotJson"
    );
}

#[test]
fn the_payload_is_what_its_format_says() {
    let see = |format, payload: &'static [u8], expression: &str| {
        let mapping = Mapping {
            value: Some(expression.to_owned()),
            ..mapping()
        };
        map(&mapping, format, &message(payload)).map(|(_, record)| record.value().unwrap().to_vec())
    };
    assert_eq!(
        see(PayloadFormat::Bytes, b"\xff\x00", "payload").unwrap(),
        b"\xff\x00"
    );
    assert_eq!(see(PayloadFormat::Bytes, b"abc", "size(payload)").unwrap(), b"3");
    assert_eq!(
        see(PayloadFormat::Bytes, b"abc", "{'p': payload}").unwrap(),
        br#"{"p":"YWJj"}"#
    );
    assert_eq!(
        see(PayloadFormat::Text, "é".as_bytes(), "payload + '!'").unwrap(),
        "é!".as_bytes()
    );
    assert_eq!(
        see(PayloadFormat::Text, "é".as_bytes(), "size(payload)").unwrap(),
        b"1"
    );
    assert_eq!(
        see(PayloadFormat::Text, b"\xff", "payload").unwrap_err().reason(),
        "PayloadNotUtf8"
    );
    assert_eq!(
        see(
            PayloadFormat::Json,
            b" {\"a\": [1, null, \"\\u00e9\"]} ",
            "payload"
        )
        .unwrap(),
        "{\"a\":[1,null,\"é\"]}".as_bytes()
    );
    assert_eq!(
        see(PayloadFormat::Json, b"{\"a\":1,\"a\":2}", "payload.a").unwrap(),
        b"2"
    );
    assert_eq!(
        see(PayloadFormat::Json, b"{} {}", "payload")
            .unwrap_err()
            .reason(),
        "PayloadNotJson"
    );
    assert_eq!(
        see(PayloadFormat::Json, b"", "payload").unwrap_err().reason(),
        "PayloadNotJson"
    );
}

#[test]
fn everything_about_the_message_is_a_variable() {
    let properties = properties();
    let with = Message {
        properties: Some(&properties),
        retain: true,
        ..message(b"")
    };
    let template = "{message.topic} {message.levels[1]} {message.qos} {message.retain} {message.receivedAt} \
                    {message.contentType} {message.responseTopic} {string(message.correlationData == b'\\x00\\xff')} \
                    {message.user.site} {size(message.levels)}";
    let template = template.replace(
        "string(message.correlationData == b'\\x00\\xff')",
        "message.correlationData == b'\\x00\\xff'",
    );
    assert_eq!(
        key(&template, &with).unwrap().unwrap(),
        format!("{TOPIC} nord 1 true 1700000000000 application/json reply/to true o 6")
    );
    assert_eq!(
        key("{size(message)} {message['qos']} {has(message.user.site)}", &with)
            .unwrap()
            .unwrap(),
        "9 1 true"
    );
}

#[test]
fn what_a_message_does_not_have_is_empty() {
    let template =
        "{message.contentType}{message.responseTopic}{message.correlationData}{size(message.user)}";
    assert_eq!(key(template, &message(b"")).unwrap().unwrap(), "0");
    let none = Properties::default();
    assert_eq!(
        key(
            template,
            &Message {
                properties: Some(&none),
                ..message(b"")
            }
        )
        .unwrap()
        .unwrap(),
        "0"
    );
}

#[test]
fn a_missing_key_is_an_error_and_get_gives_a_default() {
    let error = value("payload.missing", "{}").unwrap_err();
    assert_eq!(
        error.to_string(),
        "value: there is no key `missing`; `get(map, key, default)` gives a default"
    );
    assert_eq!(reason("message.user.site", "{}"), "ExpressionFailed");
    assert_eq!(value("get(payload, 'missing', 7)", "{}").unwrap(), "7");
    assert_eq!(
        value("get(payload, 'there', 7)", r#"{"there":null}"#).unwrap(),
        "null"
    );
    assert_eq!(
        value("get(get(payload, 'a', {}), 'b', 'none')", "{}").unwrap(),
        "none"
    );
    assert_eq!(
        value("has(payload.a) ? payload.a : 'none'", "{}").unwrap(),
        "none"
    );
    assert_eq!(reason("get(payload, 'a', 0)", "[]"), "ExpressionFailed");
    assert_eq!(reason("get(payload, 1, 0)", "{}"), "ExpressionFailed");
}

#[test]
fn merge_takes_the_entries_of_both_and_the_second_wins() {
    assert_eq!(
        value("merge(payload, {'line': line})", r#"{"t":85}"#).unwrap(),
        r#"{"line":"7","t":85}"#
    );
    assert_eq!(
        value("merge(payload, {'t': 1})", r#"{"t":85}"#).unwrap(),
        r#"{"t":1}"#
    );
    assert_eq!(
        value("merge({'t': 1}, payload)", r#"{"t":85}"#).unwrap(),
        r#"{"t":85}"#
    );
    assert_eq!(
        value("merge(payload, {'pos': {'z': 3}})", r#"{"pos":{"x":1}}"#).unwrap(),
        r#"{"pos":{"z":3}}"#
    );
    assert_eq!(reason("merge(payload, {})", "[]"), "ExpressionFailed");
}

#[test]
fn without_removes_keys_and_does_not_mind_if_they_are_not_there() {
    let payload = r#"{"a":1,"b":2,"c":3}"#;
    assert_eq!(
        value("without(payload, 'a')", payload).unwrap(),
        r#"{"b":2,"c":3}"#
    );
    assert_eq!(
        value("without(payload, 'a', 'c', 'x')", payload).unwrap(),
        r#"{"b":2}"#
    );
    assert_eq!(
        value("without(payload, ['a', 'b'])", payload).unwrap(),
        r#"{"c":3}"#
    );
    assert_eq!(value("without(payload, [])", payload).unwrap(), payload);
    assert_eq!(reason("without(payload, 1)", payload), "ExpressionFailed");
    assert_eq!(reason("without(payload, 'a')", "1"), "ExpressionFailed");
}

#[test]
fn a_new_value_is_text_and_bytes_as_they_are_and_anything_else_as_json() {
    assert_eq!(value("'text'", "{}").unwrap(), "text");
    assert_eq!(value("b'bytes'", "{}").unwrap(), "bytes");
    assert_eq!(
        value("['text', b'bytes', 1.0, 1.5, true, null]", "{}").unwrap(),
        r#"["text","Ynl0ZXM=",1,1.5,true,null]"#
    );
    assert_eq!(
        value("{2: 'b', 10: 'c', true: 'd', 'a\"': 'e'}", "{}").unwrap(),
        r#"{"10":"c","2":"b","a\"":"e","true":"d"}"#
    );
    assert_eq!(value("null", "{}").unwrap(), "null");
    assert_eq!(value("payload.t > 1", r#"{"t":2}"#).unwrap(), "true");
    assert_eq!(reason("type(payload)", "{}"), "ResultType");
    assert_eq!(reason("[type(payload)]", "{}"), "ResultType");
}

#[test]
fn what_has_no_text_cannot_be_part_of_a_topic_key_or_header() {
    for payload in ["null", "[]", "{}"] {
        let error = key("{payload}", &message(payload.as_bytes())).unwrap_err();
        assert_eq!(error.reason(), "ResultType", "{payload}");
    }
    let error = key("{payload}", &message(b"null")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key: the expression gives a value of type null, where a text, number, bool or bytes is needed"
    );
}

#[test]
fn loops_and_conditions_of_cel_work() {
    let payload = r#"{"tags":[{"n":"a","v":1},{"n":"b","v":2}]}"#;
    assert_eq!(value("payload.tags.map(t, t.v * 2)", payload).unwrap(), "[2,4]");
    assert_eq!(
        value("payload.tags.filter(t, t.v > 1).map(t, t.n)", payload).unwrap(),
        r#"["b"]"#
    );
    assert_eq!(
        value("payload.tags.map(t, t.v > 1, t.n)", payload).unwrap(),
        r#"["b"]"#
    );
    assert_eq!(
        value("payload.tags.exists(t, t.n == 'b')", payload).unwrap(),
        "true"
    );
    assert_eq!(value("payload.tags.all(t, t.v < 2)", payload).unwrap(), "false");
    assert_eq!(
        value("payload.tags.exists_one(t, t.v == 2)", payload).unwrap(),
        "true"
    );
    assert_eq!(
        value("payload.tags[0].v == 1 ? plant : line", payload).unwrap(),
        "nord"
    );
    assert_eq!(
        value("payload.tags.map(t, merge(t, {'plant': plant}))", payload).unwrap(),
        r#"[{"n":"a","plant":"nord","v":1},{"n":"b","plant":"nord","v":2}]"#
    );
    assert_eq!(
        value("'n' in payload.tags[0] && size(payload.tags) == 2", payload).unwrap(),
        "true"
    );
}

#[test]
fn of_several_filters_the_first_that_matches_counts() {
    let mapping = Mapping {
        key: "{a}-{b}".to_owned(),
        ..mapping()
    };
    let filters = filters(&["x/+a/+b", "+b/+a/#rest"]);
    let mut mapper = Mapper::compile(&mapping, &filters, PayloadFormat::Bytes).unwrap();
    let mut record = Record::default();
    let mut key = |topic| {
        mapper
            .map(
                &Message {
                    topic,
                    ..message(b"")
                },
                &mut record,
            )
            .map(|_| String::from_utf8(record.key().unwrap().to_vec()).unwrap())
    };
    assert_eq!(key("x/1/2").unwrap(), "1-2");
    assert_eq!(key("x/1/2/3").unwrap(), "1-x");
    assert_eq!(key("y/1").unwrap(), "1-y");
    assert_eq!(key("y"), Err(MapError::NoFilter));
    assert_eq!(key("$y/1"), Err(MapError::NoFilter));
}

#[test]
fn a_device_cannot_choose_where_it_writes() {
    let mapping = |topic: &str, allowed: &[&str]| Mapping {
        topic: topic.to_owned(),
        allowed_topics: allowed.iter().map(|pattern| (*pattern).to_owned()).collect(),
        ..mapping()
    };
    let topic = |mapping: &Mapping, topic: &str| {
        let result = map(
            mapping,
            PayloadFormat::Bytes,
            &Message {
                topic,
                ..message(b"")
            },
        );
        result
            .map(|(_, record)| record.topic().to_owned())
            .map_err(|error| (error.reason(), error.to_string()))
    };
    let default = mapping("telemetry.{plant}", &[]);
    assert_eq!(topic(&default, "plants/nord/lines/7").unwrap(), "telemetry.nord");
    let (reason, text) = topic(&default, "plants/nö/lines/7").unwrap_err();
    assert_eq!(reason, "TopicInvalid");
    assert_eq!(
        text,
        "topic `telemetry.nö`: a Kafka topic is named with the characters a-z, A-Z, 0-9, `.`, `_` and `-`, not with `ö`"
    );
    let long = format!("plants/{}/lines/7", "n".repeat(250));
    assert_eq!(topic(&default, &long).unwrap_err().0, "TopicInvalid");
    let listed = mapping("{plant}", &["telemetry.*", "orders"]);
    assert_eq!(
        topic(&listed, "plants/telemetry.x/lines/7").unwrap(),
        "telemetry.x"
    );
    assert_eq!(topic(&listed, "plants/orders/lines/7").unwrap(), "orders");
    assert_eq!(
        topic(&listed, "plants/payments/lines/7").unwrap_err(),
        (
            "TopicNotAllowed",
            "topic `payments` is not one of the route's allowedTopics".to_owned()
        )
    );
    let any = mapping("{plant}", &["*"]);
    for (plant, reason) in [
        ("", "TopicInvalid"),
        ("..", "TopicInvalid"),
        ("__consumer_offsets", "TopicInvalid"),
    ] {
        assert_eq!(
            topic(&any, &format!("plants/{plant}/lines/7")).unwrap_err().0,
            reason,
            "{plant}"
        );
    }
}

#[test]
fn headers_come_from_templates_and_from_what_is_propagated() {
    let properties = properties();
    let mapping = Mapping {
        headers: [("site", "{plant}"), ("a", "fixed")]
            .map(|(n, t)| (n.to_owned(), t.to_owned()))
            .into(),
        propagate: Propagate::ALL.to_vec(),
        ..mapping()
    };
    let headers = |message: &Message<'_>| {
        let (_, record) = map(&mapping, PayloadFormat::Bytes, message).unwrap();
        record
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect::<Vec<_>>()
    };
    let expected = |list: &[(&str, &[u8])]| {
        list.iter()
            .map(|(n, v)| ((*n).to_owned(), v.to_vec()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        headers(&Message {
            properties: Some(&properties),
            ..message(b"")
        }),
        expected(&[
            ("a", b"fixed"),
            ("site", b"nord"),
            ("mqtt.topic", TOPIC.as_bytes()),
            ("mqtt.qos", b"1"),
            ("mqtt.retain", b"false"),
            ("mqtt.contentType", b"application/json"),
            ("mqtt.responseTopic", b"reply/to"),
            ("mqtt.correlationData", b"\x00\xff"),
            ("mqtt.user.site", b"n"),
            ("mqtt.user.site", b"o"),
        ])
    );
    assert_eq!(
        headers(&message(b"")),
        expected(&[
            ("a", b"fixed"),
            ("site", b"nord"),
            ("mqtt.topic", TOPIC.as_bytes()),
            ("mqtt.qos", b"1"),
            ("mqtt.retain", b"false"),
        ])
    );
}

#[test]
fn no_header_has_a_name_that_kafka_clients_cannot_take() {
    let properties = Properties {
        user: vec![("a\0b".to_owned(), "v".to_owned())],
        ..Properties::default()
    };
    let mapping = Mapping {
        propagate: vec![Propagate::UserProperties],
        ..mapping()
    };
    let message = Message {
        properties: Some(&properties),
        ..message(b"")
    };
    let (_, record) = map(&mapping, PayloadFormat::Bytes, &message).unwrap();
    assert_eq!(
        record.headers().map(|(name, _)| name).collect::<Vec<_>>(),
        ["mqtt.user.a\u{fffd}b"]
    );
}

#[test]
fn a_record_says_nothing_of_the_message_before() {
    let properties = properties();
    let mapping = Mapping {
        topic: "t.{plant}".to_owned(),
        key: "{message.responseTopic}".to_owned(),
        propagate: vec![Propagate::UserProperties],
        value: Some("payload".to_owned()),
        ..mapping()
    };
    let mut mapper = crate::support::compile(&mapping, PayloadFormat::Text).unwrap();
    let mut record = Record::default();
    let long = Message {
        properties: Some(&properties),
        ..message(b"a long payload")
    };
    mapper.map(&long, &mut record).unwrap();
    assert_eq!(
        record.size(),
        "reply/to".len() + 2 * "mqtt.user.site".len() + 2 + "a long payload".len()
    );
    mapper
        .map(
            &Message {
                topic: "plants/\u{1}/lines/7",
                ..long
            },
            &mut record,
        )
        .unwrap_err();
    mapper
        .map(
            &Message {
                topic: "plants/s/lines/7",
                ..message(b"")
            },
            &mut record,
        )
        .unwrap();
    assert_eq!(record.topic(), "t.s");
    assert_eq!(record.key(), None);
    assert_eq!(record.headers().len(), 0);
    assert_eq!(record.value(), Some(&b""[..]));
}

#[test]
fn an_error_says_where_and_does_not_repeat_the_payload() {
    let secret = format!(r#"{{"password":"{}","list":[1],"n":1}}"#, "hunter2".repeat(1000));
    for expression in [
        "payload.password > 1",
        "payload.password * 2",
        "payload.list['x']",
        "payload.list[5]",
        "payload < payload",
        "payload.n + payload.password",
        "merge(payload.password, {})",
        "int(payload.password)",
        "{payload.list: 1}",
        "payload[payload.password]",
        "payload && true",
    ] {
        let error = value(expression, &secret).unwrap_err();
        let text = error.to_string();
        assert_eq!(error.reason(), "ExpressionFailed", "{expression}: {text}");
        assert!(
            text.starts_with("value: ") && text.len() < 400,
            "{expression}: {text}"
        );
        assert!(
            expression.contains("[payload.password]") || !text.contains("hunter2"),
            "{expression}: {text}"
        );
        assert!(matches!(
            error,
            MapError::ExpressionFailed {
                part: Part::Value,
                ..
            }
        ));
    }
}

#[test]
fn how_often_a_message_has_come_from_kafka_travels_with_it() {
    let properties = Properties {
        user: vec![("millrace-hops".into(), "2".into()), ("site".into(), "A1".into())],
        ..Properties::default()
    };
    let mapping = Mapping {
        propagate: vec![Propagate::UserProperties],
        ..mapping()
    };
    let message = Message {
        properties: Some(&properties),
        ..message(b"")
    };
    let (_, record) = map(&mapping, PayloadFormat::Bytes, &message).unwrap();
    assert_eq!(
        record.headers().collect::<Vec<_>>(),
        [("mqtt.user.site", &b"A1"[..]), ("millrace.hops", &b"2"[..])]
    );
}

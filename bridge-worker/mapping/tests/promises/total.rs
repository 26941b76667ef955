//! Mapping always answers.

use std::cell::RefCell;

use millrace_contract::{Mapping, PayloadFormat, Propagate};
use millrace_mapping::{Decision, Mapper, Message, Properties, Record, check_kafka_topic};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::{filters, mapping};

fn mappings() -> Vec<Mapping> {
    let all = Propagate::ALL.to_vec();
    let expressions = [
        (
            "payload.a > 1",
            "payload.a * 1.8 + payload.b / payload.a - payload.a % 3",
        ),
        ("payload == payload", "merge(payload, {'x': x})"),
        (
            "size(message.levels) > 1",
            "without(payload, x, 'a', message.topic)",
        ),
        ("has(payload.a) || true", "payload.map(p, p + p)"),
        ("-payload != 1", "[payload, message, x, payload.a, -payload.a]"),
        ("x in payload", "get(payload, x, payload)"),
        ("payload.exists(p, p == payload)", "string(payload) + x"),
        ("payload[0] < payload[1]", "payload[payload]"),
        ("message.user['a'] == x", "int(payload) + size(payload)"),
    ];
    let mapping = |(when, value): &(&str, &str)| Mapping {
        topic: "t.{x}".to_owned(),
        key: "{message.topic}{payload}".to_owned(),
        headers: [("h".to_owned(), "{message.contentType}".to_owned())].into(),
        propagate: all.clone(),
        when: Some((*when).to_owned()),
        value: Some((*value).to_owned()),
        ..mapping()
    };
    expressions.iter().map(mapping).collect()
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<u64>().prop_map(|n| n.to_string()),
        (-5_i32..5).prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("JSON", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "[ -~é]{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            prop::collection::vec((prop_oneof![Just("a"), Just("b"), Just("p")], inner), 0..4).prop_map(
                |entries| {
                    let entries: Vec<_> = entries
                        .iter()
                        .map(|(key, value)| format!("\"{key}\":{value}"))
                        .collect();
                    format!("{{{}}}", entries.join(","))
                }
            ),
        ]
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => json().prop_map(String::into_bytes), 1 => prop::collection::vec(any::<u8>(), 0..64)]
}

fn properties() -> impl Strategy<Value = Option<Properties>> {
    let text = || prop::option::of("\\PC{0,8}");
    let data = prop::option::of(prop::collection::vec(any::<u8>(), 0..8).prop_map(bytes::Bytes::from));
    let user = prop::collection::vec(("[a\0é]{0,3}", "\\PC{0,4}"), 0..4);
    prop::option::of((text(), text(), data, user).prop_map(
        |(content_type, response_topic, correlation_data, user)| Properties {
            content_type,
            response_topic,
            correlation_data,
            user,
        },
    ))
}

#[test]
fn every_message_becomes_a_record_is_filtered_or_is_refused_with_a_reason() {
    let filters = filters(&["a/+x/#rest", "+x", "#x"]);
    let formats = [PayloadFormat::Bytes, PayloadFormat::Text, PayloadFormat::Json];
    let compile = |mapping: &Mapping| {
        // Not every expression makes sense in every format.
        let mappers: Vec<_> = formats
            .iter()
            .flat_map(|format| Mapper::compile(mapping, &filters, *format))
            .collect();
        assert!(!mappers.is_empty(), "{mapping:?}");
        mappers
    };
    let mappers: RefCell<Vec<_>> = RefCell::new(mappings().iter().flat_map(compile).collect());
    let topic = prop_oneof!["[a-z/$+#é\0]{0,12}", "a/[a-z.]{1,3}/b"];
    let inputs = (topic, payload(), properties(), any::<u8>(), any::<i64>());
    let mut runner = TestRunner::new(ProptestConfig::with_cases(4000));
    let outcome = runner.run(&inputs, |(topic, payload, properties, qos, received_at_ms)| {
        let message = Message {
            topic: &topic,
            payload: &payload,
            qos,
            retain: true,
            received_at_ms,
            properties: properties.as_ref(),
        };
        let mut record = Record::default();
        for mapper in mappers.borrow_mut().iter_mut() {
            match mapper.map(&message, &mut record) {
                Ok(Decision::Write) => {
                    prop_assert!(check_kafka_topic(record.topic()).is_ok());
                    prop_assert!(record.topic().starts_with("t."));
                    prop_assert!(record.value().is_some());
                }
                Ok(Decision::Filtered) => {}
                Err(error) => prop_assert!(error.to_string().len() < 1000, "{}", error),
            }
        }
        Ok(())
    });
    outcome.unwrap();
}

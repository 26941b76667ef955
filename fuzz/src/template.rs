//! A template, which is an expression as well, and a payload on the lines after it.

use millrace_contract::{Mapping, PayloadFormat};
use millrace_mapping::{Decision, Filter, Mapper, Message, Properties, Record, Template, check_kafka_topic};

/// Whatever a user writes and a device sends: it is refused with words, or there is a record that Kafka takes.
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let payload = parts.next().unwrap_or_default();
    if let Ok(template) = Template::parse(&text) {
        assert!(!template.is_literal() || template.literal_prefix().len() <= text.len());
    }
    for mapping in mappings(&text) {
        for format in [PayloadFormat::Json, PayloadFormat::Bytes] {
            match Mapper::compile(&mapping, &filters(), format) {
                Ok(mapper) => map(mapper, payload),
                Err(errors) => {
                    assert!(!errors.is_empty(), "refused without saying why");
                    assert!(errors.iter().all(|error| !error.message.is_empty()));
                }
            }
        }
    }
}

fn filters() -> [Filter; 2] {
    ["a/+x/#rest", "+x/#rest"].map(|filter| Filter::parse(filter).expect("it is a filter"))
}

fn mappings(text: &str) -> [Mapping; 4] {
    let plain = Mapping {
        when: None,
        topic: "t".to_owned(),
        allowed_topics: vec!["*".to_owned()],
        key: String::new(),
        headers: Default::default(),
        propagate: Vec::new(),
        value: None,
    };
    [
        Mapping {
            topic: text.to_owned(),
            ..plain.clone()
        },
        Mapping {
            key: text.to_owned(),
            ..plain.clone()
        },
        Mapping {
            when: Some(text.to_owned()),
            ..plain.clone()
        },
        Mapping {
            value: Some(text.to_owned()),
            ..plain
        },
    ]
}

fn map(mut mapper: Mapper, payload: &[u8]) {
    let properties = Properties {
        user: vec![("x".to_owned(), String::from_utf8_lossy(payload).into_owned())],
        ..Properties::default()
    };
    let mut record = Record::default();
    for topic in ["a/b/c/d", "a", "", "$SYS/x"] {
        let message = Message {
            topic,
            payload,
            qos: 1,
            retain: false,
            received_at_ms: 0,
            properties: Some(&properties),
        };
        match mapper.map(&message, &mut record) {
            Ok(Decision::Write) => assert_eq!(check_kafka_topic(record.topic()), Ok(())),
            Ok(Decision::Filtered) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

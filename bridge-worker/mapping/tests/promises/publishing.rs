//! Every example of `docs/publishing.md` is true.

use millrace_contract::{PayloadFormat, Publishing};
use millrace_mapping::{Decision, MapError, MappingError, Publication, RecordMapper, SourceRecord};
use serde_yaml::Value as Yaml;

use crate::tables;

const DOCUMENT: &str = include_str!("../../../../docs/publishing.md");

fn publishing() -> Publishing {
    Publishing::to("announcements", Vec::new())
}

/// The record at the top of the page.
struct Example(Yaml);

impl Example {
    fn read() -> Self {
        let yaml = tables::example(DOCUMENT);
        assert_eq!(yaml["payloadFormat"].as_str(), Some("JSON"));
        Self(yaml)
    }

    fn with<T>(&self, act: impl FnOnce(SourceRecord<'_>) -> T) -> T {
        let headers: Vec<_> = self.0["headers"]
            .as_mapping()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.as_str().unwrap(), value.as_str().map(str::as_bytes)))
            .collect();
        act(SourceRecord {
            topic: self.0["topic"].as_str().unwrap(),
            partition: i32::try_from(self.0["partition"].as_i64().unwrap()).unwrap(),
            offset: self.0["offset"].as_i64().unwrap(),
            timestamp_ms: self.0["timestamp"].as_i64().unwrap(),
            key: self.0["key"].as_str().map(str::as_bytes),
            value: self.0["value"].as_str().map(str::as_bytes),
            headers: &headers,
        })
    }

    /// What becomes of the record under a mapping that compiles.
    fn map(&self, change: impl FnOnce(&mut Publishing)) -> Result<Publication, MapError> {
        self.with(|record| map(&record, change).map(|(_, message)| message))
    }
}

fn compile(change: impl FnOnce(&mut Publishing)) -> Result<RecordMapper, Vec<MappingError>> {
    let mut changed = publishing();
    change(&mut changed);
    RecordMapper::compile(&changed, PayloadFormat::Json)
}

fn map(
    record: &SourceRecord<'_>,
    change: impl FnOnce(&mut Publishing),
) -> Result<(Decision, Publication), MapError> {
    let mut message = Publication::default();
    let decision = compile(change).unwrap().map(record, &mut message)?;
    Ok((decision, message))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn topics_are_rendered_as_documented() {
    let example = Example::read();
    for row in tables::rows(
        DOCUMENT,
        &["Template", "`allowedTopics`", "Topic"].map(|h| h.trim_matches('`')),
    ) {
        let rendered = example.map(|publishing| {
            publishing.topic.clone_from(&row[0]);
            publishing.allowed_topics = match row[1].as_str() {
                "" => Vec::new(),
                filter => vec![filter.to_owned()],
            };
        });
        match &rendered {
            Ok(message) => assert_eq!(text(message.topic()), row[2], "{row:?}"),
            Err(error) => assert_eq!(error.reason(), row[2], "{row:?}: {error}"),
        }
    }
}

#[test]
fn expressions_of_records_give_what_is_documented() {
    let example = Example::read();
    for row in tables::rows(DOCUMENT, &["Expression of a record", "Gives"]) {
        let message = example
            .map(|publishing| publishing.value = Some(row[0].clone()))
            .unwrap();
        assert_eq!(text(message.payload().unwrap()), row[1], "{row:?}");
    }
}

#[test]
fn every_variable_of_a_record_is_documented() {
    let example = Example::read();
    let documented: Vec<_> = tables::rows(DOCUMENT, &["Variable", "Type", "What it is"])
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    for name in &documented {
        example
            .map(|publishing| publishing.value = Some(name.clone()))
            .unwrap();
    }
    let fields = example
        .map(|publishing| publishing.value = Some("record.map(field, field)".into()))
        .unwrap();
    for field in text(fields.payload().unwrap())
        .trim_matches(['[', ']'])
        .split(',')
    {
        let name = format!("record.{}", field.trim_matches('"'));
        assert!(documented.contains(&name), "{name}");
    }
}

#[test]
fn properties_come_from_headers_unless_the_route_says_otherwise() {
    let example = Example::read();
    let message = example.map(|_| ()).unwrap();
    assert_eq!(message.payload(), None, "the value, byte for byte");
    assert_eq!(message.content_type(), Some(&b"application/json"[..]));
    assert_eq!(message.response_topic(), Some(&b"plants/nord/answers"[..]));
    assert_eq!(message.correlation_data(), Some(&b"c-17"[..]));
    let hops = ("millrace-hops", &b"1"[..]);
    assert_eq!(message.user().collect::<Vec<_>>(), [("site", &b"A1"[..]), hops]);

    let message = example
        .map(|publishing| {
            publishing.content_type = Some(String::new());
            publishing.response_topic = Some("answers/{record.key}".into());
            publishing.correlation_data = Some("{record.offset}".into());
            publishing.user_properties = Some([("tenant".into(), "{record.headers.tenant}".into())].into());
        })
        .unwrap();
    assert_eq!(message.content_type(), None);
    assert_eq!(message.response_topic(), Some(&b"answers/press-7"[..]));
    assert_eq!(message.correlation_data(), Some(&b"1042"[..]));
    assert_eq!(
        message.user().collect::<Vec<_>>(),
        [("tenant", &b"acme"[..]), hops]
    );

    let message = example
        .map(|publishing| publishing.user_properties = Some(Default::default()))
        .unwrap();
    assert_eq!(message.user().collect::<Vec<_>>(), [hops]);
}

#[test]
fn a_tombstone_is_a_message_without_payload_whatever_value_says() {
    Example::read().with(|record| {
        let tombstone = SourceRecord {
            value: None,
            ..record
        };
        let (decision, message) = map(&tombstone, |publishing| {
            publishing.value = Some("payload.set.speed".into());
        })
        .unwrap();
        assert_eq!((decision, message.payload()), (Decision::Write, None));
        let (decision, _) = map(&tombstone, |publishing| {
            publishing.when = Some("payload != null".into())
        })
        .unwrap();
        assert_eq!(decision, Decision::Filtered);
    });
}

#[test]
fn a_record_without_key_is_not_taken_for_one_with_an_empty_key() {
    Example::read().with(|record| {
        let topic = |publishing: &mut Publishing| {
            publishing.topic = "plants/{record.key}/cmd".into();
            publishing.allowed_topics = vec!["plants/+/cmd".into()];
        };
        let none = map(&SourceRecord { key: None, ..record }, topic).unwrap_err();
        assert_eq!(none.reason(), "NoKey");
        let (_, empty) = map(
            &SourceRecord {
                key: Some(b""),
                ..record
            },
            topic,
        )
        .unwrap();
        assert_eq!(text(empty.topic()), "plants//cmd");
        let hostile = SourceRecord {
            key: Some(b"a/../#"),
            ..record
        };
        assert_eq!(map(&hostile, topic).unwrap_err().reason(), "TopicInvalid");
        let not_text = SourceRecord {
            key: Some(&[0xff]),
            ..record
        };
        assert_eq!(map(&not_text, topic).unwrap_err().reason(), "TopicInvalid");
    });
}

#[test]
fn every_way_to_mqtt_is_counted_and_the_ninth_is_refused() {
    Example::read().with(|record| {
        let after = |hops: &str| {
            let headers = [
                ("millrace.hops", Some(hops.as_bytes())),
                ("mqtt.user.millrace-hops", Some(&b"0"[..])),
            ];
            let record = SourceRecord {
                headers: &headers,
                ..record
            };
            map(&record, |_| ()).map(|(_, message)| {
                let user: Vec<(String, String)> = message
                    .user()
                    .map(|(name, value)| (name.to_owned(), text(value).to_owned()))
                    .collect();
                user
            })
        };
        let property = |hops: &str| vec![("millrace-hops".to_owned(), hops.to_owned())];
        assert_eq!(after("3"), Ok(property("4")));
        assert_eq!(after("not ours"), Ok(property("1")));
        assert_eq!(after("8").unwrap_err().reason(), "Loop");
    });
}

#[test]
fn what_a_broker_would_end_the_connection_for_is_never_sent() {
    Example::read().with(|record| {
        let long = "x".repeat(65_536);
        let hostile: [(&str, &[u8], &str); 7] = [
            ("mqtt.contentType", b"a\0b", "PropertyInvalid"),
            ("mqtt.contentType", &[0xff], "PropertyInvalid"),
            ("mqtt.contentType", long.as_bytes(), "PropertyInvalid"),
            ("mqtt.responseTopic", b"answers/+", "TopicInvalid"),
            ("mqtt.correlationData", long.as_bytes(), "PropertyInvalid"),
            ("mqtt.user.site", b"a\0b", "PropertyInvalid"),
            ("mqtt.user.a\0b", b"x", "PropertyInvalid"),
        ];
        for (name, value, reason) in hostile {
            let headers = [(name, Some(value))];
            let headers = SourceRecord {
                headers: &headers,
                ..record
            };
            assert_eq!(map(&headers, |_| ()).unwrap_err().reason(), reason, "{name}");
        }
    });
}

#[test]
fn mistakes_are_refused_as_documented() {
    for row in tables::rows(DOCUMENT, &["Field of a route", "Written", "Refused because"]) {
        let refused = compile(|publishing| match row[0].as_str() {
            "topic" => {
                publishing.topic.clone_from(&row[1]);
                publishing.allowed_topics = match row[1].contains('{') {
                    true => vec!["#".into()],
                    false => Vec::new(),
                };
            }
            "value" => publishing.value = Some(row[1].clone()),
            "userProperties[millrace-hops]" => {
                publishing.user_properties = Some([("millrace-hops".to_owned(), row[1].clone())].into());
            }
            _ => {
                publishing.topic = "plants/{record.key}/cmd".into();
                publishing.allowed_topics = match row[1].as_str() {
                    "" => Vec::new(),
                    filter => vec![filter.into()],
                };
            }
        });
        let errors = refused.unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(
            (errors[0].part.to_string(), &errors[0].message),
            (row[0].clone(), &row[2])
        );
    }
}

#[test]
fn every_reason_of_a_record_is_documented() {
    let documented: Vec<_> = tables::rows(DOCUMENT, &["Reason of a record", "What happened"])
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(documented, ["Loop", "NoKey", "TopicInvalid", "PropertyInvalid"]);
}

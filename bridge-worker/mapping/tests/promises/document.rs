//! Every example of `docs/mapping.md` is true.

use millrace_contract::{Mapping, PayloadFormat};
use millrace_mapping::{Filter, MapError, Mapper, Message, Properties, Record};
use serde_yaml::Value as Yaml;

use crate::support::mapping;
use crate::tables;

const DOCUMENT: &str = include_str!("../../../../docs/mapping.md");

/// The rows of all tables with this header line.
fn rows(header: &[&str]) -> Vec<Vec<String>> {
    tables::rows(DOCUMENT, header)
}

/// The message at the top of the page.
struct Example {
    yaml: Yaml,
    properties: Properties,
}

impl Example {
    fn read() -> Self {
        let yaml = tables::example(DOCUMENT);
        let text = |value: &Yaml| value.as_str().unwrap().to_owned();
        let user = yaml["user"]
            .as_mapping()
            .unwrap()
            .iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect();
        let properties = Properties {
            content_type: Some(text(&yaml["contentType"])),
            user,
            ..Properties::default()
        };
        assert_eq!(yaml["payloadFormat"].as_str(), Some("JSON"));
        Self { yaml, properties }
    }

    fn text(&self, field: &str) -> &str {
        self.yaml[field].as_str().unwrap()
    }

    fn mapper(&self, change: impl FnOnce(&mut Mapping)) -> Result<Mapper, String> {
        let mut mapping = mapping();
        change(&mut mapping);
        let filter = Filter::parse(self.text("filter")).unwrap();
        Mapper::compile(&mapping, &[filter], PayloadFormat::Json)
            .map_err(|mut errors| errors.remove(0).message)
    }

    /// What the record's value is, with the example's payload or another.
    fn value(&self, expression: &str, payload: Option<&str>) -> Result<String, MapError> {
        let mut mapper = self
            .mapper(|mapping| mapping.value = Some(expression.to_owned()))
            .unwrap();
        let mut record = Record::default();
        mapper.map(&self.message(payload), &mut record)?;
        Ok(String::from_utf8(record.value().unwrap().to_vec()).unwrap())
    }

    fn message<'a>(&'a self, payload: Option<&'a str>) -> Message<'a> {
        Message {
            topic: self.text("topic"),
            payload: payload.unwrap_or(self.text("payload")).as_bytes(),
            qos: self.yaml["qos"].as_u64().unwrap() as u8,
            retain: self.yaml["retain"].as_bool().unwrap(),
            received_at_ms: self.yaml["receivedAt"].as_i64().unwrap(),
            properties: Some(&self.properties),
        }
    }
}

#[test]
fn filters_match_and_bind_as_documented() {
    for row in rows(&["Filter", "Sent to the broker", "Topic", "Names"]) {
        let [filter, wire, topic, names] = row.as_slice() else {
            panic!("{row:?}")
        };
        let filter = Filter::parse(filter).unwrap();
        assert_eq!(filter.wire(), wire);
        assert_eq!(filter.matches(topic), names != "no match", "{row:?}");
        if filter.matches(topic) {
            let template: Vec<_> = filter.names().map(|name| format!("{name}={{{name}}}")).collect();
            let mapping = Mapping {
                key: template.join(" "),
                ..mapping()
            };
            let mut mapper = Mapper::compile(&mapping, &[filter], PayloadFormat::Bytes).unwrap();
            let mut record = Record::default();
            mapper
                .map(
                    &Message {
                        topic,
                        ..crate::support::message(b"")
                    },
                    &mut record,
                )
                .unwrap();
            assert_eq!(record.key().unwrap(), names.as_bytes(), "{row:?}");
        }
    }
}

#[test]
fn templates_render_as_documented() {
    let example = Example::read();
    for row in rows(&["Template", "Renders to"]) {
        let [template, rendered] = row.as_slice() else {
            panic!("{row:?}")
        };
        let mut mapper = example
            .mapper(|mapping| mapping.key.clone_from(template))
            .unwrap();
        let mut record = Record::default();
        mapper.map(&example.message(None), &mut record).unwrap();
        assert_eq!(record.key().unwrap(), rendered.as_bytes(), "{row:?}");
    }
}

#[test]
fn expressions_give_what_is_documented() {
    let example = Example::read();
    let rows_with_message = rows(&["Expression", "Gives"]);
    assert!(rows_with_message.len() >= 20);
    for row in rows_with_message {
        assert_eq!(
            example.value(&row[0], None).as_deref(),
            Ok(row[1].as_str()),
            "{row:?}"
        );
    }
    for row in rows(&["Payload", "Expression", "Gives"]) {
        assert_eq!(
            example.value(&row[1], Some(&row[0])).as_deref(),
            Ok(row[2].as_str()),
            "{row:?}"
        );
    }
    for row in rows(&["Payload", "Expression", "Reason"]) {
        assert_eq!(
            example.value(&row[1], Some(&row[0])).unwrap_err().reason(),
            row[2],
            "{row:?}"
        );
    }
}

#[test]
fn mistakes_are_refused_as_documented() {
    let example = Example::read();
    for row in rows(&["Expression", "Refused because"]) {
        let refused = example
            .mapper(|mapping| mapping.value = Some(row[0].clone()))
            .map(|_| ());
        assert_eq!(refused.unwrap_err(), row[1], "{row:?}");
    }
}

#[test]
fn every_variable_is_documented() {
    let example = Example::read();
    let documented: Vec<_> = rows(&["Name", "Type", "What it is"])
        .into_iter()
        .skip(1)
        .map(|row| row[0].clone())
        .collect();
    for name in &documented {
        example.value(name, None).unwrap();
    }
    let fields = example.value("message.map(field, field)", None).unwrap();
    for field in fields.trim_matches(['[', ']']).split(',') {
        let name = format!("message.{}", field.trim_matches('"'));
        assert!(documented.contains(&name), "{name}");
    }
}

#[test]
fn every_header_is_documented() {
    use millrace_contract::Propagate;
    let example = Example::read();
    let all = Propagate::ALL;
    let properties = Properties {
        content_type: Some(String::new()),
        response_topic: Some(String::new()),
        correlation_data: Some(Default::default()),
        user: vec![("<name>".to_owned(), String::new())],
    };
    let rows = rows(&["propagate", "Header", "Value"]);
    assert_eq!(rows.len(), all.len());
    for (row, what) in rows.iter().zip(all) {
        assert_eq!(row[0], format!("{what:?}"));
        let mut mapper = example.mapper(|mapping| mapping.propagate = vec![what]).unwrap();
        let mut record = Record::default();
        mapper
            .map(
                &Message {
                    properties: Some(&properties),
                    ..example.message(None)
                },
                &mut record,
            )
            .unwrap();
        assert_eq!(
            record.headers().map(|(name, _)| name).collect::<Vec<_>>(),
            [row[1].as_str()]
        );
    }
}

#[test]
fn every_reason_is_documented() {
    use millrace_mapping::{Part, check_kafka_topic};
    let text = String::new;
    let errors = [
        MapError::NoFilter,
        MapError::PayloadNotUtf8(text()),
        MapError::PayloadNotJson(text()),
        MapError::ExpressionFailed {
            part: Part::Key,
            message: text(),
        },
        MapError::ResultType {
            part: Part::Key,
            found: text(),
            wanted: "",
        },
        MapError::NumberNotFinite { part: Part::Key },
        MapError::TopicInvalid {
            topic: text(),
            problem: check_kafka_topic("").unwrap_err(),
        },
        MapError::TopicNotAllowed { topic: text() },
    ];
    let documented: Vec<_> = rows(&["Reason", "What happened"])
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    assert_eq!(documented, errors.map(|error| error.reason().to_owned()));
}

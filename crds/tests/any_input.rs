//! No manifest makes validation panic, and what it accepts can be run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use millrace_contract::{AnyDocument, Value as Secret};
use millrace_crds::{ManifestFile, RenderOptions, Report, SessionSource, document, validate};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value};

fn texts() -> Vec<String> {
    let folder = Path::new(".");
    [
        "../examples/plant.yaml",
        "../examples/basic-auth.yaml",
        "../examples/secured.yaml",
        "../examples/tokens.yaml",
        "tests/valid/bounds.yaml",
    ]
    .map(|file| std::fs::read_to_string(folder.join(file)).unwrap())
    .into()
}

fn checked(text: String) -> Report {
    let last_line = text.lines().count().max(1);
    let report = validate(&[ManifestFile {
        path: "any.yaml".into(),
        text,
    }]);
    for finding in &report.findings {
        assert!(
            !finding.message.is_empty() && (1..=last_line).contains(&finding.line),
            "{finding}"
        );
    }
    report
}

/// What is accepted without an error has to render, and the document has to survive the way to a worker.
fn assert_routes_render(report: &Report) {
    let options = RenderOptions {
        session: SessionSource::Instance("test"),
        places: &|_| Secret::Env("X".into()),
    };
    for route in &report.objects.routes {
        let objects = &report.objects;
        let (Some(broker), Some(sink)) = (objects.broker_of(route), objects.sink_of(route)) else {
            continue;
        };
        let rendered = document(route, broker, sink, &options).unwrap();
        let json = serde_json::to_string(&rendered).unwrap();
        assert_eq!(serde_json::from_str::<AnyDocument>(&json).unwrap(), rendered);
    }
}

/// Places in a value, as JSON pointers.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields
                .iter()
                .for_each(|(key, value)| places(value, &format!("{at}/{}", key.replace('/', "~1")), found));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-2_i64..70_000).prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-z]{0,3}[/+#{}*.:][a-z]{0,3}[/+#{}*.:]?".prop_map(Value::from),
        prop::sample::select(vec![
            "0s",
            "1h",
            "99999h",
            "1Ki",
            "32Mi",
            "*",
            "Unordered",
            "DeadLetter",
            "JSON",
            "{plant}",
            "mqtt://a",
            "a:1"
        ])
        .prop_map(Value::from),
        Just(Value::Array(Vec::new())),
        Just(Value::Object(Map::new())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text(text in "(apiVersion: millrace.dev/v1alpha1\nkind: (MqttBroker|KafkaSink|TopicRoute)\n)?(.|\n){0,200}") {
        assert_routes_render(&checked(text));
    }

    #[test]
    fn manifests_with_a_piece_replaced(
        which in 0_usize..3,
        at in any::<prop::sample::Index>(),
        length in 0_usize..30,
        piece in "[ \\-a-z0-9{}:,#'\"\n\t+*&|>~é]{0,8}",
    ) {
        let characters: Vec<char> = texts()[which].chars().collect();
        let start = at.index(characters.len());
        let end = (start + length).min(characters.len());
        let text: String =
            characters[..start].iter().copied().chain(piece.chars()).chain(characters[end..].iter().copied()).collect();
        assert_routes_render(&checked(text));
    }

    #[test]
    fn manifests_with_other_values(
        which in 0_usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), value()), 1..4),
    ) {
        let mut documents = Vec::new();
        for document in serde_yaml::Deserializer::from_str(&texts()[which]) {
            documents.push(Value::deserialize(document).unwrap());
        }
        let mut documents = Value::Array(documents);
        for (place, value) in changes {
            let mut all = Vec::new();
            places(&documents, "", &mut all);
            let inner: Vec<&String> = all.iter().filter(|place| place.matches('/').count() > 1).collect();
            *documents.pointer_mut(inner[place.index(inner.len())]).unwrap() = value;
        }
        let text: String =
            documents.as_array().unwrap().iter().map(|d| format!("---\n{}", serde_yaml::to_string(d).unwrap())).collect();
        assert_routes_render(&checked(text));
    }
}

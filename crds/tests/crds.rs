//! The generated definitions: up to date, described, bounded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use millrace_crds::{CRD_VERSION, CRD_VERSION_ANNOTATION, crd_files, crds};
use serde::Deserialize;
use serde_json::Value;

/// Set to write the files of `crds/` instead of comparing them.
const UPDATE: &str = "UPDATE";

/// Where the files are: for kubectl, and copies for Helm, whose templates read no file outside their chart.
const FOLDERS: [&str; 2] = ["crds", "charts/millrace/files/crds"];

#[test]
fn the_files_are_what_the_api_types_say() {
    let root = Path::new("..");
    for folder in FOLDERS {
        for (name, expected) in crd_files().unwrap() {
            let path = root.join(folder).join(&name);
            if std::env::var_os(UPDATE).is_some() {
                std::fs::write(&path, &expected).unwrap();
            }
            let written = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                written == expected,
                "{folder}/{name} is not what the API types say; write it with `make crds`"
            );
        }
    }
}

#[test]
fn every_definition_says_its_version() {
    for crd in crds() {
        let version = &crd.metadata.annotations.unwrap()[CRD_VERSION_ANNOTATION];
        assert_eq!(*version, CRD_VERSION.to_string());
    }
}

/// The schemas that a column's path leads to from `schema`: one for each way that `*` stands for.
fn shown<'s>(schema: &'s Value, path: &str) -> Vec<&'s Value> {
    let path = path
        .replace("[?(@.type==\"Ready\")]", ".[]")
        .replace("[0]", ".[]")
        .replace("['", ".['");
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.fold(vec![schema], |schemas, step| {
        let below = schemas.into_iter().flat_map(|schema| {
            let properties = schema["properties"].as_object();
            let mut properties = properties.into_iter().flatten();
            match step.strip_prefix("['").and_then(|step| step.strip_suffix("']")) {
                _ if step == "*" => properties.map(|(_, schema)| schema).collect(),
                _ if step == "[]" => vec![&schema["items"]],
                None => vec![&schema["properties"][step]],
                Some(names) => {
                    let names: Vec<&str> = names.split("','").collect();
                    vec![
                        properties
                            .find(|(name, _)| names.contains(&name.as_str()))
                            .unwrap()
                            .1,
                    ]
                }
            }
        });
        below.collect()
    })
}

#[test]
fn every_column_shows_a_field_that_there_is() {
    for crd in crds() {
        let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        for column in version["additionalPrinterColumns"].as_array().unwrap() {
            let path = column["jsonPath"].as_str().unwrap();
            let found = shown(&version["schema"]["openAPIV3Schema"], path);
            let is_there = !found.is_empty() && found.iter().all(|schema| schema.is_object());
            assert!(
                is_there || path.starts_with(".metadata."),
                "{}: {path}",
                crd.spec.names.kind
            );
        }
    }
}

#[test]
fn routes_with_all_their_columns_fit_150() {
    let routes = crds().into_iter().find(|crd| crd.spec.names.kind == "TopicRoute");
    let columns = routes.unwrap().spec.versions.remove(0).additional_printer_columns;
    // A route that is at work, with names of the usual length.
    let cells = [
        ("From", "plant-mqtt"),
        ("To", "main"),
        ("Topic", "telemetry.{plant}"),
        ("Rate", "123456"),
        ("Received", "1234567890"),
        ("Written", "1234567890"),
        ("Ready", "False"),
        ("Reason", "BrokerUnreachable"),
        ("Age", "365d"),
    ];
    let width = |title: &str| {
        let cell = cells.iter().find(|(name, _)| *name == title);
        title.len().max(cell.map_or(0, |(_, text)| text.len()))
    };
    let columns = columns.unwrap();
    let taken: usize = columns.iter().map(|column| 3 + width(&column.name)).sum();
    assert!("telemetry-line-7".len() + taken <= 150, "{taken}");
}

/// Every schema below the root of a definition, with its path.
fn each_property(visit: &mut impl FnMut(&str, &Value)) {
    fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
        visit(path, schema);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(&format!("{path}.{name}"), property, visit);
        }
        for (step, inner) in [("[]", &schema["items"]), ("{}", &schema["additionalProperties"])] {
            if inner.is_object() {
                walk(&format!("{path}{step}"), inner, visit);
            }
        }
    }
    for crd in crds() {
        let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
        walk(&crd.spec.names.kind, &version["schema"]["openAPIV3Schema"], visit);
    }
}

#[test]
fn every_field_is_described() {
    let (mut count, mut silent) = (0, Vec::new());
    each_property(&mut |path, schema| {
        let is_field = !path.ends_with("[]") && !path.ends_with("{}");
        let description = schema["description"].as_str().unwrap_or_default();
        count += usize::from(is_field);
        if is_field && (description.len() < 10 || !description.ends_with('.')) {
            silent.push(format!("{path}: {description:?}"));
        }
    });
    assert!(count > 60, "{count}");
    assert!(silent.is_empty(), "{silent:#?}");
}

#[test]
fn everything_is_bounded() {
    let mut unbounded = Vec::new();
    each_property(&mut |path, schema| {
        let has = |keyword: &str| !schema[keyword].is_null();
        let is_bounded = match schema["type"].as_str() {
            Some("string") => has("maxLength") || has("enum") || schema["format"] == "date-time",
            Some("array") => has("maxItems"),
            Some("object") => {
                has("properties") != has("additionalProperties")
                    && has("additionalProperties") == has("maxProperties")
            }
            Some("integer") => has("minimum"),
            Some("boolean") => true,
            _ => has("x-kubernetes-int-or-string") && has("maxLength"),
        };
        if !is_bounded {
            unbounded.push(path.to_owned());
        }
    });
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

#[test]
fn no_format_is_unknown_to_api_servers() {
    each_property(&mut |path, schema| {
        let format = schema["format"].as_str().unwrap_or("int32");
        assert!(
            ["int32", "int64", "date-time"].contains(&format),
            "{path}: {format}"
        );
        assert!(schema["nullable"].is_null(), "{path} is nullable");
    });
}

#[test]
fn replicas_have_no_upper_bound() {
    // An API server would refuse a write to /scale above it; too many replicas are clamped and reported instead.
    each_property(&mut |path, schema| {
        if path == "TopicRoute.spec.replicas" {
            assert!(schema["maximum"].is_null() && schema["x-kubernetes-validations"].is_null());
        }
    });
}

#[test]
fn all_definitions_in_one_text_are_the_files() {
    let yaml = millrace_crds::crd_yaml().unwrap();
    let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&yaml)
        .map(|document| Value::deserialize(document).unwrap())
        .collect();
    let names: Vec<&str> = documents
        .iter()
        .map(|d| d["metadata"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "kafkasinks.millrace.dev",
            "mqttbrokers.millrace.dev",
            "topicroutes.millrace.dev"
        ]
    );
}

#[test]
fn nothing_else_is_found_in_the_folders() {
    // `kubectl apply -f crds/` takes every .yaml, .yml and .json that lies directly in it.
    let expected: Vec<String> = crd_files().unwrap().into_iter().map(|(name, _)| name).collect();
    let root = Path::new("..");
    for folder in FOLDERS {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let is_manifest = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
            assert!(!is_manifest || expected.contains(&name), "{folder}/{name}");
        }
    }
}

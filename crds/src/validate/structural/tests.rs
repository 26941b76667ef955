use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The keywords that [`Checker`] acts on, and those that have nothing to say about a value.
const KNOWN: &[&str] = &[
    "type",
    "format",
    "enum",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "minItems",
    "maxItems",
    "maxProperties",
    "items",
    "properties",
    "additionalProperties",
    "required",
    "default",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-validations",
    "description",
];

fn schemas() -> Vec<Value> {
    let versions = crate::schema::crds()
        .into_iter()
        .flat_map(|crd| crd.spec.versions);
    versions
        .map(|version| serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap())
        .collect()
}

fn walk(schema: &Value, visit: &mut impl FnMut(&Value)) {
    visit(schema);
    for property in schema["properties"].as_object().into_iter().flat_map(Map::values) {
        walk(property, visit);
    }
    for inner in [&schema["items"], &schema["additionalProperties"]] {
        if inner.is_object() {
            walk(inner, visit);
        }
    }
}

#[test]
fn every_keyword_of_the_schemas_is_known() {
    let mut used = BTreeSet::new();
    for schema in schemas() {
        walk(&schema, &mut |schema| {
            used.extend(schema.as_object().unwrap().keys().cloned())
        });
    }
    let unknown: Vec<_> = used
        .iter()
        .filter(|keyword| !KNOWN.contains(&keyword.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn every_pattern_of_the_schemas_compiles_and_has_advice() {
    let mut count = 0;
    for schema in schemas() {
        // Users do not write status.
        walk(&schema["properties"]["spec"], &mut |schema| {
            if let Some(pattern) = schema["pattern"].as_str() {
                Regex::new(pattern).unwrap();
                let advice = crate::api::patterns::advice(pattern, "?");
                assert!(
                    !advice.contains(pattern) && advice.contains("write "),
                    "{pattern}: {advice}"
                );
                count += 1;
            }
        });
    }
    assert!(count > 10, "{count}");
}

#[test]
fn defaults_are_filled_in_at_every_depth() {
    let schema = json!({"type": "object", "properties": {
        "a": {"type": "object", "default": {}, "properties": {"b": {"type": "integer", "default": 3}}},
    }});
    let mut value = json!({});
    assert_eq!(check(&schema, &mut value), []);
    assert_eq!(value, json!({"a": {"b": 3}}));
    let mut value = json!({"a": {"b": null}});
    assert_eq!(check(&schema, &mut value), []);
    assert_eq!(value, json!({"a": {"b": 3}}));
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = [
        "spec", "from", "to", "mqtt", "kafka", "name", "urls", "topic", "topics", "pattern", "session",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9/+#{}:.]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(words.to_vec()), inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_panics(value in any_json()) {
        for schema in schemas() {
            check(&schema, &mut value.clone());
        }
    }
}

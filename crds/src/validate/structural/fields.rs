//! The fields of an object: unknown, missing, defaulted.

use serde_json::{Map, Value};

use super::{Checker, text};
use crate::validate::path::FieldPath;
use crate::validate::suggest;

impl Checker<'_> {
    /// Reports unknown and missing fields, removes unknown ones and fills in defaults.
    pub(super) fn fields(
        &mut self,
        schema: &Value,
        properties: &Map<String, Value>,
        entries: &mut Map<String, Value>,
        path: &FieldPath,
    ) {
        let unknown: Vec<String> = entries
            .keys()
            .filter(|key| !properties.contains_key(*key))
            .cloned()
            .collect();
        let mut meant = Vec::new();
        for key in unknown {
            entries.remove(&key);
            let absent = properties
                .keys()
                .map(String::as_str)
                .filter(|name| !entries.contains_key(*name));
            let slip = suggest::closest(&key, absent);
            meant.extend(slip);
            let message = self.unknown(&key, slip, properties, path);
            self.problem(&path.key(&key), message);
        }
        for (name, property) in properties {
            let is_absent = entries.get(name).is_none_or(Value::is_null);
            if let (true, Some(default)) = (is_absent, property.get("default")) {
                entries.insert(name.clone(), default.clone());
            }
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            // A slip of this name was reported already.
            if !entries.contains_key(name) && !meant.contains(&name) {
                self.problem(&path.key(name), missing(&properties[name]));
            }
        }
    }

    fn unknown(
        &self,
        key: &str,
        slip: Option<&str>,
        properties: &Map<String, Value>,
        path: &FieldPath,
    ) -> String {
        if let Some(name) = slip {
            return format!("is not a field; did you mean {name}?");
        }
        let mut elsewhere = Vec::new();
        homes(self.root, key, &FieldPath::default(), &mut elsewhere);
        elsewhere.retain(|home| home != path);
        if let [home] = elsewhere.as_slice() {
            return format!("is not a field here: it belongs in {home}");
        }
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        format!(
            "is not a field: remove it; the fields here are {}",
            names.join(", ")
        )
    }
}

fn missing(schema: &Value) -> String {
    let description = text(schema, "description");
    let first = description
        .split_inclusive(". ")
        .next()
        .unwrap_or_default()
        .trim_end();
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return format!("is missing: write one of {}. {description}", words.join(", "));
    }
    let below: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match below.as_slice() {
        [] => format!("is missing: write it. {first}"),
        below => format!(
            "is missing: write it, with {} below it. {first}",
            below.join(" and ")
        ),
    }
}

/// Where in a schema a field of this name lives. Status is not written by users.
fn homes(schema: &Value, key: &str, path: &FieldPath, found: &mut Vec<FieldPath>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if name == key {
            found.push(path.clone());
        }
        if name != "status" && name != "metadata" {
            homes(property, key, &path.key(name), found);
        }
    }
    if schema["items"].is_object() {
        homes(&schema["items"], key, path, found);
    }
}

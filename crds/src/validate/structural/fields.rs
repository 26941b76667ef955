//! The fields of an object: unknown, missing, defaulted.

use serde_json::{Map, Value};

use super::{Checker, text, texts};
use crate::validate::Note;
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
        let required: Vec<&str> = texts(&schema["required"]).collect();
        for name in &required {
            // A slip of this name was reported already, and a null is reported as one.
            if !entries.contains_key(*name) && !meant.contains(name) {
                self.problem(&path.key(*name), missing(&properties[*name]));
            }
        }
        let is_untyped = |name: &str| !super::has_type(&properties[name]);
        self.drop_nulls(entries, path, |name| required.contains(&name) || is_untyped(name));
    }

    /// Removes entries without value, as an API server does, but not without a word: `when:` with nothing behind it
    /// is more likely a slip than a wish.
    pub(super) fn drop_nulls(
        &mut self,
        entries: &mut Map<String, Value>,
        path: &FieldPath,
        keep: impl Fn(&str) -> bool,
    ) {
        const MESSAGE: &str = "has no value and counts as left out: write one, or remove the line";
        let notes = &mut self.notes;
        entries.retain(|name, value| {
            let is_dropped = value.is_null() && !keep(name);
            if is_dropped {
                notes.push(Note::warning(path.key(name), MESSAGE));
            }
            !is_dropped
        });
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
        match elsewhere.as_slice() {
            [home] => return format!("is not a field here: it belongs in {home}"),
            [one, other] => return format!("is not a field here: it belongs in {one} or {other}"),
            _ => {}
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
    if schema["enum"].is_array() {
        let words: Vec<&str> = texts(&schema["enum"]).collect();
        return format!("is missing: write one of {}. {description}", words.join(", "));
    }
    let below: Vec<&str> = texts(&schema["required"]).collect();
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

//! Checks a value against a structural schema, as an API server does, and fills in the schema's defaults.
//!
//! Knows the keywords that the CRDs use; a test compares them with the generated schemas, so that none is ignored
//! silently.

mod fields;
mod scalars;

use regex::Regex;
use serde_json::{Map, Value};

use super::Note;
use super::path::{FieldPath, Step};

/// Checks `value` against `schema`. Afterwards it has the schema's defaults and no unknown fields.
pub(super) fn check(schema: &Value, value: &mut Value) -> Vec<Note> {
    let mut checker = Checker {
        root: schema,
        notes: Vec::new(),
    };
    checker.value(schema, value, &FieldPath::default());
    checker.notes
}

struct Checker<'s> {
    root: &'s Value,
    notes: Vec<Note>,
}

impl Checker<'_> {
    fn problem(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.notes.push(Note::error(path.clone(), message));
    }

    fn value(&mut self, schema: &Value, value: &mut Value, path: &FieldPath) {
        if !has_type(schema) {
            return;
        }
        if value.is_null() {
            return self.problem(path, nothing(path));
        }
        if is_size(schema) {
            match value {
                Value::Number(number) if number.is_i64() => {}
                Value::String(text) => self.string(schema, text, path),
                _ => self.wrong_type("a size", schema, value, path),
            }
            return;
        }
        match (text(schema, "type"), &mut *value) {
            ("object", Value::Object(fields)) => self.object(schema, fields, path),
            ("array", Value::Array(items)) => self.array(schema, items, path),
            ("string", Value::String(text)) => self.string(schema, text, path),
            ("integer", Value::Number(number)) if number.is_i64() => {
                self.integer(schema, number.as_i64(), path)
            }
            ("boolean", Value::Bool(_)) => {}
            (wanted, _) => self.wrong_type(wanted, schema, value, path),
        }
    }

    fn array(&mut self, schema: &Value, items: &mut [Value], path: &FieldPath) {
        if let Some(most) = schema["maxItems"]
            .as_u64()
            .filter(|most| items.len() as u64 > *most)
        {
            self.problem(
                path,
                format!(
                    "has {} items, at most {most} are allowed: remove some",
                    items.len()
                ),
            );
        }
        if items.is_empty() && schema["minItems"].as_u64() > Some(0) {
            self.problem(path, "is an empty list: add an item");
        }
        for (index, item) in items.iter_mut().enumerate() {
            self.value(&schema["items"], item, &path.index(index));
        }
        self.duplicates(schema, items, path);
    }

    /// Lists of type set and map, as server-side apply merges them.
    fn duplicates(&mut self, schema: &Value, items: &[Value], path: &FieldPath) {
        let key = match text(schema, "x-kubernetes-list-type") {
            "set" => None,
            "map" => schema["x-kubernetes-list-map-keys"][0].as_str(),
            _ => return,
        };
        let identity = |item: &'_ Value| key.map_or_else(|| item.clone(), |key| item[key].clone());
        let mut seen = std::collections::HashMap::new();
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            let Some(first) = seen.insert(identity.to_string(), index) else {
                continue;
            };
            let path = key.map_or_else(|| path.index(index), |key| path.index(index).key(key));
            self.problem(
                &path,
                format!(
                    "{} is already at [{first}]: remove one of the two",
                    shown(&identity)
                ),
            );
        }
    }

    fn wrong_type(&mut self, wanted: &str, schema: &Value, value: &Value, path: &FieldPath) {
        self.problem(path, scalars::wrong_type(wanted, schema, value));
    }

    fn object(&mut self, schema: &Value, entries: &mut Map<String, Value>, path: &FieldPath) {
        if let Some(most) = schema["maxProperties"]
            .as_u64()
            .filter(|most| entries.len() as u64 > *most)
        {
            self.problem(
                path,
                format!(
                    "has {} entries, at most {most} are allowed: remove some",
                    entries.len()
                ),
            );
        }
        if schema["additionalProperties"].is_object() {
            self.drop_nulls(entries, path, |_| false);
            for (key, value) in entries.iter_mut() {
                self.value(&schema["additionalProperties"], value, &path.key(key));
            }
        } else if let Some(properties) = schema["properties"].as_object() {
            self.fields(schema, properties, entries, path);
            for (name, property) in properties {
                if let Some(value) = entries.get_mut(name) {
                    self.value(property, value, &path.key(name));
                }
            }
        }
    }

    fn string(&mut self, schema: &Value, value: &str, path: &FieldPath) {
        if let Some(message) = scalars::string(schema, value) {
            self.problem(path, message);
        }
    }

    fn integer(&mut self, schema: &Value, value: Option<i64>, path: &FieldPath) {
        if let Some(message) = value.and_then(|value| scalars::integer(schema, value)) {
            self.problem(path, message);
        }
    }
}

fn nothing(path: &FieldPath) -> &'static str {
    match path.steps().last() {
        Some(Step::Key(key)) if key == "filter" => {
            "has no value: write one (`#` begins a comment: put it in quotes)"
        }
        _ => "has no value: write one, or remove the line",
    }
}

/// A value as a message shows it: in one line, and not the whole of a long one.
pub(super) fn shown(value: &Value) -> String {
    crop(&without_login(&value.to_string()))
}

/// A text in which nobody's password is seen that was put into an address.
fn without_login(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else {
        return text.to_owned();
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://...@{host}"),
        None => text.to_owned(),
    }
}

fn crop(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn text<'s>(schema: &'s Value, keyword: &str) -> &'s str {
    schema[keyword].as_str().unwrap_or_default()
}

/// The items of a list of texts.
fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn is_size(schema: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == true
}

/// Whether the schema says anything about values: metadata that only an API server writes has none.
fn has_type(schema: &Value) -> bool {
    is_size(schema) || !text(schema, "type").is_empty()
}

fn matches(pattern: &str, value: &str) -> bool {
    // A pattern that cannot be compiled refuses everything; a test compiles those of the schemas.
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(value))
}

#[cfg(test)]
mod tests;

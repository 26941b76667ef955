//! Checks a value against a structural schema, as an API server does, and fills in the schema's defaults.
//!
//! Knows the keywords that the CRDs use; a test compares them with the generated schemas, so that none is ignored
//! silently.

mod fields;
mod scalars;

use regex::Regex;
use serde_json::{Map, Value};

use super::path::{FieldPath, Step};

/// Something wrong with a field, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) path: FieldPath,
    pub(super) message: String,
}

/// Checks `value` against `schema`. Afterwards it has the schema's defaults and no unknown fields.
pub(super) fn check(schema: &Value, value: &mut Value) -> Vec<Problem> {
    let mut checker = Checker {
        root: schema,
        problems: Vec::new(),
    };
    checker.value(schema, value, &FieldPath::default());
    checker.problems
}

struct Checker<'s> {
    root: &'s Value,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.problems.push(Problem {
            path: path.clone(),
            message: message.into(),
        });
    }

    fn value(&mut self, schema: &Value, value: &mut Value, path: &FieldPath) {
        let is_size = is_true(schema, "x-kubernetes-int-or-string");
        if !is_size && text(schema, "type").is_empty() {
            return;
        }
        if value.is_null() {
            let comment = match path.steps().last() {
                Some(Step::Key(key)) if key == "filter" => " (`#` begins a comment: put it in quotes)",
                _ => "",
            };
            return self.problem(
                path,
                format!("has no value: write one{comment}, or remove the line"),
            );
        }
        if is_size {
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
        if let Some(values) = schema["additionalProperties"].as_object() {
            let values = Value::Object(values.clone());
            for (key, value) in entries.iter_mut() {
                self.value(&values, value, &path.key(key));
            }
            return;
        }
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        self.fields(schema, properties, entries, path);
        for (name, property) in properties {
            if let Some(value) = entries.get_mut(name) {
                self.value(property, value, &path.key(name));
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

/// A value as a message shows it: in one line, and not the whole of a long one.
pub(super) fn shown(value: &Value) -> String {
    crop(&value.to_string())
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

fn is_true(schema: &Value, keyword: &str) -> bool {
    schema[keyword].as_bool() == Some(true)
}

fn matches(pattern: &str, value: &str) -> bool {
    // A pattern that cannot be compiled refuses everything; a test compiles those of the schemas.
    Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(value))
}

#[cfg(test)]
mod tests;

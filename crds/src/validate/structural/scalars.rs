//! Single values against their bounds.

use serde_json::{Number, Value};

use super::{crop, matches, shown, text};
use crate::api::patterns;
use crate::units::GepDuration;
use crate::validate::suggest;

pub(super) fn string(schema: &Value, value: &str) -> Option<String> {
    if let Some(words) = schema["enum"].as_array() {
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        return (!words.contains(&value)).then(|| not_one_of(value, &words));
    }
    let shown = shown(&Value::from(value));
    let length = value.chars().count() as u64;
    if value.is_empty() && schema["minLength"].as_u64() > Some(0) {
        return Some("is empty: write a value, or leave the field out if it is not needed".into());
    }
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        return Some(format!(
            "has {length} characters, at most {most} are allowed: shorten it"
        ));
    }
    let pattern = text(schema, "pattern");
    (!pattern.is_empty() && !matches(pattern, value))
        .then(|| format!("{shown} {}", patterns::advice(pattern, value)))
}

fn not_one_of(value: &str, words: &[&str]) -> String {
    let shown = shown(&Value::from(value));
    let all = words.join(", ");
    match suggest::closest(value, words.iter().copied()) {
        Some(word) => format!("{shown} is not one of {all}; did you mean {word}?"),
        None => format!("{shown} is not one of {all}: write one of these"),
    }
}

pub(super) fn integer(schema: &Value, value: i64) -> Option<String> {
    let int32 = text(schema, "format") == "int32";
    let bound = |keyword: &str| schema[keyword].as_f64().map(|bound| bound as i64);
    let least = bound("minimum").or(int32.then_some(i64::from(i32::MIN)));
    let most = bound("maximum").or(int32.then_some(i64::from(i32::MAX)));
    if let Some(least) = least.filter(|least| value < *least) {
        return Some(match most.filter(|most| *most != i64::from(i32::MAX)) {
            Some(most) => format!("{value} is too small: write a number from {least} to {most}"),
            None => format!("{value} is too small: write {least} or more"),
        });
    }
    let most = most.filter(|most| value > *most)?;
    Some(format!(
        "{value} is too large: write a number from {} to {most}",
        least.unwrap_or_default()
    ))
}

pub(super) fn wrong_type(wanted: &str, schema: &Value, value: &Value) -> String {
    let is = match value {
        Value::Object(_) => "is a mapping",
        Value::Array(_) => "is a list",
        Value::Bool(_) => "is a truth value",
        Value::Number(_) => "is a number",
        Value::String(_) => "is a text",
        Value::Null => "is nothing",
    };
    format!("{is}, not {}", instead(wanted, schema, value))
}

/// What was wanted, and what to write.
fn instead(wanted: &str, schema: &Value, value: &Value) -> String {
    match (wanted, value) {
        // `key: {plant}` is a mapping to YAML.
        ("string", Value::Object(fields)) if fields.len() == 1 && fields.values().all(Value::is_null) => {
            let name = fields.keys().next().map_or("", String::as_str);
            format!("a text: a text that begins with a brace needs quotes, \"{{{name}}}\"")
        }
        ("string", Value::Number(_) | Value::Bool(_)) if schema["enum"].is_array() => {
            let words: Vec<&str> = schema["enum"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            match suggest::closest(&value.to_string(), words.iter().copied()) {
                Some(word) => format!("one of {}; did you mean {word}?", words.join(", ")),
                None => format!("one of {}: write one of these", words.join(", ")),
            }
        }
        ("string", Value::Number(number)) if text(schema, "pattern") == GepDuration::PATTERN => {
            format!("a duration: write the unit too, {number}s or {number}m")
        }
        ("string", Value::Number(_) | Value::Bool(_)) => format!("a text: put it in quotes, \"{value}\""),
        ("string", Value::Object(_)) => {
            "a text: a text that begins with a brace or has `: ` in it needs quotes".into()
        }
        ("string", _) => "a text: write a single text".into(),
        ("integer", Value::String(text)) if text.trim().parse::<i64>().is_ok() => {
            format!("a number: write {} without quotes", text.trim())
        }
        ("integer", Value::Number(number)) => whole(number),
        ("integer", _) => "a number: write a whole number".into(),
        ("boolean", Value::String(text)) if ["yes", "on"].contains(&&*text.to_lowercase()) => {
            yes_or_no("true")
        }
        ("boolean", Value::String(text)) if ["no", "off"].contains(&&*text.to_lowercase()) => {
            yes_or_no("false")
        }
        ("boolean", _) => "a truth value: write true or false".into(),
        ("array", Value::String(_)) => format!("a list: write [{}]", shown(value)),
        ("array", _) => "a list: begin each item with `- `".into(),
        ("object", Value::String(text))
            if schema["properties"]
                .as_object()
                .is_some_and(|fields| fields.len() == 1) =>
        {
            let name = schema["properties"]
                .as_object()
                .and_then(|fields| fields.keys().next());
            format!(
                "a mapping: write {}: {}",
                name.map_or("", String::as_str),
                crop(text)
            )
        }
        ("object", _) => match schema["properties"].as_object() {
            Some(fields) => {
                let names: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("a mapping: write fields below it; there are {}", names.join(", "))
            }
            None => "a mapping: write `name: value` lines below it".into(),
        },
        _ => format!("{wanted}: write a number of bytes, or a number with Ki, Mi or Gi"),
    }
}

fn whole(number: &Number) -> String {
    format!(
        "a whole number: write {}",
        number.as_f64().unwrap_or_default().round()
    )
}

fn yes_or_no(truth: &str) -> String {
    format!("a truth value: write {truth} without quotes")
}

//! From the text of a file to the JSON values of its documents, as `kubectl` reads them.

use serde::Deserialize;
use serde_json::{Map, Number, Value};
use serde_yaml::Value as Yaml;

/// One document of a file.
pub(super) struct Document<'t> {
    /// Its text, without the line that separates it from the one before.
    pub(super) text: &'t str,
    /// Line of the file on which `text` begins, from 0.
    pub(super) first_line: usize,
    /// What it says.
    pub(super) value: Result<Value, Problem>,
}

/// Why a document cannot be read.
#[derive(Debug)]
pub(super) struct Problem {
    /// Line in the document, from 0.
    pub(super) line: usize,
    /// What is wrong, and what to write instead.
    pub(super) message: String,
}

/// The documents of a file, without empty ones.
pub(super) fn documents(text: &str) -> Vec<Document<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_nothing = |value: &Result<Value, Problem>| matches!(value, Ok(Value::Null));
    split(text)
        .into_iter()
        .filter(|(_, text)| !is_only_directives(text))
        .map(|(first_line, text)| Document {
            text,
            first_line,
            value: read(text),
        })
        .filter(|document| !is_nothing(&document.value))
        .collect()
}

/// Cuts at the lines that begin with `---`: no text inside a document may begin so (YAML 1.2, 9.1.2). A syntax
/// error in one document then leaves the others readable.
fn split(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first_line, mut at) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let rest = line.strip_prefix("---");
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace)) {
            documents.push((first_line, &text[start..at]));
            // What follows the dashes on their line belongs to the document.
            (start, first_line) = (at + 3, number);
        }
        at += line.len();
    }
    documents.push((first_line, &text[start..]));
    documents
}

/// What may stand before the first `---`: `%YAML 1.1`.
fn is_only_directives(text: &str) -> bool {
    let is_content = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let mut lines = text.lines().filter(is_content).peekable();
    lines.peek().is_some() && lines.all(|line| line.starts_with('%'))
}

fn read(text: &str) -> Result<Value, Problem> {
    match read_yaml(text) {
        // Nearly all JSON is YAML. That which is indented with tabs is not.
        Err(problem) if text.trim_start().starts_with('{') => serde_json::from_str(text).map_err(|_| problem),
        read => read,
    }
}

fn read_yaml(text: &str) -> Result<Value, Problem> {
    let mut found = Value::Null;
    for document in serde_yaml::Deserializer::from_str(text) {
        let mut yaml = Yaml::deserialize(document).map_err(|error| syntax(text, &error))?;
        yaml.apply_merge().map_err(|error| syntax(text, &error))?;
        let value = json(yaml).map_err(|message| Problem { line: 0, message })?;
        if !found.is_null() && !value.is_null() {
            let message = "has a second document after `...`: separate documents by a line with `---`".into();
            return Err(Problem { line: 0, message });
        }
        found = if value.is_null() { found } else { value };
    }
    Ok(found)
}

fn json(yaml: Yaml) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Bool(truth) => Value::Bool(truth),
        Yaml::Number(number) => json_number(&number)?,
        Yaml::String(text) => Value::String(text),
        Yaml::Sequence(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let mut fields = Map::new();
            for (key, value) in entries {
                let key = json_key(key)?;
                if fields.contains_key(&key) {
                    return Err(format!("has the field `{key}` twice: remove one"));
                }
                fields.insert(key, json(value)?);
            }
            Value::Object(fields)
        }
        Yaml::Tagged(tagged) => return Err(format!("has the YAML tag `{}`: remove it", tagged.tag)),
    })
}

fn json_number(number: &serde_yaml::Number) -> Result<Value, String> {
    let whole = number
        .as_i64()
        .map(Number::from)
        .or_else(|| number.as_u64().map(Number::from));
    let float = || number.as_f64().and_then(Number::from_f64);
    whole
        .or_else(float)
        .map(Value::Number)
        .ok_or_else(|| format!("has the number `{number}`, which JSON does not know: remove it"))
}

fn json_key(key: Yaml) -> Result<String, String> {
    match key {
        Yaml::String(text) => Ok(text),
        Yaml::Number(number) => Ok(number.to_string()),
        Yaml::Bool(truth) => Ok(truth.to_string()),
        _ => {
            Err("has a field whose name is a list, a mapping or nothing: write a name before the `:`".into())
        }
    }
}

fn syntax(text: &str, error: &serde_yaml::Error) -> Problem {
    let location = error.location();
    let full = error.to_string();
    // The line is told apart; the rest names the column too, which is of no use without it.
    let message = full.split(" at line ").next().unwrap_or(&full);
    let line = location.map_or(0, |location| location.line().saturating_sub(1));
    let line = line.min(text.lines().count().saturating_sub(1));
    let advice = advice(message, text.lines().nth(line).unwrap_or_default());
    Problem {
        line,
        message: format!("is not valid YAML: {message}{advice}"),
    }
}

/// What usually is the matter.
fn advice(message: &str, line: &str) -> &'static str {
    let has = |text| message.contains(text);
    if line.trim_start_matches(' ').starts_with('\t') {
        "; indent with spaces, not with tabs"
    } else if has("mapping values are not allowed") {
        "; put a text with `: ` in it in quotes, or correct the indentation"
    } else if has("did not find expected key") || has("did not find expected '-' indicator") {
        "; correct the indentation of this line or the one before, or close the quotes"
    } else if has("alphabetic or numeric") || has("unknown anchor") {
        "; put a text that begins with `*` or `&` in quotes"
    } else if has("cannot start any token") {
        "; put a text that begins with `@`, `%` or a back quote in quotes"
    } else if has("duplicate entry") {
        ": remove one"
    } else if has("unexpected end of stream")
        || has("did not find expected ',' or")
        || has("expected node content")
    {
        "; close the quotes, brackets or braces"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn values(text: &str) -> Vec<Value> {
        documents(text)
            .into_iter()
            .map(|document| document.value.unwrap())
            .collect()
    }

    #[test]
    fn documents_are_read_one_by_one() {
        assert_eq!(
            values("a: 1\n---\n# nothing\n---\nb: 2\n"),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert_eq!(
            values("--- {a: 1}\n--- # comment\nb: 2\n...\n"),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert_eq!(values("\u{feff}a: |\n  ---\n"), [json!({"a": "---\n"})]);
        assert_eq!(
            values("a: 1\r\n---\r\nb: 2\r\n"),
            [json!({"a": 1}), json!({"b": 2})]
        );
        assert_eq!(
            values("{\n\t\"a\": {\n\t\t\"b\": 1\n\t}\n}\n"),
            [json!({"a": {"b": 1}})]
        );
        assert_eq!(values("%YAML 1.1\n---\na: 1\n"), [json!({"a": 1})]);
        assert_eq!(values(""), [Value::Null; 0]);
    }

    #[test]
    fn lines_are_those_of_the_file() {
        let found = documents("a: 1\n---\nb: 2\n---\nc: [\n");
        assert_eq!(found.iter().map(|d| d.first_line).collect::<Vec<_>>(), [0, 1, 3]);
        let problem = found[2].value.as_ref().unwrap_err();
        assert!(problem.message.contains("close the"), "{}", problem.message);
    }

    #[test]
    fn anchors_and_merge_keys_are_resolved() {
        assert_eq!(
            values("a: &x {k: 1}\nb: {<<: *x, l: 2}\n"),
            [json!({"a": {"k": 1}, "b": {"k": 1, "l": 2}})]
        );
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for n in 1..12 {
            let last = n - 1;
            text += &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{last}"); 10].join(", "));
        }
        assert!(documents(&text)[0].value.is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:\\- \n\"'#é|{}\\[\\]&*!<,.\t]{0,80}") {
            documents(&text);
        }
    }
}

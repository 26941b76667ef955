//! Finds the line of a field in the text of a YAML document.
//!
//! serde_yaml keeps no positions, and a finding needs one only to take the reader there. So this reads block
//! style by its indentation; in flow style it stops at the line where the enclosing field begins.

use super::path::{FieldPath, Step};

/// The lines of one block mapping or block sequence.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    end: usize,
    /// Column of its keys or dashes.
    indent: usize,
}

/// Line of a field in `text`, from 0; of what encloses it, if it is not written there.
pub(super) fn line_of(text: &str, path: &FieldPath) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let Some(mut block) = block_from(&lines, 0, lines.len(), 0) else {
        return 0;
    };
    let mut line = block.start;
    for step in path.steps() {
        let found = match step {
            Step::Key(key) => find_key(&lines, block, key),
            Step::Index(index) => find_item(&lines, block, *index),
        };
        let Some((found, inner)) = found else { break };
        line = found;
        let Some(inner) = inner else { break };
        block = inner;
    }
    line
}

/// The block that begins at or after line `start`, if its content is indented at least `least`.
fn block_from(lines: &[&str], start: usize, end: usize, least: usize) -> Option<Block> {
    let first = (start..end).find(|n| has_content(lines[*n]))?;
    let indent = indent_of(lines[first]);
    (indent >= least).then_some(Block {
        start: first,
        end,
        indent,
    })
}

/// The line of a key, and the block that is its value.
fn find_key(lines: &[&str], block: Block, key: &str) -> Option<(usize, Option<Block>)> {
    let is_entry =
        |n: usize| n == block.start || (has_content(lines[n]) && indent_of(lines[n]) == block.indent);
    let found =
        (block.start..block.end).find(|n| is_entry(*n) && starts_with_key(lines[*n], block.indent, key))?;
    let is_next = |n: &usize| {
        let line = lines[*n];
        // A sequence may stand at the column of its key.
        let is_dash = line.trim_start().starts_with('-');
        has_content(line) && (indent_of(line) < block.indent || (indent_of(line) == block.indent && !is_dash))
    };
    let end = (found + 1..block.end).find(is_next).unwrap_or(block.end);
    Some((found, block_from(lines, found + 1, end, block.indent)))
}

/// The line of an item, and the block inside it.
fn find_item(lines: &[&str], block: Block, index: usize) -> Option<(usize, Option<Block>)> {
    let is_item = |n: &usize| {
        let line = lines[*n];
        has_content(line) && indent_of(line) == block.indent && line.trim_start().starts_with('-')
    };
    let mut items = (block.start..block.end).filter(is_item).skip(index);
    let found = items.next()?;
    let end = items.next().unwrap_or(block.end);
    let after_dash = &lines[found][block.indent + 1..];
    let inner = match after_dash.trim_start() {
        "" => block_from(lines, found + 1, end, block.indent + 1),
        content => Some(Block {
            start: found,
            end,
            indent: lines[found].len() - content.len(),
        }),
    };
    Some((found, inner))
}

fn starts_with_key(line: &str, indent: usize, key: &str) -> bool {
    let Some(text) = line.get(indent..) else {
        return false;
    };
    let unquoted = text.strip_prefix(['"', '\'']).unwrap_or(text);
    let Some(rest) = unquoted.strip_prefix(key) else {
        return false;
    };
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    rest.strip_prefix(':')
        .is_some_and(|value| value.is_empty() || value.starts_with(' '))
}

fn has_content(line: &str) -> bool {
    let text = line.trim();
    !text.is_empty() && !text.starts_with('#') && !text.starts_with("---")
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches(' ').len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
---
# a comment
apiVersion: v1
spec:
  from:
    mqtt:
      # filter: not this one
      subscriptions:
      - filter: a/b
      - # the second
        filter: c
        \"quoted\": 1
      -   filter: d
          other: 1
      text: |
        qos: not this one
      qos: 1
  to: {kafka: {topic: t}}
metadata:
    name: n
";

    #[test]
    fn fields_are_found_on_their_line() {
        for (path, line) in [
            ("apiVersion", 2),
            ("spec", 3),
            ("spec.from.mqtt.subscriptions", 7),
            ("spec.from.mqtt.subscriptions[0]", 8),
            ("spec.from.mqtt.subscriptions[0].filter", 8),
            ("spec.from.mqtt.subscriptions[1].filter", 10),
            ("spec.from.mqtt.subscriptions[1].quoted", 11),
            ("spec.from.mqtt.subscriptions[2].filter", 12),
            ("spec.from.mqtt.subscriptions[2].other", 13),
            ("spec.from.mqtt.qos", 16),
            ("metadata.name", 19),
        ] {
            assert_eq!(line_of(TEXT, &FieldPath::parse(path)), line, "{path}");
        }
    }

    #[test]
    fn what_is_not_written_is_at_what_encloses_it() {
        for (path, line) in [
            ("spec.from.mqtt.lanes", 5),
            ("spec.from.mqtt.subscriptions[3].filter", 7),
            ("spec.to.kafka.topic", 17),
            ("status", 2),
            ("", 2),
        ] {
            assert_eq!(line_of(TEXT, &FieldPath::parse(path)), line, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[a-c:\\- \n\"'#é|]{0,60}", path in "[a-c.\\[\\]0-2]{0,10}") {
            line_of(&text, &FieldPath::parse(&path));
        }
    }
}

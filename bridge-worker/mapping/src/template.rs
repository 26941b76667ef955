//! Texts with expressions in braces.

use thiserror::Error;

/// Longest template, in bytes.
const MAX_LENGTH: usize = 8192;

/// A text with expressions in braces: `telemetry.{plant}`.
///
/// `{{` is a literal `{`, `}}` a literal `}`. An expression ends at the `}` that belongs to its `{`: braces
/// inside it (of a CEL map, or in a CEL string) do not end it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Vec<Segment>,
}

/// A part of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Text, with doubled braces already made single. Never empty, never two in a row.
    Literal(String),
    /// The source of an expression, without its braces and the white space around it.
    Expression(String),
}

/// Why a text is not a template, and what to write instead. Positions are in bytes, from 0.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Longer than any template needs to be.
    #[error("a template has at most 8192 bytes, this one has {0}")]
    TooLong(usize),
    /// `{` without its `}`.
    #[error(
        "the `{{` at byte {0} is never closed; write `}}` after the expression, or `{{{{` for a literal brace"
    )]
    Unclosed(usize),
    /// `}` without its `{`.
    #[error("the `}}` at byte {0} closes nothing; write `}}}}` for a literal brace")]
    Unopened(usize),
    /// `{}`
    #[error(
        "there is no expression in the braces at byte {0}; write one, or `{{{{` and `}}}}` for literal braces"
    )]
    Empty(usize),
}

impl Template {
    /// Splits a text into literals and expressions. What is in the braces is not looked at here:
    /// [`Mapper::compile`](crate::Mapper::compile) does, because it knows the variables.
    ///
    /// # Errors
    /// Says which brace is wrong and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_LENGTH {
            return Err(TemplateError::TooLong(text.len()));
        }
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(['{', '}']) {
            let brace = at + found;
            literal.push_str(&text[at..brace]);
            let rest = &text[brace..];
            if rest.starts_with("{{") || rest.starts_with("}}") {
                literal.push_str(&rest[..1]);
                at = brace + 2;
                continue;
            }
            if rest.starts_with('}') {
                return Err(TemplateError::Unopened(brace));
            }
            let length = expression_length(&rest[1..]).ok_or(TemplateError::Unclosed(brace))?;
            let source = rest[1..=length].trim();
            if source.is_empty() {
                return Err(TemplateError::Empty(brace));
            }
            if !literal.is_empty() {
                segments.push(Segment::Literal(std::mem::take(&mut literal)));
            }
            segments.push(Segment::Expression(source.to_owned()));
            at = brace + length + 2;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal));
        }
        Ok(Self { segments })
    }

    /// The text before the first expression: everything this template renders to begins with it.
    pub fn literal_prefix(&self) -> &str {
        match self.segments.first() {
            Some(Segment::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// Whether there is no expression, so that it always renders to [`Template::literal_prefix`].
    pub fn is_literal(&self) -> bool {
        !self
            .segments
            .iter()
            .any(|segment| matches!(segment, Segment::Expression(_)))
    }

    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// Bytes before the `}` that ends an expression.
fn expression_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            b'{' => depth += 1,
            b'\'' | b'"' => {
                at += string_length(bytes, at)?;
                continue;
            }
            // A comment ends with its line.
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                at += bytes[at..].iter().position(|b| *b == b'\n')?;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

/// Bytes of the CEL string that begins with the quote at `start`, quotes included.
fn string_length(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let is_raw = is_raw_string(bytes, start);
    let triple = [quote; 3];
    let closing: &[u8] = if bytes[start..].starts_with(&triple) {
        &triple
    } else {
        &triple[..1]
    };
    let mut at = start + closing.len();
    loop {
        let byte = *bytes.get(at)?;
        if byte == b'\\' && !is_raw {
            at += 2;
        } else if bytes[at..].starts_with(closing) {
            return Some(at + closing.len() - start);
        } else {
            at += 1;
        }
    }
}

/// Whether the string at `start` has the prefix `r`, alone or with `b`: then a backslash is only a backslash.
fn is_raw_string(bytes: &[u8], start: usize) -> bool {
    let before = |n: usize| {
        start
            .checked_sub(n)
            .and_then(|at| bytes.get(at))
            .map(u8::to_ascii_lowercase)
    };
    let continues_word = |byte: Option<u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_');
    match (before(2), before(1)) {
        (Some(b'b'), Some(b'r')) | (Some(b'r'), Some(b'b')) => !continues_word(before(3)),
        (two, Some(b'r')) => !continues_word(two),
        _ => false,
    }
}

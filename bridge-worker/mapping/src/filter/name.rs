//! Which names a wildcard may have: those that are free in an expression.

use thiserror::Error;

/// Names that mean something else in an expression: the values every expression has, or will have for routes
/// that read Kafka.
const VALUES: [&str; 3] = ["message", "payload", "record"];

/// Words of CEL's grammar (cel-spec, "Syntax": IDENT excludes RESERVED).
const RESERVED: [&str; 21] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// Functions, macros and types of the language. CEL would allow most of them as variables; nobody would
/// understand the result.
const FUNCTION_NAMES: [&str; 24] = [
    "all",
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "exists",
    "exists_one",
    "filter",
    "get",
    "has",
    "int",
    "list",
    "map",
    "merge",
    "null_type",
    "size",
    "startsWith",
    "string",
    "timestamp",
    "type",
    "uint",
    "without",
];

/// Why a word cannot be the name of a wildcard.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Not an identifier.
    #[error(
        "`{0}` is not a name: a name begins with a letter or `_` and continues with letters, digits or `_`, all ASCII"
    )]
    Shape(String),
    /// Means something in every expression.
    #[error(
        "`{0}` cannot name a wildcard, because it means something else in expressions; choose another name"
    )]
    Taken(String),
}

pub(super) fn check(name: &str) -> Result<(), NameError> {
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if !starts_well || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(NameError::Shape(name.to_owned()));
    }
    if VALUES.contains(&name) || RESERVED.contains(&name) || FUNCTION_NAMES.contains(&name) {
        return Err(NameError::Taken(name.to_owned()));
    }
    Ok(())
}

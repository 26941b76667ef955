//! CEL expressions, compiled once and evaluated per message.

mod calls;
mod check;
mod functions;
mod number;
mod operator;
mod scope;
mod steps;
mod tree;

use std::sync::Arc;

use cel::common::types::CelBool;
use cel::common::value::{CowVal, Val};
use cel::parser::{Expression as Ast, Parser};
use cel::{Context, Env, ExecutionError, Value};

use crate::error::{MapError, Part, shorten};
use crate::output;

pub(crate) use check::{Form, Known, Subject};
pub(crate) use number::{Number, Whole};
pub(crate) use scope::{About, Scope};

/// Longest expression, in bytes. Parsing time grows with it, and validation parses what anybody wrote.
const MAX_LENGTH: usize = 4096;
/// How deep brackets and conditions may nest: the parser descends about ten calls for each.
const MAX_NESTING: u16 = 24;
/// Most names, literals, operators and brackets: a chain of them is parsed into something as deep as it is long,
/// and recursion goes that deep before [`MAX_DEPTH`] can be checked.
const MAX_TOKENS: usize = 1024;
/// How deep the parsed expression may be. Evaluation, and even dropping it, recurses that deep: `1+1+1+...`
/// needs no brackets to be deep.
const MAX_DEPTH: usize = 64;

/// The functions of the language: one for all expressions of a mapping.
pub(crate) fn environment() -> Result<Arc<Env>, cel::DeclarationError> {
    let mut env = Env::default().with_optional_support(false).with_stdlib();
    operator::declare(&mut env)?;
    functions::declare(&mut env)?;
    steps::declare(&mut env)?;
    Ok(Arc::new(env))
}

/// An expression whose variables, functions and fields are known to exist.
#[derive(Debug)]
pub(crate) struct Expression {
    ast: Ast,
    /// Whether it needs the payload in the form of the route's payload format.
    pub(crate) uses_payload: bool,
    pub(crate) form: Form,
}

impl Expression {
    /// Parses and checks an expression. The error says what is wrong and what to write instead.
    pub(crate) fn compile(source: &str, known: &Known<'_>) -> Result<Self, String> {
        check_size(source)?;
        let parsed = Parser::new().max_recursion_depth(MAX_NESTING).parse(source);
        let mut ast = parsed.map_err(|errors| describe_parse_errors(&errors))?;
        let depth = tree::depth(&ast);
        if depth > MAX_DEPTH {
            return Err(format!(
                "the expression is {depth} operations deep, at most {MAX_DEPTH} are possible; shorten it"
            ));
        }
        let checked = check::check(&ast, known)?;
        operator::rewrite(&mut ast);
        Ok(Self {
            ast,
            uses_payload: checked.uses_payload,
            form: checked.form,
        })
    }

    /// Evaluates the expression and hands the result to `then`: it may borrow from the message.
    pub(crate) fn evaluate<'m, T>(
        &self,
        env: &Arc<Env>,
        scope: &Scope<'m>,
        part: &Part,
        then: impl FnOnce(&dyn Val) -> Result<T, MapError>,
    ) -> Result<T, MapError> {
        let mut context = Context::with_env(Arc::clone(env));
        context.set_variable_resolver(scope);
        let result: Result<CowVal<'_, '_>, ExecutionError> = Value::resolve_val(&self.ast, &context);
        match result {
            Ok(value) => then(value.as_ref()),
            Err(error) => Err(MapError::ExpressionFailed {
                part: part.clone(),
                message: describe(&error),
            }),
        }
    }

    /// Evaluates the expression as a condition.
    pub(crate) fn holds(&self, env: &Arc<Env>, scope: &Scope<'_>, part: &Part) -> Result<bool, MapError> {
        self.evaluate(env, scope, part, |value| match value.downcast_ref::<CelBool>() {
            Some(bool) => Ok(*bool.inner()),
            None => Err(output::result_type(value, part, "bool")),
        })
    }
}

fn check_size(source: &str) -> Result<(), String> {
    if source.trim().is_empty() {
        return Err("the expression is empty; write one or leave the field out".to_owned());
    }
    if source.len() > MAX_LENGTH {
        return Err(format!(
            "the expression has {} bytes, at most {MAX_LENGTH} are possible; shorten it",
            source.len()
        ));
    }
    let tokens = count_tokens(source);
    if tokens > MAX_TOKENS {
        return Err(format!(
            "the expression has {tokens} words, operators and brackets, at most {MAX_TOKENS} are possible; shorten it"
        ));
    }
    Ok(())
}

/// An upper bound of the tokens in a source. Texts count like anything else: where one ends is for the parser to
/// say, and whoever could mislead this count could send the parser into any depth.
fn count_tokens(source: &str) -> usize {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let before = std::iter::once(b' ').chain(source.bytes());
    before
        .zip(source.bytes())
        .filter(|(before, b)| !b.is_ascii_whitespace() && b.is_ascii() && !(is_word(*before) && is_word(*b)))
        .count()
}

fn describe_parse_errors(errors: &cel::ParseErrors) -> String {
    if errors
        .errors
        .iter()
        .any(|error| error.msg.contains("Recursion limit"))
    {
        return format!(
            "brackets and conditions are nested more than {MAX_NESTING} deep; shorten the expression or lift parts out"
        );
    }
    match errors.errors.first() {
        Some(first) => format!(
            "not a CEL expression: {} (line {}, column {})",
            shorten(&first.msg),
            first.pos.0.max(1),
            first.pos.1.max(0) + 1
        ),
        None => "not a CEL expression".to_owned(),
    }
}

/// What went wrong, without the values of the message: they may be large, and secret.
fn describe(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => {
            format!(
                "there is no key `{}`; `get(map, key, default)` gives a default",
                shorten(key)
            )
        }
        ExecutionError::NoSuchOverload(error) => {
            let types = error.argument_types().join(", ");
            format!("`{}` does not apply to ({types})", readable(error.function()))
        }
        ExecutionError::UndeclaredReference(name) => format!("unknown name `{}`", shorten(name)),
        ExecutionError::UnexpectedType { got, want } => format!("a {got} where a {want} is needed"),
        ExecutionError::FunctionError { function, message } => {
            format!("`{}`: {}", readable(function), shorten(message))
        }
        ExecutionError::UnsupportedBinaryOperator(operator, left, right) => {
            format!(
                "`{operator}` does not apply to ({}, {})",
                left.type_of(),
                right.type_of()
            )
        }
        ExecutionError::ValuesNotComparable(left, right) => {
            format!(
                "a {} cannot be compared with a {}",
                left.type_of(),
                right.type_of()
            )
        }
        ExecutionError::UnsupportedKeyType(key) => format!("a {} cannot be a key", key.type_of()),
        ExecutionError::UnsupportedIndex(index, _) => format!("a {} cannot be an index", index.type_of()),
        ExecutionError::IndexOutOfBounds(_) => "the list has no element at that index".to_owned(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            "division by zero".to_owned()
        }
        ExecutionError::Overflow(..) => "the result is too large for an int".to_owned(),
        ExecutionError::DuplicateKey(_) => "a map has the same key twice".to_owned(),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("{actual} arguments where {expected} are needed")
        }
        _ => "it cannot be computed for this message".to_owned(),
    }
}

/// `_+_` as it is written: `+`.
fn readable(function: &str) -> &str {
    match function {
        "_[_]" => "[]",
        "_._" => ".",
        "_?_:_" => "?:",
        "@in" => "in",
        other => other.trim_matches(|c| c == '_' || c == '@'),
    }
}

//! The CEL rules of a schema, evaluated without an API server.

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::Value;

use super::kinds::name_path;
use super::path::FieldPath;
use super::structural::Problem;

pub(super) struct Rules(CompiledSchema);

impl Rules {
    pub(super) fn new(schema: &Value) -> Self {
        Self(compile_schema(schema))
    }

    /// Checks a new object: rules about a change have nothing to compare with.
    ///
    /// A rule that cannot be evaluated says nothing: either the schema has already complained about what it speaks
    /// of, or the API server will decide. A test shows that each rule can be evaluated.
    pub(super) fn check(&self, object: &Value) -> Vec<Problem> {
        let failures = match Validator::new().validate_compiled(&self.0, object, None) {
            Ok(()) => return Vec::new(),
            Err(failures) => failures,
        };
        let broken = failures
            .into_iter()
            .filter(|failure| failure.kind == ErrorKind::ValidationFailure);
        broken
            .map(|failure| problem(&failure.field_path, failure.message))
            .collect()
    }
}

fn problem(path: &str, message: String) -> Problem {
    // A rule at the root can see nothing else of the metadata, and has to say so in its message.
    match message.strip_prefix("metadata.name ") {
        Some(rest) => Problem {
            path: name_path(),
            message: rest.to_owned(),
        },
        None => Problem {
            path: FieldPath::parse(path),
            message,
        },
    }
}

//! The CEL rules of a schema, evaluated without an API server.

use kube::core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use serde_json::Value;

use super::Note;
use super::kinds::name_path;
use super::path::FieldPath;

pub(super) struct Rules(CompiledSchema);

impl Rules {
    pub(super) fn new(schema: &Value) -> Self {
        Self(compile_schema(schema))
    }

    /// Checks a new object: rules about a change have nothing to compare with.
    ///
    /// A rule that cannot be evaluated says nothing: either the schema has already complained about what it speaks
    /// of, or the API server will decide. A test shows that each rule can be evaluated.
    pub(super) fn check(&self, object: &Value) -> Vec<Note> {
        let failures = match Validator::new().validate_compiled(&self.0, object, None) {
            Ok(()) => return Vec::new(),
            Err(failures) => failures,
        };
        let broken = failures
            .into_iter()
            .filter(|failure| failure.kind == ErrorKind::ValidationFailure);
        broken
            .map(|failure| note(&failure.field_path, &failure.message))
            .collect()
    }
}

fn note(path: &str, message: &str) -> Note {
    // A rule at the root can see nothing else of the metadata, and has to say so in its message.
    match message.strip_prefix("metadata.name ") {
        Some(rest) => Note::error(name_path(), rest),
        None => Note::error(FieldPath::parse(path), message),
    }
}

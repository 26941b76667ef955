//! Templates, compiled.

use std::sync::Arc;

use cel::Env;

use crate::error::{MapError, Part};
use crate::expression::{Expression, Form, Known, Scope};
use crate::output;
use crate::template::{Segment, Template};

/// A template whose plain parts are known: rendering those copies bytes and does nothing else.
#[derive(Debug)]
pub(crate) struct Renderer {
    pieces: Vec<Piece>,
    pub(crate) uses_payload: bool,
}

#[derive(Debug)]
enum Piece {
    Literal(String),
    /// A name of the filter, by its position.
    Name(usize),
    /// `message.topic` or `record.topic`
    Topic,
    /// `record.key`
    Key,
    Computed(Expression),
}

impl Renderer {
    /// Compiles the expressions of a template. The errors say what to write instead.
    pub(crate) fn compile(template: &Template, known: &Known<'_>) -> Result<Self, Vec<String>> {
        let mut pieces = Vec::with_capacity(template.segments().len());
        let mut errors = Vec::new();
        for segment in template.segments() {
            match segment {
                Segment::Literal(literal) => pieces.push(Piece::Literal(literal.clone())),
                Segment::Expression(source) => match compile_piece(source, known) {
                    Ok(piece) => pieces.push(piece),
                    Err(error) => errors.push(format!("`{{{source}}}`: {error}")),
                },
            }
        }
        let uses_payload = pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Computed(expression) if expression.uses_payload));
        if errors.is_empty() {
            Ok(Self { pieces, uses_payload })
        } else {
            Err(errors)
        }
    }

    /// Appends what the template says for one message.
    pub(crate) fn render(
        &self,
        env: &Arc<Env>,
        scope: &Scope<'_>,
        part: &Part,
        out: &mut Vec<u8>,
    ) -> Result<(), MapError> {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => out.extend_from_slice(literal.as_bytes()),
                Piece::Name(position) => out.extend_from_slice(scope.name(*position).as_bytes()),
                Piece::Topic => out.extend_from_slice(scope.topic().as_bytes()),
                Piece::Key => match scope.key() {
                    Some(key) => out.extend_from_slice(key),
                    None => return Err(MapError::NoKey { part: part.clone() }),
                },
                Piece::Computed(expression) => {
                    expression.evaluate(env, scope, part, |value| output::write_text(value, out, part))?;
                }
            }
        }
        Ok(())
    }
}

fn compile_piece(source: &str, known: &Known<'_>) -> Result<Piece, String> {
    let expression = Expression::compile(source, known)?;
    match expression.form {
        Form::Name(position) => Ok(Piece::Name(position)),
        Form::Topic => Ok(Piece::Topic),
        Form::Key => Ok(Piece::Key),
        Form::Always(found @ ("list" | "map" | "null_type")) => Err(format!(
            "the expression gives a {found}, which has no text; choose a part of it that is a text, number, bool or bytes"
        )),
        Form::Always(_) | Form::Computed => Ok(Piece::Computed(expression)),
    }
}

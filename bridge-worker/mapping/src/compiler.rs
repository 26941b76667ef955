//! Compiling what mappings of both directions have.

use std::sync::Arc;

use cel::Env;

use crate::error::{MappingError, Part};
use crate::expression::{self, Expression, Form, Known};
use crate::renderer::Renderer;
use crate::template::Template;

/// Compiles the parts of a mapping and collects what is wrong with them.
pub(crate) struct Compiler<'a> {
    known: Known<'a>,
    pub(crate) errors: Vec<MappingError>,
}

impl<'a> Compiler<'a> {
    pub(crate) fn new(known: Known<'a>) -> Self {
        Self {
            known,
            errors: Vec::new(),
        }
    }

    pub(crate) fn error(&mut self, part: Part, message: impl std::fmt::Display) {
        self.errors.push(MappingError::new(part, message));
    }

    pub(crate) fn expression(&mut self, source: &str, part: Part) -> Option<Expression> {
        match Expression::compile(source, &self.known) {
            Ok(expression) => Some(expression),
            Err(message) => {
                self.error(part, message);
                None
            }
        }
    }

    pub(crate) fn when(&mut self, source: &str) -> Option<Expression> {
        let expression = self.expression(source, Part::When)?;
        let found = match expression.form {
            Form::Always("bool") | Form::Computed => return Some(expression),
            Form::Always(found) => found,
            Form::Name(_) | Form::Topic | Form::Key => "string",
        };
        self.error(
            Part::When,
            format!("the expression gives a {found}, and `when` needs a bool; compare it with something, as in `x == y`"),
        );
        None
    }

    pub(crate) fn template(&mut self, text: &str, part: &Part) -> Option<(Renderer, Template)> {
        let template = match Template::parse(text) {
            Ok(template) => template,
            Err(error) => {
                self.error(part.clone(), error);
                return None;
            }
        };
        match Renderer::compile(&template, &self.known) {
            Ok(renderer) => Some((renderer, template)),
            Err(messages) => {
                for message in messages {
                    self.error(part.clone(), message);
                }
                None
            }
        }
    }

    /// What expressions are evaluated in.
    pub(crate) fn environment(&mut self) -> Option<Arc<Env>> {
        match expression::environment() {
            Ok(env) => Some(env),
            Err(error) => {
                self.error(Part::Value, error);
                None
            }
        }
    }
}

//! What can be known to be wrong with an expression before any message comes.

use std::fmt::Write as _;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use millrace_contract::PayloadFormat;

use super::calls;
use super::functions::{MERGE, WITHOUT};
use super::scope::{MESSAGE_FIELDS, RECORD_FIELDS};
use super::tree::for_each_child;

/// What an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// An MQTT message: `message`, and the names of the filter.
    Message,
    /// A Kafka record: `record`.
    Record,
}

impl Subject {
    /// The variable that stands for all of it.
    fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Record => "record",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Message => &MESSAGE_FIELDS,
            Self::Record => &RECORD_FIELDS,
        }
    }
}

/// What an expression may refer to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known<'a> {
    /// What it is about.
    pub(crate) subject: Subject,
    /// Names that every filter of the route binds.
    pub(crate) names: &'a [String],
    /// Names that only some filters of the route bind.
    pub(crate) partial_names: &'a [String],
    /// How expressions see the payload.
    pub(crate) payload: PayloadFormat,
}

/// What an expression turned out to be.
pub(crate) struct Checked {
    pub(crate) uses_payload: bool,
    pub(crate) form: Form,
}

/// The shape of an expression, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing but a name of the filter, by its position in [`Known::names`].
    Name(usize),
    /// Nothing but `message.topic` or `record.topic`.
    Topic,
    /// Nothing but `record.key`.
    Key,
    /// Always a value of this type.
    Always(&'static str),
    /// To be seen when there is a message.
    Computed,
}

/// Types can be named, to be compared with `type(x)`.
const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];

/// Checks every name an expression uses.
pub(super) fn check(ast: &IdedExpr, known: &Known<'_>) -> Result<Checked, String> {
    let mut checker = Checker {
        known,
        local: Vec::new(),
        uses_payload: false,
    };
    checker.visit(ast)?;
    Ok(Checked {
        uses_payload: checker.uses_payload,
        form: form(&ast.expr, known),
    })
}

fn form(expr: &Expr, known: &Known<'_>) -> Form {
    match expr {
        Expr::Ident(name) => match known.names.iter().position(|known| known == name) {
            Some(position) => Form::Name(position),
            None => Form::Computed,
        },
        Expr::Select(select) if is_ident(&select.operand, known.subject.name()) && !select.test => {
            match (known.subject, select.field.as_str()) {
                (_, "topic") => Form::Topic,
                (Subject::Record, "key") => Form::Key,
                _ => Form::Computed,
            }
        }
        Expr::List(_) => Form::Always("list"),
        Expr::Map(_) => Form::Always("map"),
        Expr::Literal(literal) => Form::Always(match literal {
            LiteralValue::Boolean(_) => "bool",
            LiteralValue::Bytes(_) => "bytes",
            LiteralValue::Double(_) => "double",
            LiteralValue::Int(_) => "int",
            LiteralValue::Null => "null_type",
            LiteralValue::String(_) => "string",
            LiteralValue::UInt(_) => "uint",
        }),
        Expr::Call(call) => match call.func_name.as_str() {
            MERGE | WITHOUT => Form::Always("map"),
            "string" => Form::Always("string"),
            "size" | "int" => Form::Always("int"),
            _ => Form::Computed,
        },
        _ => Form::Computed,
    }
}

fn is_ident(expr: &IdedExpr, wanted: &str) -> bool {
    matches!(&expr.expr, Expr::Ident(name) if name == wanted)
}

struct Checker<'a> {
    known: &'a Known<'a>,
    /// Variables of the loops around.
    local: Vec<&'a str>,
    uses_payload: bool,
}

impl<'a> Checker<'a> {
    fn visit(&mut self, node: &'a IdedExpr) -> Result<(), String> {
        match &node.expr {
            Expr::Ident(name) => return self.variable(name),
            Expr::Call(call) => {
                calls::check(call)?;
                self.comparison(call)?;
            }
            Expr::Select(select) => self.select(select)?,
            Expr::Struct(made) => {
                return Err(format!(
                    "`{}{{...}}` makes a protobuf message, which does not exist here; write a map, as in \
                     `{{'name': value}}`",
                    made.type_name
                ));
            }
            Expr::Comprehension(fold) => {
                self.visit(&fold.iter_range)?;
                self.visit(&fold.accu_init)?;
                let outer = self.local.len();
                self.local.push(&fold.accu_var);
                self.local.push(&fold.iter_var);
                self.local.extend(fold.iter_var2.as_deref());
                self.visit(&fold.loop_cond)?;
                self.visit(&fold.loop_step)?;
                self.visit(&fold.result)?;
                self.local.truncate(outer);
                return Ok(());
            }
            Expr::List(_) | Expr::Map(_) | Expr::Literal(_) => {}
            Expr::Unspecified => return Err("not a CEL expression".to_owned()),
        }
        let mut children = Vec::new();
        for_each_child(&node.expr, |child| children.push(child));
        children.into_iter().try_for_each(|child| self.visit(child))
    }

    fn variable(&mut self, name: &str) -> Result<(), String> {
        if self.local.contains(&name) || self.known.names.iter().any(|known| known == name) {
            return Ok(());
        }
        match name {
            "payload" => self.uses_payload = true,
            name if name == self.known.subject.name() => {}
            "message" => {
                return Err(
                    "`message` is what a route from MQTT reads; this one reads Kafka: write `record`"
                        .to_owned(),
                );
            }
            "record" => {
                return Err(
                    "`record` is what a route from Kafka reads; this one reads MQTT: write `message`"
                        .to_owned(),
                );
            }
            name if TYPES.contains(&name) => {}
            name if self.known.partial_names.iter().any(|known| known == name) => {
                return Err(format!(
                    "`{name}` is not a name of every filter of the route; name a wildcard `{name}` in each of them"
                ));
            }
            name => {
                return Err(format!(
                    "unknown name `{name}`; known here: {}",
                    self.known_names()
                ));
            }
        }
        Ok(())
    }

    fn known_names(&self) -> String {
        let mut list = String::new();
        for name in self.known.names {
            // Writing to a String cannot fail.
            write!(list, "`{name}`, ").ok();
        }
        format!("{list}`payload`, `{}`", self.known.subject.name())
    }

    /// A comparison that is never true, whatever message comes.
    fn comparison(&self, call: &CallExpr) -> Result<(), String> {
        let is_equality = matches!(call.func_name.as_str(), operators::EQUALS | operators::NOT_EQUALS);
        let [left, right] = call.args.as_slice() else {
            return Ok(());
        };
        let is_text = |side: &IdedExpr| matches!(side.expr, Expr::Literal(LiteralValue::String(_)));
        let is_payload = |side: &IdedExpr| is_ident(side, "payload") && !self.local.contains(&"payload");
        if is_equality
            && self.known.payload == PayloadFormat::Bytes
            && ((is_payload(left) && is_text(right)) || (is_text(left) && is_payload(right)))
        {
            return Err("the payload is bytes and never equals a text; write `b'...'` or set the payload's format to \
                        Text"
                .to_owned());
        }
        Ok(())
    }

    /// Fields that cannot be there, whatever message comes.
    fn select(&self, select: &SelectExpr) -> Result<(), String> {
        let Expr::Ident(name) = &select.operand.expr else {
            return Ok(());
        };
        let field = &select.field;
        if self.local.contains(&name.as_str()) {
            return Ok(());
        }
        let subject = self.known.subject;
        if name == subject.name() && !subject.fields().contains(&field.as_str()) {
            return Err(format!(
                "`{name}` has no field `{field}`; it has {}",
                subject.fields().join(", ")
            ));
        }
        if name == "payload" && self.known.payload != PayloadFormat::Json {
            return Err(format!(
                "`payload.{field}`: the payload has no fields in format {}; set the payload's format to JSON",
                match self.known.payload {
                    PayloadFormat::Bytes => "Bytes",
                    PayloadFormat::Text => "Text",
                    PayloadFormat::Json => "JSON",
                }
            ));
        }
        if self.known.names.contains(name) {
            return Err(format!(
                "`{name}.{field}`: `{name}` is a part of the topic, a text, and has no fields"
            ));
        }
        Ok(())
    }
}

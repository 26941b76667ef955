//! A mapping, compiled: from message to record.

mod compile;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use cel::Env;
use millrace_contract::{Mapping, PayloadFormat, Propagate};

use crate::error::{MapError, MappingError, Part, shorten};
use crate::expression::{About, Expression, Scope};
use crate::filter::Filter;
use crate::message::Message;
use crate::record::Record;
use crate::renderer::Renderer;
use crate::topic::{TopicPattern, check_kafka_topic};
use crate::{headers, output, payload};

/// What becomes of a message that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The record is to be written.
    Write,
    /// `when` is false: there is no record.
    Filtered,
}

/// A mapping, compiled for the filters it is used with.
///
/// A lane has one of its own: mapping needs scratch space that is kept from message to message.
pub struct Mapper {
    env: Arc<Env>,
    sources: Vec<Source>,
    /// The names that every filter binds, in the order of the first filter.
    names: Vec<String>,
    payload: PayloadFormat,
    when: Option<Expression>,
    topic: Topic,
    key: Renderer,
    headers: Vec<(Part, String, Renderer)>,
    propagate: Vec<Propagate>,
    value: Option<Expression>,
    /// What the names of the filter that matched stand for.
    captured: Vec<Range<usize>>,
    /// What the names of `names` stand for, if their order is another.
    ordered: Vec<Range<usize>>,
}

#[derive(Debug)]
struct Source {
    filter: Filter,
    /// For each of the mapper's names, its position among the filter's names. None if the filter has the same
    /// names in the same order.
    positions: Option<Vec<usize>>,
}

#[derive(Debug)]
enum Topic {
    /// Always this one: checked when compiled.
    Literal(String),
    /// Made for each message, and checked then.
    Rendered {
        renderer: Renderer,
        allowed: Vec<TopicPattern>,
    },
}

impl fmt::Debug for Mapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapper")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

impl Mapper {
    /// Compiles a mapping for messages that arrive through `filters`.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to write instead.
    pub fn compile(
        mapping: &Mapping,
        filters: &[Filter],
        payload: PayloadFormat,
    ) -> Result<Self, Vec<MappingError>> {
        compile::compile(mapping, filters, payload)
    }

    /// Maps one message. `record` is emptied first; unless the answer is [`Decision::Write`], what it holds
    /// afterwards has no meaning.
    ///
    /// # Errors
    /// Why this message cannot be mapped; the next one can be.
    pub fn map(&mut self, message: &Message<'_>, record: &mut Record) -> Result<Decision, MapError> {
        record.clear();
        let mut captured = std::mem::take(&mut self.captured);
        let mut ordered = std::mem::take(&mut self.ordered);
        let decision = match self.bind(message.topic, &mut captured, &mut ordered) {
            Some(bound) => self.map_bound(message, bound, record),
            None => Err(MapError::NoFilter),
        };
        self.captured = captured;
        self.ordered = ordered;
        decision
    }

    /// Finds the first filter that matches, and what the mapper's names stand for.
    fn bind<'a>(
        &self,
        topic: &str,
        captured: &'a mut Vec<Range<usize>>,
        ordered: &'a mut Vec<Range<usize>>,
    ) -> Option<&'a [Range<usize>]> {
        let source = self.sources.iter().find(|source| {
            captured.clear();
            source.filter.capture(topic, captured)
        })?;
        let Some(positions) = &source.positions else {
            return Some(captured);
        };
        ordered.clear();
        ordered.extend(
            positions
                .iter()
                .map(|position| captured.get(*position).cloned().unwrap_or_default()),
        );
        Some(ordered)
    }

    fn map_bound(
        &self,
        message: &Message<'_>,
        bound: &[Range<usize>],
        record: &mut Record,
    ) -> Result<Decision, MapError> {
        let mut scope = Scope::new(About::Message {
            message,
            names: &self.names,
            captured: bound,
        });
        if let Some(when) = &self.when {
            self.prepare(when.uses_payload, message, &mut scope)?;
            if !when.holds(&self.env, &scope, &Part::When)? {
                return Ok(Decision::Filtered);
            }
        }
        self.write_topic(message, &mut scope, record)?;
        self.prepare(self.key.uses_payload, message, &mut scope)?;
        self.key.render(&self.env, &scope, &Part::Key, &mut record.key)?;
        for (part, name, renderer) in &self.headers {
            self.prepare(renderer.uses_payload, message, &mut scope)?;
            record
                .headers
                .push_with("", name, |out| renderer.render(&self.env, &scope, part, out))?;
        }
        headers::write(&self.propagate, message, &mut record.headers);
        headers::write_hops(message, &mut record.headers);
        if let Some(value) = &self.value {
            self.prepare(value.uses_payload, message, &mut scope)?;
            let out = &mut record.value;
            value.evaluate(&self.env, &scope, &Part::Value, |value| {
                output::write_value(value, out, &Part::Value)
            })?;
            record.value_is_new = true;
        }
        Ok(Decision::Write)
    }

    /// Reads the payload when it is needed for the first time.
    fn prepare<'m>(
        &self,
        uses_payload: bool,
        message: &'m Message<'_>,
        scope: &mut Scope<'m>,
    ) -> Result<(), MapError> {
        if uses_payload && !scope.has_payload() {
            scope.set_payload(payload::read(self.payload, message.payload)?);
        }
        Ok(())
    }

    fn write_topic<'m>(
        &self,
        message: &'m Message<'_>,
        scope: &mut Scope<'m>,
        record: &mut Record,
    ) -> Result<(), MapError> {
        let (renderer, allowed) = match &self.topic {
            Topic::Literal(topic) => {
                record.topic.push_str(topic);
                return Ok(());
            }
            Topic::Rendered { renderer, allowed } => (renderer, allowed),
        };
        self.prepare(renderer.uses_payload, message, scope)?;
        let mut bytes = std::mem::take(&mut record.topic).into_bytes();
        renderer.render(&self.env, scope, &Part::Topic, &mut bytes)?;
        record.topic = match String::from_utf8(bytes) {
            Ok(topic) => topic,
            // What is not UTF-8 has a character that Kafka does not allow either.
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        };
        if let Err(problem) = check_kafka_topic(&record.topic) {
            return Err(MapError::TopicInvalid {
                topic: shorten(&record.topic),
                problem,
            });
        }
        if !allowed.iter().any(|pattern| pattern.matches(&record.topic)) {
            return Err(MapError::TopicNotAllowed {
                topic: shorten(&record.topic),
            });
        }
        Ok(())
    }
}

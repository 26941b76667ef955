//! From the document's mapping to a [`Mapper`].

use millrace_contract::{Mapping, PayloadFormat};

use super::{Mapper, Source, Topic};
use crate::compiler::Compiler;
use crate::error::{MappingError, Part};
use crate::expression::{Known, Subject};
use crate::filter::Filter;
use crate::headers;
use crate::template::{Segment, Template};
use crate::topic::{MAX_LENGTH, TopicPattern, check_kafka_topic, is_topic_byte};

pub(super) fn compile(
    mapping: &Mapping,
    filters: &[Filter],
    payload: PayloadFormat,
) -> Result<Mapper, Vec<MappingError>> {
    let names = Names::of(filters);
    let known = Known {
        subject: Subject::Message,
        names: &names.common,
        partial_names: &names.partial,
        payload,
    };
    let mut compiler = Compiler::new(known);
    let when = mapping.when.as_deref().and_then(|source| compiler.when(source));
    let topic = compiler.topic(&mapping.topic, &mapping.allowed_topics);
    let key = compiler
        .template(&mapping.key, &Part::Key)
        .map(|(renderer, _)| renderer);
    headers::check(&mapping.headers, &mapping.propagate, &mut compiler.errors);
    let headers = mapping.headers.iter().filter_map(|(name, template)| {
        let part = Part::Header(name.clone());
        let (renderer, _) = compiler.template(template, &part)?;
        Some((part, name.clone(), renderer))
    });
    let headers = headers.collect();
    let value = mapping
        .value
        .as_deref()
        .and_then(|source| compiler.expression(source, Part::Value));
    let env = compiler.environment();
    let errors = compiler.errors;
    match (env, topic, key) {
        (Some(env), Some(topic), Some(key)) if errors.is_empty() => Ok(Mapper {
            env,
            sources: filters.iter().map(|filter| names.source(filter)).collect(),
            names: names.common,
            payload,
            when,
            topic,
            key,
            headers,
            propagate: mapping.propagate.clone(),
            value,
            captured: Vec::new(),
            ordered: Vec::new(),
        }),
        _ => Err(errors),
    }
}

/// The names of several filters.
struct Names {
    /// In every filter.
    common: Vec<String>,
    /// In some filters only.
    partial: Vec<String>,
}

impl Names {
    fn of(filters: &[Filter]) -> Self {
        let mut names = Self {
            common: Vec::new(),
            partial: Vec::new(),
        };
        for name in filters.iter().flat_map(Filter::names) {
            let in_all = filters
                .iter()
                .all(|filter| filter.names().any(|other| other == name));
            let list = if in_all {
                &mut names.common
            } else {
                &mut names.partial
            };
            if !list.iter().any(|listed| listed == name) {
                list.push(name.to_owned());
            }
        }
        names
    }

    fn source(&self, filter: &Filter) -> Source {
        let position = |name: &String| filter.names().position(|other| other == name);
        let positions: Vec<usize> = self.common.iter().filter_map(position).collect();
        let is_in_order = positions
            .iter()
            .enumerate()
            .all(|(index, position)| index == *position);
        Source {
            filter: filter.clone(),
            positions: (!is_in_order).then_some(positions),
        }
    }
}

impl Compiler<'_> {
    fn topic(&mut self, text: &str, allowed: &[String]) -> Option<Topic> {
        let patterns = self.patterns(allowed);
        let (renderer, template) = self.template(text, &Part::Topic)?;
        if template.is_literal() {
            if let Err(error) = check_kafka_topic(template.literal_prefix()) {
                self.error(Part::Topic, error);
                return None;
            }
            if !patterns.is_empty()
                && !patterns
                    .iter()
                    .any(|pattern| pattern.matches(template.literal_prefix()))
            {
                self.error(Part::Topic, "the topic is not one of allowedTopics; add it there");
                return None;
            }
            return Some(Topic::Literal(template.literal_prefix().to_owned()));
        }
        self.check_literals(&template);
        let prefix = template.literal_prefix();
        if !patterns.is_empty() && !patterns.iter().any(|pattern| pattern.can_match_prefix(prefix)) {
            self.error(
                Part::AllowedTopics,
                format!("no pattern matches a topic that begins with `{prefix}`, as all topics of this route do; add `{prefix}*`"),
            );
        }
        let allowed = if allowed.is_empty() {
            self.default_allowed(prefix)?
        } else {
            patterns
        };
        Some(Topic::Rendered { renderer, allowed })
    }

    fn patterns(&mut self, allowed: &[String]) -> Vec<TopicPattern> {
        let mut patterns = Vec::with_capacity(allowed.len());
        for text in allowed {
            match TopicPattern::parse(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.error(Part::AllowedTopics, format!("`{text}`: {error}")),
            }
        }
        patterns
    }

    /// Without a list, the text before the first expression is what no device can change.
    fn default_allowed(&mut self, prefix: &str) -> Option<Vec<TopicPattern>> {
        if prefix.is_empty() {
            self.error(
                Part::AllowedTopics,
                "the topic begins with an expression, so a device could choose any topic; list the topics this route may write to",
            );
            return None;
        }
        Some(vec![TopicPattern::prefix(prefix)])
    }

    /// Text that is in every rendered topic must be allowed in one.
    fn check_literals(&mut self, template: &Template) {
        let literals = template.segments().iter().filter_map(|segment| match segment {
            Segment::Literal(literal) => Some(literal.as_str()),
            Segment::Expression(_) => None,
        });
        let mut length = 0;
        for literal in literals {
            length += literal.len();
            if literal.bytes().any(|b| !is_topic_byte(b))
                && let Err(error) = check_kafka_topic(literal)
            {
                self.error(Part::Topic, error);
            }
        }
        if template.literal_prefix().starts_with("__") {
            self.error(Part::Topic, crate::topic::TopicNameError::Internal);
        }
        if length > MAX_LENGTH {
            self.error(Part::Topic, crate::topic::TopicNameError::TooLong(length));
        }
    }
}

//! From the document's mapping of records to a [`RecordMapper`].

use millrace_contract::{PayloadFormat, Publishing};

use super::{PropertySource, RecordMapper, Topic, User, header};
use crate::compiler::Compiler;
use crate::error::{MappingError, Part};
use crate::expression::{Known, Subject};
use crate::filter::Filter;
use crate::headers::{HOPS_ARE_OURS, HOPS_PROPERTY};
use crate::mqtt_topic::{MqttTopicError, check_mqtt_topic};
use crate::template::{Segment, Template};

pub(super) fn compile(
    publishing: &Publishing,
    payload: PayloadFormat,
) -> Result<RecordMapper, Vec<MappingError>> {
    let mut compiler = Compiler::new(Known {
        subject: Subject::Record,
        names: &[],
        partial_names: &[],
        payload,
    });
    let when = publishing
        .when
        .as_deref()
        .and_then(|source| compiler.when(source));
    let topic = topic(&mut compiler, publishing);
    let value = publishing
        .value
        .as_deref()
        .and_then(|source| compiler.expression(source, Part::Value));
    let mut property = |template: &Option<String>, part: Part| match template {
        None => Some(PropertySource::Header(header(&part))),
        Some(text) => Some(PropertySource::Template(compiler.template(text, &part)?.0)),
    };
    let content_type = property(&publishing.content_type, Part::ContentType);
    let response_topic = property(&publishing.response_topic, Part::ResponseTopic);
    let correlation_data = property(&publishing.correlation_data, Part::CorrelationData);
    let user = match &publishing.user_properties {
        None => User::Headers,
        Some(templates) => User::Templates(
            templates
                .iter()
                .filter_map(|(name, text)| {
                    let part = Part::UserProperty(name.clone());
                    if name.contains('\0') {
                        compiler.error(
                            part,
                            "the name of a user property cannot contain the character U+0000",
                        );
                        return None;
                    }
                    if name == HOPS_PROPERTY {
                        compiler.error(part, HOPS_ARE_OURS);
                        return None;
                    }
                    let (renderer, _) = compiler.template(text, &part)?;
                    Some((part, name.clone(), renderer))
                })
                .collect(),
        ),
    };
    let env = compiler.environment();
    let parts = (env, topic, content_type, response_topic, correlation_data);
    match parts {
        (Some(env), Some(topic), Some(content_type), Some(response_topic), Some(correlation_data))
            if compiler.errors.is_empty() =>
        {
            Ok(RecordMapper {
                env,
                payload,
                when,
                topic,
                value,
                content_type,
                response_topic,
                correlation_data,
                user,
            })
        }
        _ => Err(compiler.errors),
    }
}

fn topic(compiler: &mut Compiler<'_>, publishing: &Publishing) -> Option<Topic> {
    let allowed = allowed(compiler, &publishing.allowed_topics);
    let (renderer, template) = compiler.template(&publishing.topic, &Part::Topic)?;
    if template.is_literal() {
        let topic = template.literal_prefix();
        if let Err(error) = check_mqtt_topic(topic) {
            compiler.error(Part::Topic, error);
            return None;
        }
        if !allowed.is_empty() && !allowed.iter().any(|filter| filter.matches(topic)) {
            compiler.error(Part::Topic, "the topic is not one of allowedTopics; add it there");
            return None;
        }
        return Some(Topic::Literal(topic.to_owned()));
    }
    check_literals(compiler, &template);
    if publishing.allowed_topics.is_empty() {
        compiler.error(
            Part::AllowedTopics,
            "the topic has expressions, so a record could command any device; write the topics this route may publish \
             to, as filters: `plants/+/cmd`",
        );
    }
    Some(Topic::Rendered { renderer, allowed })
}

fn allowed(compiler: &mut Compiler<'_>, filters: &[String]) -> Vec<Filter> {
    let mut allowed = Vec::with_capacity(filters.len());
    for text in filters {
        match Filter::parse(text) {
            Ok(filter) if filter.names().next().is_some() => compiler.error(
                Part::AllowedTopics,
                format!("`{text}`: a wildcard has no name here; write `{}`", filter.wire()),
            ),
            Ok(filter) => allowed.push(filter),
            Err(error) => compiler.error(Part::AllowedTopics, format!("`{text}`: {error}")),
        }
    }
    allowed
}

/// Text that is in every rendered topic must be allowed in one.
fn check_literals(compiler: &mut Compiler<'_>, template: &Template) {
    for segment in template.segments() {
        if let Segment::Literal(literal) = segment
            && let Err(error @ (MqttTopicError::Nul | MqttTopicError::Wildcard(_))) =
                check_mqtt_topic(literal)
        {
            compiler.error(Part::Topic, error);
        }
    }
    if template.literal_prefix().starts_with('$') {
        compiler.error(Part::Topic, MqttTopicError::Reserved);
    }
}

//! A mapping of records, compiled: from record to message.

mod compile;

use std::fmt;
use std::sync::Arc;

use cel::Env;
use millrace_contract::{PayloadFormat, Publishing};

use crate::error::{MapError, MappingError, Part, shorten};
use crate::expression::{About, Expression, Scope};
use crate::filter::Filter;
use crate::headers::{HOPS_PROPERTY, MAX_HOPS, USER_PREFIX};
use crate::mapper::Decision;
use crate::mqtt_topic::{MAX_LENGTH, MqttTopicError, check_mqtt_topic};
use crate::publication::{Property, Publication};
use crate::renderer::Renderer;
use crate::source_record::SourceRecord;
use crate::{headers, output, payload};

/// How records become messages, compiled.
pub struct RecordMapper {
    env: Arc<Env>,
    payload: PayloadFormat,
    when: Option<Expression>,
    topic: Topic,
    value: Option<Expression>,
    content_type: PropertySource,
    response_topic: PropertySource,
    correlation_data: PropertySource,
    user: User,
}

#[derive(Debug)]
enum Topic {
    /// Always this one: checked when compiled.
    Literal(String),
    /// Made for each record, and checked then.
    Rendered {
        renderer: Renderer,
        allowed: Vec<Filter>,
    },
}

/// Where a property comes from.
#[derive(Debug)]
enum PropertySource {
    /// The header of this name, from records that have it.
    Header(&'static str),
    Template(Renderer),
}

#[derive(Debug)]
enum User {
    /// The headers whose names begin with `mqtt.user.`.
    Headers,
    Templates(Vec<(Part, String, Renderer)>),
}

impl fmt::Debug for RecordMapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMapper")
            .field("topic", &self.topic)
            .finish_non_exhaustive()
    }
}

impl RecordMapper {
    /// Compiles a mapping of records.
    ///
    /// # Errors
    /// Everything that is wrong, each with its place and what to write instead.
    pub fn compile(publishing: &Publishing, payload: PayloadFormat) -> Result<Self, Vec<MappingError>> {
        compile::compile(publishing, payload)
    }

    /// Maps one record. `message` is emptied first; unless the answer is [`Decision::Write`], what it holds
    /// afterwards has no meaning.
    ///
    /// # Errors
    /// Why this record cannot be mapped; the next one can be.
    pub fn map(&self, record: &SourceRecord<'_>, message: &mut Publication) -> Result<Decision, MapError> {
        message.clear();
        let mut scope = Scope::new(About::Record(record));
        if let Some(when) = &self.when {
            self.prepare(when.uses_payload, record, &mut scope)?;
            if !when.holds(&self.env, &scope, &Part::When)? {
                return Ok(Decision::Filtered);
            }
        }
        let hops = headers::hops(record);
        if hops >= MAX_HOPS {
            return Err(MapError::Loop { hops });
        }
        self.write_topic(record, &mut scope, message)?;
        // A tombstone says that something is gone: so does a message without payload.
        if let (Some(value), Some(_)) = (&self.value, record.value) {
            self.prepare(value.uses_payload, record, &mut scope)?;
            let out = &mut message.payload;
            value.evaluate(&self.env, &scope, &Part::Value, |value| {
                output::write_value(value, out, &Part::Value)
            })?;
            message.payload_is_new = true;
        }
        self.write_property(
            &self.content_type,
            Part::ContentType,
            record,
            &mut scope,
            &mut message.content_type,
        )?;
        check_text(&message.content_type, Part::ContentType)?;
        self.write_property(
            &self.response_topic,
            Part::ResponseTopic,
            record,
            &mut scope,
            &mut message.response_topic,
        )?;
        if message.response_topic.is_there {
            check_topic(&message.response_topic.bytes, Part::ResponseTopic)?;
        }
        let data = &mut message.correlation_data;
        self.write_property(
            &self.correlation_data,
            Part::CorrelationData,
            record,
            &mut scope,
            data,
        )?;
        check_length(&data.bytes, Part::CorrelationData)?;
        self.write_user(record, &mut scope, message)?;
        let number = (hops + 1).to_string();
        message.user.push("", HOPS_PROPERTY, number.as_bytes());
        Ok(Decision::Write)
    }

    /// Reads the value when it is needed for the first time.
    fn prepare<'r>(
        &self,
        uses_payload: bool,
        record: &'r SourceRecord<'_>,
        scope: &mut Scope<'r>,
    ) -> Result<(), MapError> {
        if uses_payload && !scope.has_payload() {
            scope.set_payload(match record.value {
                Some(value) => payload::read(self.payload, value)?,
                None => payload::none(),
            });
        }
        Ok(())
    }

    fn render<'r>(
        &self,
        renderer: &Renderer,
        part: &Part,
        record: &'r SourceRecord<'_>,
        scope: &mut Scope<'r>,
        out: &mut Vec<u8>,
    ) -> Result<(), MapError> {
        self.prepare(renderer.uses_payload, record, scope)?;
        renderer.render(&self.env, scope, part, out)
    }

    fn write_topic<'r>(
        &self,
        record: &'r SourceRecord<'_>,
        scope: &mut Scope<'r>,
        message: &mut Publication,
    ) -> Result<(), MapError> {
        match &self.topic {
            Topic::Literal(topic) => {
                message.topic.extend_from_slice(topic.as_bytes());
                Ok(())
            }
            Topic::Rendered { renderer, allowed } => {
                self.render(renderer, &Part::Topic, record, scope, &mut message.topic)?;
                let topic = check_topic(&message.topic, Part::Topic)?;
                match allowed.iter().any(|filter| filter.matches(topic)) {
                    true => Ok(()),
                    false => Err(MapError::TopicNotAllowed {
                        topic: shorten(topic),
                    }),
                }
            }
        }
    }

    /// A template that renders to nothing gives no property.
    fn write_property<'r>(
        &self,
        from: &PropertySource,
        part: Part,
        record: &'r SourceRecord<'_>,
        scope: &mut Scope<'r>,
        property: &mut Property,
    ) -> Result<(), MapError> {
        match from {
            PropertySource::Header(name) => {
                if let Some(value) = record.header(name) {
                    property.bytes.extend_from_slice(value);
                    property.is_there = true;
                }
            }
            PropertySource::Template(renderer) => {
                self.render(renderer, &part, record, scope, &mut property.bytes)?;
                property.is_there = !property.bytes.is_empty();
            }
        }
        Ok(())
    }

    fn write_user<'r>(
        &self,
        record: &'r SourceRecord<'_>,
        scope: &mut Scope<'r>,
        message: &mut Publication,
    ) -> Result<(), MapError> {
        match &self.user {
            User::Headers => {
                for (name, value) in record.headers {
                    let Some(name) = name
                        .strip_prefix(USER_PREFIX)
                        .filter(|name| *name != HOPS_PROPERTY)
                    else {
                        continue;
                    };
                    let value = value.unwrap_or_default();
                    let part = || Part::UserProperty(shorten(name));
                    check_text_bytes(name.as_bytes(), part)?;
                    check_text_bytes(value, part)?;
                    message.user.push("", name, value);
                }
            }
            User::Templates(templates) => {
                for (part, name, renderer) in templates {
                    self.prepare(renderer.uses_payload, record, scope)?;
                    message.user.push_with("", name, |out| {
                        let start = out.len();
                        renderer.render(&self.env, scope, part, out)?;
                        check_text_bytes(&out[start..], || part.clone())
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn check_topic(topic: &[u8], part: Part) -> Result<&str, MapError> {
    let problem = match std::str::from_utf8(topic) {
        Ok(text) => match check_mqtt_topic(text) {
            Ok(()) => return Ok(text),
            Err(problem) => problem,
        },
        Err(_) => MqttTopicError::NotUtf8,
    };
    Err(MapError::MqttTopicInvalid {
        part,
        topic: shorten(&String::from_utf8_lossy(topic)),
        problem,
    })
}

fn check_text(property: &Property, part: Part) -> Result<(), MapError> {
    check_text_bytes(&property.bytes, || part)
}

/// A broker ends the connection of whoever sends it a text that is none.
fn check_text_bytes(text: &[u8], part: impl FnOnce() -> Part) -> Result<(), MapError> {
    let problem = if text.len() > MAX_LENGTH {
        TOO_LONG
    } else if text.contains(&0) {
        "the text contains the character U+0000, which MQTT does not allow"
    } else if std::str::from_utf8(text).is_err() {
        "MQTT wants a UTF-8 text here, and this is none"
    } else {
        return Ok(());
    };
    Err(MapError::PropertyInvalid {
        part: part(),
        problem,
    })
}

const TOO_LONG: &str = "it is longer than 65535 bytes, the most that MQTT allows";

fn check_length(bytes: &[u8], part: Part) -> Result<(), MapError> {
    match bytes.len() <= MAX_LENGTH {
        true => Ok(()),
        false => Err(MapError::PropertyInvalid {
            part,
            problem: TOO_LONG,
        }),
    }
}

/// The header that a property comes from unless the mapping says otherwise.
fn header(part: &Part) -> &'static str {
    use millrace_contract::Propagate;
    headers::name(match part {
        Part::ContentType => Propagate::ContentType,
        Part::ResponseTopic => Propagate::ResponseTopic,
        _ => Propagate::CorrelationData,
    })
}

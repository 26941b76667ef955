use millrace_contract::{Mapping, PayloadFormat};
use millrace_mapping::{Decision, Filter, MapError, Mapper, MappingError, Message, Record};

/// What an example starts from: a filter with names, a message that it matches, a mapping that changes nothing.
pub(crate) const FILTER: &str = "plants/+plant/lines/+line/#rest";
pub(crate) const TOPIC: &str = "plants/nord/lines/7/press/temp";

pub(crate) fn mapping() -> Mapping {
    Mapping {
        when: None,
        topic: "telemetry".to_owned(),
        allowed_topics: Vec::new(),
        key: String::new(),
        headers: Default::default(),
        propagate: Vec::new(),
        value: None,
    }
}

pub(crate) fn filters(texts: &[&str]) -> Vec<Filter> {
    texts.iter().map(|text| Filter::parse(text).unwrap()).collect()
}

pub(crate) fn compile(mapping: &Mapping, format: PayloadFormat) -> Result<Mapper, Vec<MappingError>> {
    Mapper::compile(mapping, &filters(&[FILTER]), format)
}

pub(crate) fn message(payload: &[u8]) -> Message<'_> {
    Message {
        topic: TOPIC,
        payload,
        qos: 1,
        retain: false,
        received_at_ms: 1_700_000_000_000,
        properties: None,
    }
}

/// Maps one message with a mapping that must compile.
pub(crate) fn map(
    mapping: &Mapping,
    format: PayloadFormat,
    message: &Message<'_>,
) -> Result<(Decision, Record), MapError> {
    let mut mapper = compile(mapping, format).unwrap();
    let mut record = Record::default();
    let decision = mapper.map(message, &mut record)?;
    Ok((decision, record))
}

/// What an expression makes of a JSON payload, as the value of a record.
pub(crate) fn value(expression: &str, payload: &str) -> Result<String, MapError> {
    let mapping = Mapping {
        value: Some(expression.to_owned()),
        ..mapping()
    };
    let (_, record) = map(&mapping, PayloadFormat::Json, &message(payload.as_bytes()))?;
    Ok(String::from_utf8(record.value().unwrap().to_vec()).unwrap())
}

/// What a template makes of a message, as the key of a record. None: there is no key.
pub(crate) fn key(template: &str, message: &Message<'_>) -> Result<Option<String>, MapError> {
    let mapping = Mapping {
        key: template.to_owned(),
        ..mapping()
    };
    let (_, record) = map(&mapping, PayloadFormat::Json, message)?;
    Ok(record.key().map(|key| String::from_utf8(key.to_vec()).unwrap()))
}

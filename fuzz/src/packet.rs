//! The version of MQTT in the first byte, then what a broker sends.

use std::sync::{LazyLock, Mutex, PoisonError};

use bytes::BytesMut;
use millrace_contract::{Mapping, PayloadFormat, Propagate};
use millrace_mapping::{Filter, Mapper, Message, Properties, Record};
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

/// Compiled once: the target is what comes after.
static MAPPERS: LazyLock<Mutex<Vec<Mapper>>> = LazyLock::new(|| Mutex::new(mappers()));

/// Largest packet taken, in bytes.
const MAX_PACKET: usize = 1 << 20;

/// Whatever a broker sends: each packet is refused, or it is a message that can be mapped or not.
pub fn run(data: &[u8]) {
    let Some((version, packets)) = data.split_first() else {
        return;
    };
    let mut buffer = BytesMut::from(packets);
    // A panic while it is held has already failed the run.
    let mut mappers = MAPPERS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut record = Record::default();
    if version % 2 == 0 {
        while let Ok(packet) = v4::Packet::read(&mut buffer, MAX_PACKET) {
            if let v4::Packet::Publish(publish) = packet {
                map(
                    &mut mappers,
                    &mut record,
                    publish.topic.as_bytes(),
                    &publish.payload,
                    publish.qos as u8,
                    None,
                );
            }
        }
    } else {
        while let Ok(packet) = v5::Packet::read(&mut buffer, Some(MAX_PACKET as u32)) {
            if let v5::Packet::Publish(publish) = packet {
                let properties = publish.properties.map(|properties| Properties {
                    content_type: properties.content_type,
                    response_topic: properties.response_topic,
                    correlation_data: properties.correlation_data,
                    user: properties.user_properties,
                });
                let properties = properties.as_ref();
                map(
                    &mut mappers,
                    &mut record,
                    &publish.topic,
                    &publish.payload,
                    publish.qos as u8,
                    properties,
                );
            }
        }
    }
}

fn map(
    mappers: &mut [Mapper],
    record: &mut Record,
    topic: &[u8],
    payload: &[u8],
    qos: u8,
    properties: Option<&Properties>,
) {
    let Ok(topic) = std::str::from_utf8(topic) else {
        return;
    };
    for mapper in mappers {
        let message = Message {
            topic,
            payload,
            qos,
            retain: false,
            received_at_ms: 0,
            properties,
        };
        // Either answer will do.
        mapper.map(&message, record).ok();
        assert!(record.headers().all(|(name, _)| !name.contains('\0')));
    }
}

fn mappers() -> Vec<Mapper> {
    let filters = ["a/+x/#rest", "#rest"].map(|filter| Filter::parse(filter).expect("it is a filter"));
    let mapping = Mapping {
        when: Some("size(message.topic) < 1000 || payload == payload".to_owned()),
        topic: "t.{rest}".to_owned(),
        allowed_topics: Vec::new(),
        key: "{message.topic}{message.contentType}{message.correlationData}".to_owned(),
        headers: [(
            "levels".to_owned(),
            "{size(message.levels)}{size(message.user)}".to_owned(),
        )]
        .into(),
        propagate: Propagate::ALL.to_vec(),
        value: Some("[payload, message]".to_owned()),
    };
    let formats = [PayloadFormat::Bytes, PayloadFormat::Text, PayloadFormat::Json];
    let compile = |format| Mapper::compile(&mapping, &filters, format).expect("the mapping is right");
    formats.map(compile).into()
}

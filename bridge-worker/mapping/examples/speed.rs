//! Prints what mapping one message costs: `cargo run --release -p millrace-mapping --example speed`.

use std::hint::black_box;
use std::time::Instant;

use millrace_contract::{Mapping, PayloadFormat, Propagate};
use millrace_mapping::{Filter, Mapper, Message, Properties, Record};

const TOPIC: &str = "plants/nord/lines/7/press/temperature";
const JSON: &[u8] =
    br#"{"t":85,"unit":"C","id":9007199254740993,"ok":true,"tags":["a","b"],"pos":{"x":1.5,"y":-2}}"#;

fn mapping(topic: &str) -> Mapping {
    Mapping {
        when: None,
        topic: topic.to_owned(),
        allowed_topics: Vec::new(),
        key: "{message.topic}".to_owned(),
        headers: Default::default(),
        propagate: Vec::new(),
        value: None,
    }
}

fn main() {
    let plain = mapping("telemetry.{plant}");
    let with = |change: fn(&mut Mapping)| {
        let mut changed = plain.clone();
        change(&mut changed);
        changed
    };
    let cases = [
        ("literal topic", mapping("telemetry"), PayloadFormat::Bytes),
        ("topic and key from names", plain.clone(), PayloadFormat::Bytes),
        (
            "... and all headers",
            with(|m| {
                m.propagate = Propagate::ALL.to_vec();
            }),
            PayloadFormat::Bytes,
        ),
        (
            "when on the message",
            with(|m| m.when = Some("message.qos > 0".to_owned())),
            PayloadFormat::Bytes,
        ),
        (
            "when on JSON",
            with(|m| m.when = Some("payload.t > 80".to_owned())),
            PayloadFormat::Json,
        ),
        (
            "when and value on JSON",
            with(|m| {
                m.when = Some("payload.t > 80".to_owned());
                m.value = Some("merge(payload, {'line': line, 'f': payload.t * 1.8 + 32})".to_owned());
            }),
            PayloadFormat::Json,
        ),
    ];
    let filter = Filter::parse("plants/+plant/lines/+line/#rest").expect("the filter is right");
    let properties = Properties {
        content_type: Some("application/json".to_owned()),
        response_topic: Some("reply/to".to_owned()),
        correlation_data: Some(bytes::Bytes::from_static(b"0123456789abcdef")),
        user: vec![
            ("site".to_owned(), "nord".to_owned()),
            ("trace".to_owned(), "4711".to_owned()),
        ],
    };
    let message = Message {
        topic: TOPIC,
        payload: JSON,
        qos: 1,
        retain: false,
        received_at_ms: 1_700_000_000_000,
        properties: Some(&properties),
    };
    println!("{:<28} {:>10} {:>11}", "mapping", "ns/message", "us/compile");
    for (name, mapping, format) in cases {
        let mut mapper =
            Mapper::compile(&mapping, std::slice::from_ref(&filter), format).expect("the mapping is right");
        let mut record = Record::default();
        let mut best = f64::INFINITY;
        for _ in 0..5 {
            const ROUNDS: u32 = 200_000;
            let start = Instant::now();
            for _ in 0..ROUNDS {
                black_box(mapper.map(black_box(&message), &mut record)).expect("the message can be mapped");
            }
            best = best.min(start.elapsed().as_nanos() as f64 / f64::from(ROUNDS));
        }
        const COMPILES: u32 = 100;
        let start = Instant::now();
        for _ in 0..COMPILES {
            black_box(Mapper::compile(
                black_box(&mapping),
                std::slice::from_ref(&filter),
                format,
            ))
            .ok();
        }
        let compile = start.elapsed().as_micros() as f64 / f64::from(COMPILES);
        println!("{name:<28} {best:>10.0} {compile:>11.0}");
    }
}

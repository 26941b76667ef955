//! Devices that choose topics and payloads to do harm: no record gets outside of `allowedTopics`, and every message ends in a
//! bucket of the ledger.

use std::collections::BTreeSet;

use crate::harness::{MockKafka, Running, route, session};
use millrace_contract::{PayloadFormat, Propagate, Publishing};
use millrace_mapping::{Filter, Publication, RecordMapper, SourceRecord};
use millrace_testkit::wire::Publish;
use millrace_testkit::{ScriptedBroker, wait_until};

const MESSAGES: u64 = 100_000;
const BATCH: u16 = 1_000;
/// The topics that a route may write, of those that there are.
const ALLOWED: [&str; 2] = ["telemetry.a", "telemetry.b"];
/// Where nothing is to be found: a device may know the names.
const FORBIDDEN: [&str; 6] = [
    "secret",
    "telemetry",
    "telemetry.secret",
    "telemetryXa",
    "__consumer_offsets",
    "TELEMETRY.A",
];

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

/// A level of a topic: one that is right now and then, those that look like something else, and noise.
fn level(dice: &mut Dice) -> String {
    let tricks = [
        "..",
        ".",
        "...",
        "telemetry.a/..",
        "telemetry.a\\",
        "telemetry.a,secret",
        "telemetry.a;secret",
        "{stream}",
        "{payload}",
        "{{",
        "}}",
        "${secret}",
        "%2e%2e",
        "%00",
        "telemetry.a%00",
        "telemetry.a ",
        " telemetry.a",
        "telemetry.a\t",
        "telemetry.a\n",
        "telemetry.a\r\nsecret",
        "telemetry.\u{202e}a",
        "ｔelemetry.a",
        "telemetry.а",
        "telemetry.a\u{301}",
        "🦀",
        "ünïcödé",
        "$SYS",
        "$share",
        "$",
        "-",
        "_",
        "telemetry.*",
        "*",
        "null",
        "true",
        "0",
        "\u{1}",
        "\u{7f}",
        "\u{feff}telemetry.a",
        "message.topic",
        "'; drop table topics; --",
    ];
    match dice.roll(10) {
        0 | 1 => dice.pick(&ALLOWED).to_owned(),
        2 | 3 => dice.pick(&FORBIDDEN).to_owned(),
        4 => format!("{}{}", dice.pick(&ALLOWED), dice.pick(&tricks)),
        5 => format!("{}{}", dice.pick(&tricks), dice.pick(&FORBIDDEN)),
        6 => (0..1 + dice.roll(400))
            .map(|_| char::from_u32(0x20 + dice.roll(0x2000) as u32).unwrap_or('x'))
            .collect(),
        7 => String::new(),
        _ => dice.pick(&tricks).to_owned(),
    }
}

fn topic(dice: &mut Dice, number: u64) -> String {
    // Now and then as long as a topic can be.
    if number % 2_000 == 7 {
        return format!("in/{}", "x".repeat(65_535 - 3));
    }
    let mut topic = format!("in/{}", level(dice));
    for _ in 0..dice.roll(4) {
        topic.push('/');
        topic.push_str(&level(dice));
    }
    // A broker lets neither through.
    topic.replace(['#', '+', '\0'], "_")
}

fn payload(dice: &mut Dice) -> Vec<u8> {
    match dice.roll(8) {
        0 => Vec::new(),
        1 => vec![0; 1 + dice.roll(2_000)],
        2 => (0..dice.roll(500)).map(|_| dice.roll(256) as u8).collect(),
        3 => format!(r#"{{"topic":"{}"}}"#, dice.pick(&FORBIDDEN)).into_bytes(),
        4 => format!("{}1{}", "[".repeat(500), "]".repeat(500)).into_bytes(),
        5 => br#"{"a":1e999,"a":-0,"__proto__":{}}"#.to_vec(),
        6 => br#""\ud800""#.to_vec(),
        _ => format!(r#"{{"v":{}}}"#, dice.roll(1_000)).into_bytes(),
    }
}

#[test]
fn no_device_writes_where_it_may_not_and_every_message_is_accounted_for() {
    let broker = ScriptedBroker::start();
    let names: Vec<&str> = ALLOWED.into_iter().chain(FORBIDDEN).chain(["dead"]).collect();
    let kafka = MockKafka::start(&names);
    let mut document = route(&broker, kafka.bootstrap());
    // The device names the topic, and nothing but `allowedTopics` is between.
    document.live.mapping.topic = "{stream}".into();
    document.live.mapping.allowed_topics = ALLOWED.map(str::to_owned).to_vec();
    document.live.mapping.propagate = vec![Propagate::Topic];
    document.live.mapping.when = Some("payload != 7".into());
    document.live.source.payload = PayloadFormat::Json;
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut asked = BTreeSet::new();
    for batch in 0..MESSAGES / u64::from(BATCH) {
        let messages = (1..=BATCH).map(|id| {
            let number = batch * u64::from(BATCH) + u64::from(id);
            let topic = topic(&mut dice, number);
            asked.extend(topic.split('/').nth(1).map(str::to_owned));
            Publish::new(&topic, payload(&mut dice)).qos(1, id)
        });
        connection.publish_all(messages.collect::<Vec<_>>());
        connection.expect_pubacks(1..=BATCH);
    }
    // They did try.
    for forbidden in FORBIDDEN {
        assert!(asked.contains(forbidden), "{forbidden}");
    }
    let ledger = worker.settled(MESSAGES);
    println!("{ledger:?}");
    let ended = ledger.written + ledger.filtered + ledger.dead_lettered + ledger.discarded;
    assert_eq!(ended, MESSAGES);
    for forbidden in FORBIDDEN {
        assert_eq!(kafka.count(forbidden), 0, "{forbidden}");
    }
    let written: usize = ALLOWED.iter().map(|allowed| kafka.count(allowed)).sum();
    assert_eq!(written as u64, ledger.written);
    assert!(written > 1_000, "what is right is written: {written}");
    wait_until(crate::harness::DEADLINE, "the dead letters", || {
        kafka.count("dead") as u64 == ledger.dead_lettered
    });
}

#[test]
fn without_a_bound_the_check_sees_what_a_device_does() {
    let broker = ScriptedBroker::start();
    let kafka = MockKafka::start(&["secret", "dead"]);
    let mut document = route(&broker, kafka.bootstrap());
    document.live.mapping.topic = "{stream}".into();
    document.live.mapping.allowed_topics = vec!["*".into()];
    let worker = Running::start(document);
    let mut connection = session(&broker, false);
    connection.publish(Publish::new("in/secret/x", "1").qos(1, 1));
    connection.expect_puback(1);
    assert_eq!(worker.settled(1).written, 1);
    assert_eq!(kafka.count("secret"), 1);
}

/// The other way: who may write to Kafka commands no device but those that the route allows.
#[test]
fn no_record_reaches_a_topic_outside_of_those_that_are_allowed() {
    let allowed = "plants/+/cmd";
    let publishing = Publishing::to("{record.key}", vec![allowed.into()]);
    let mapper = RecordMapper::compile(&publishing, PayloadFormat::Bytes).expect("a mapping");
    let filter = Filter::parse(allowed).expect("a filter");
    let mut dice = Dice(0x2545_f491_4f6c_dd1d);
    let tricks = [
        "plants/a/cmd",
        "plants/+/cmd",
        "plants/#",
        "$SYS/broker",
        "plants//cmd",
        "/plants/a/cmd",
        "plants/a/cmd/",
    ];
    let (mut written, mut refused) = (0, 0);
    for _ in 0..MESSAGES {
        let key = match dice.roll(4) {
            0 => dice.pick(&tricks).to_owned(),
            1 => format!("plants/{}/cmd", level(&mut dice)),
            2 => format!("plants/a/{}", level(&mut dice)),
            _ => level(&mut dice),
        };
        let record = SourceRecord {
            topic: "commands",
            partition: 0,
            offset: 0,
            timestamp_ms: 0,
            key: Some(key.as_bytes()),
            value: Some(b"1"),
            headers: &[],
        };
        let mut message = Publication::default();
        match mapper.map(&record, &mut message) {
            Ok(_) => {
                let topic = std::str::from_utf8(message.topic()).expect("a text");
                assert!(
                    filter.matches(topic) && !topic.contains(['#', '+', '\0']),
                    "{topic:?}"
                );
                written += 1;
            }
            Err(_) => refused += 1,
        }
    }
    println!("{written} written, {refused} refused");
    assert!(written > 1_000 && refused > 1_000);
}

//! Two routes that feed each other. Where planning cannot see that, because two MqttBrokers name the same broker, what
//! goes round says how often it has, and is not published a ninth time.

use crate::support::{Route, SOON, Worker};
use millrace_contract::status::{Phase, Reason};
use millrace_contract::{ErrorAction, OnError, ProtocolVersion};
use millrace_testkit::{Kafka, Mosquitto, Publisher, Subscriber, committed, consume, wait_until};

/// How often a record is published that comes back each time.
const ROUNDS: u64 = 8;

const STOP: OnError = OnError {
    action: ErrorAction::Stop,
    dead_letter_topic: None,
    skip: Vec::new(),
};

#[test]
fn what_goes_round_is_published_eight_times_and_then_becomes_a_dead_letter() {
    const DEVICES: u32 = 3;
    let all = u64::from(DEVICES) * (ROUNDS + 1);
    let kafka = Kafka::shared();
    let dead = kafka.unique_topic("dead", 1);
    let mut circle = Circle::start(
        ProtocolVersion::Auto,
        OnError {
            action: ErrorAction::DeadLetter,
            dead_letter_topic: Some(dead.clone()),
            skip: Vec::new(),
        },
    );
    let listener = Subscriber::start(circle.mosquitto.port(), 1, 1, |_| format!("{}/+", circle.topic));
    circle.publish(DEVICES);

    let letters = consume(&kafka.bootstrap(), &dead, DEVICES as usize, SOON);
    let mut keys: Vec<&str> = letters.iter().map(|letter| letter.key_text()).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["0", "1", "2"]);
    for letter in &letters {
        assert_eq!(letter.header("millrace.error.reason"), Some("Loop"));
        assert_eq!(letter.header("millrace.hops"), Some("8"));
    }
    // All that is anywhere is accounted for: nothing goes on.
    let (down, up) = (circle.down.settled(), circle.up.settled());
    assert_eq!(
        (down.received, down.written, down.dead_lettered),
        (all, u64::from(DEVICES) * ROUNDS, u64::from(DEVICES))
    );
    assert_eq!((up.received, up.written), (all, all));
    circle.wait_committed(all);
    wait_until(SOON, "all messages to be heard", || listener.count() >= all);
    circle.down.terminate();
    circle.up.terminate();
    assert_eq!(kafka.end_offsets(&circle.topic), all);
    assert_eq!(kafka.end_offsets(&dead), u64::from(DEVICES));
    assert_eq!(listener.count(), all);

    let records = consume(&kafka.bootstrap(), &circle.topic, all as usize, SOON);
    for device in ["0", "1", "2"] {
        let its = records.iter().filter(|record| record.key_text() == device);
        let hops: Vec<&str> = its
            .map(|record| record.header("millrace.hops").unwrap_or("none"))
            .collect();
        assert_eq!(hops, ["none", "1", "2", "3", "4", "5", "6", "7", "8"]);
    }
}

#[test]
fn a_route_that_stops_at_what_goes_round_says_that_routes_feed_each_other() {
    let mut circle = Circle::start(ProtocolVersion::Auto, STOP);
    circle.publish(1);
    let mut said = None;
    wait_until(SOON, "the route to stop", || {
        let mut problems = circle.down.problems().into_iter();
        said = problems.find(|problem| problem.reason == Reason::MessageUndeliverable);
        said.is_some()
    });
    let message = said.expect("it has been waited for").message;
    let record = format!("stopped at record {}[0]@{ROUNDS}", circle.topic);
    for part in [
        record.as_str(),
        "has gone from Kafka to MQTT 8 times",
        "routes feed each other",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
    assert_eq!(circle.down.status().phase, Phase::Stopped);
    let (down, up) = (circle.down.settled(), circle.up.settled());
    assert_eq!(
        (down.received, down.written, down.returned),
        (ROUNDS + 1, ROUNDS, 1)
    );
    assert_eq!((up.received, up.written), (ROUNDS + 1, ROUNDS + 1));
    // The ninth record stays.
    circle.wait_committed(ROUNDS);
    circle.down.terminate();
    circle.up.terminate();
    assert_eq!(circle.kafka.end_offsets(&circle.topic), ROUNDS + 1);
}

/// As documented, and the negative control: nothing else ends it.
#[test]
fn by_way_of_mqtt_3_1_1_there_is_no_end() {
    let many = 5 * (ROUNDS + 1);
    let mut circle = Circle::start(ProtocolVersion::V311, STOP);
    circle.publish(1);
    wait_until(SOON, "many rounds", || {
        circle.kafka.end_offsets(&circle.topic) >= many
    });
    assert_eq!(circle.down.problems(), []);
    circle.down.terminate();
    circle.up.terminate();
    let records = consume(&circle.kafka.bootstrap(), &circle.topic, many as usize, SOON);
    assert!(
        records
            .iter()
            .all(|record| record.header("millrace.hops").is_none()),
        "{records:?}"
    );
}

/// Devices publish to `<topic>/<device>`. One route writes that to the Kafka topic, and the other one publishes what is
/// there to `<topic>/<the record's key>`, which is where it came from.
struct Circle {
    topic: String,
    group: String,
    mosquitto: Mosquitto,
    kafka: &'static Kafka,
    /// To Kafka.
    up: Worker,
    /// To MQTT.
    down: Worker,
}

impl Circle {
    /// `on_error` is that of the route to MQTT.
    #[track_caller]
    fn start(version: ProtocolVersion, on_error: OnError) -> Circle {
        let mosquitto = Mosquitto::builder().start();
        let kafka = Kafka::shared();
        let topic = kafka.unique_topic("circle", 1);
        let route = Route::new(&topic, mosquitto.port(), &kafka.bootstrap(), &topic);
        let mut document = route.document();
        document.settings.broker.protocol_version = version;
        document.live.source.subscriptions[0].filter = format!("{topic}/+device");
        document.live.mapping.key = "{device}".into();
        let mut up = Worker::new(&document);
        let mut document = route.delivery();
        document.settings.broker.protocol_version = version;
        document.live.on_error = on_error;
        let mut down = Worker::numbered(&document, 0);
        up.start_and_wait();
        down.start();
        down.wait_ready();
        Circle {
            group: route.group(),
            topic,
            mosquitto,
            kafka,
            up,
            down,
        }
    }

    /// Each of so many devices sends one message.
    #[track_caller]
    fn publish(&self, devices: u32) {
        let topic = self.topic.clone();
        let publisher = Publisher::builder(self.mosquitto.port())
            .keys(devices)
            .messages(u64::from(devices))
            .topic_of(move |device| format!("{topic}/{device}"))
            .start();
        assert_eq!(publisher.finish(SOON).acknowledged(), u64::from(devices));
    }

    /// Waits until all records before this one are committed, and it is not.
    #[track_caller]
    fn wait_committed(&self, offset: u64) {
        wait_until(SOON, &format!("offset {offset} to be committed"), || {
            committed(&self.kafka.bootstrap(), &self.group, &self.topic)
                .is_some_and(|offsets| offsets.get(&0) == Some(&(offset as i64)))
        });
    }
}

//! Devices ask through one route, an application behind Kafka answers, and the answers come back through another one. Not
//! among the tests of `brokers`, two of which run at a time: how long answers take is judged here.

mod support;

use millrace_contract::{ErrorAction, OnError, Propagate};
use millrace_testkit::{Dialogue, Kafka, Mosquitto, wait_until};
use std::time::Duration;
use support::{Route, SOON, Worker};

const DEVICES: u32 = 50;
const RATE: f64 = 1_000.0;
const QUESTIONS: u64 = 20_000;
/// Kafka compiles its code as it is used first.
const WARM_UP: Duration = Duration::from_secs(5);
/// From a device to the application and back: two routes, two brokers, each twice.
const MOST: Duration = Duration::from_millis(50);

#[test]
fn answers_reach_the_devices_that_asked_within_50_ms() {
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let [questions, answers] = ["questions", "answers"].map(|name| kafka.unique_topic(name, 3));
    let up = Route::new("devices", mosquitto.port(), &kafka.bootstrap(), &questions);
    let mut document = up.document();
    document.live.source.subscriptions[0].filter = "devices/+device/questions".into();
    document.live.mapping.key = "{device}".into();
    document.live.mapping.propagate = vec![Propagate::ResponseTopic, Propagate::CorrelationData];
    let mut asking = Worker::new(&document);

    let down = Route::new("answers", mosquitto.port(), &kafka.bootstrap(), &answers);
    let mut document = down.delivery();
    let publishing = &mut document.live.publishing;
    publishing.topic = "{record.headers['mqtt.responseTopic']}".into();
    publishing.allowed_topics = vec!["devices/+/answers".into()];
    document.live.on_error = OnError {
        action: ErrorAction::Stop,
        dead_letter_topic: None,
        skip: Vec::new(),
    };
    let mut answering = Worker::numbered(&document, 0);
    asking.start_and_wait();
    answering.start();
    wait_until(SOON, "the route back to have its partitions", || {
        answering.partitions() == 3
    });

    let topics = [questions.as_str(), answers.as_str()];
    let dialogue = Dialogue::start(
        mosquitto.port(),
        &kafka.bootstrap(),
        topics,
        "devices",
        DEVICES,
        RATE,
    );
    dialogue.wait_asked(QUESTIONS, SOON);
    let heard = dialogue.finish(SOON);
    let steady = heard.later_than(WARM_UP);
    eprintln!("{heard}\nwithout the first {WARM_UP:?}: {steady}");
    assert_eq!(heard.wrong, [] as [String; 0]);
    assert_eq!((heard.answered, heard.repeated), (heard.asked, 0));
    assert!(steady.percentile(99.0) < MOST, "{:?}", steady.percentile(99.0));
    for worker in [&mut asking, &mut answering] {
        worker.settled();
        worker.terminate();
    }
}

//! One worker of a route looks at Kafka for all, against a real one.

use crate::support::{Route, SOON, Worker};
use millrace_contract::survey::{Survey, Surveyed, WatchedGroup};
use millrace_contract::{Create, TopicPolicy};
use millrace_testkit::{Kafka, Mosquitto, Publisher, Writer, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use std::time::Duration;

fn seen(worker: &Worker) -> Option<Surveyed> {
    worker.status().survey
}

#[test]
fn partitions_are_added_as_the_configuration_says_and_used_soon() {
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("grown", 2);
    let route = Route::new(&topic, mosquitto.port(), &kafka.bootstrap(), &topic);
    let mut document = route.document();
    document.live.survey.partitions.insert(topic.clone(), 5);
    document.settings.sink.topics = vec![TopicPolicy {
        pattern: topic.clone(),
        create: Create::IfMissing,
        partitions: 2,
        replication_factor: 3,
        max_topics: 10,
        config: [("retention.ms".to_owned(), "3600000".to_owned())].into(),
    }];
    let mut worker = Worker::new(&document);
    worker.start_and_wait();
    let publisher = Publisher::builder(mosquitto.port())
        .rate(500.0)
        .keys(200)
        .topic_of(Route::topic_of(&topic))
        .start();
    wait_until(SOON, "five partitions to be reported", || {
        let topics = seen(&worker).map(|seen| seen.topics).unwrap_or_default();
        topics.iter().any(|one| one.name == topic && one.partitions == 5)
    });
    let topics = seen(&worker).expect("a survey").topics;
    assert_eq!(
        topics[0].drift,
        [
            "replication factor 1 instead of 3",
            "retention.ms 604800000 instead of 3600000"
        ]
    );
    // librdkafka learns of them when it asks for the topic again.
    let waited = wait_until(Duration::from_secs(15), "records in all partitions", || {
        (0..5).all(|partition| kafka.end_offset(&topic, partition) > 0)
    });
    eprintln!("records in all partitions after {waited:?}");
    let rate = || {
        let topics = seen(&worker).map(|seen| seen.topics).unwrap_or_default();
        topics
            .iter()
            .find(|one| one.name == topic)
            .and_then(|one| one.records_per_second)
    };
    wait_until(SOON, "a rate", || {
        rate().is_some_and(|rate| (400.0..600.0).contains(&rate))
    });
    let report = publisher.finish(SOON);
    assert_eq!(report.sent(), report.acknowledged());
    worker.settled();
    worker.terminate();
}

#[test]
fn a_group_that_falls_behind_with_a_member_for_every_partition_is_saturated() {
    let mosquitto = Mosquitto::builder().start();
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("watched", 1);
    let group = format!("{topic}-analytics");
    let route = Route::new(&topic, mosquitto.port(), &kafka.bootstrap(), &topic);
    let mut document = route.document();
    document.live.survey = Survey {
        groups: vec![
            WatchedGroup {
                group: group.clone(),
                topics: vec!["watched*".into()],
            },
            WatchedGroup {
                group: format!("{topic}-nobody"),
                topics: Vec::new(),
            },
        ],
        partitions: Default::default(),
    };
    let writer = Writer::start(&kafka.bootstrap(), &topic, 1, 10, 200.0);
    let member: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", &group)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()
        .expect("a consumer");
    member.subscribe(&[&topic]).expect("a subscription");
    // One record is committed and no more: it falls behind by 200 records a second.
    wait_until(SOON, "a record", || {
        match member.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                member
                    .commit_message(&record, CommitMode::Sync)
                    .expect("a commit");
                true
            }
            _ => false,
        }
    });
    let mut worker = Worker::new(&document);
    worker.start_and_wait();
    let mut last = None;
    wait_until(2 * SOON, "the group to be saturated", || {
        member.poll(Duration::from_millis(10));
        last = seen(&worker).and_then(|seen| seen.groups.into_iter().find(|one| one.group == group));
        last.as_ref()
            .is_some_and(|group| group.topics.iter().any(|topic| topic.saturated))
    });
    let survey = last.expect("it has been waited for");
    assert_eq!(
        (survey.state.as_str(), survey.members, survey.idle),
        ("Stable", 1, 0)
    );
    assert_eq!(survey.protocol.as_deref(), Some("Classic"));
    let lag = &survey.topics[0];
    assert_eq!(
        (lag.topic.as_str(), lag.partitions, lag.members),
        (topic.as_str(), 1, 1)
    );
    assert!(lag.lag > Some(1_000), "{lag:?}");
    let nobody = seen(&worker).expect("a survey").groups.remove(1);
    assert_eq!((nobody.state.as_str(), nobody.problem), ("Dead", None));
    drop(writer);
    worker.terminate();
}

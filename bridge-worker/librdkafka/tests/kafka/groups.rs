//! Against a real Kafka.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use millrace_librdkafka::groups::{Group, Kind, State, committed, describe, ends};
use millrace_testkit::{Kafka, Writer, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(5);

fn client(bootstrap: &str, settings: &[(&str, &str)]) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap)
        .set("enable.auto.commit", "false");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config.create().unwrap()
}

fn group(client: &BaseConsumer, name: &str) -> Group {
    describe(client.client(), name, TIMEOUT).unwrap()
}

#[test]
fn members_of_both_kinds_of_groups_are_told_with_their_partitions() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("groups", 4);
    let asking = client(&kafka.bootstrap(), &[("group.id", "looks-on")]);
    for (protocol, kind) in [("classic", Kind::Classic), ("consumer", Kind::Consumer)] {
        let name = format!("{topic}-{protocol}");
        let member = |client_id: &str| {
            let settings = [
                ("group.id", name.as_str()),
                ("group.protocol", protocol),
                ("client.id", client_id),
            ];
            let member = client(&kafka.bootstrap(), &settings);
            member.subscribe(&[&topic]).unwrap();
            member
        };
        let members = [member("a"), member("b")];
        let mut seen = None;
        wait_until(DEADLINE, "both members to have their partitions", || {
            for member in &members {
                member.poll(Duration::from_millis(50));
            }
            let group = group(&asking, &name);
            let is_shared_out =
                group.members.len() == 2 && group.members.iter().all(|member| member.partitions.len() == 2);
            seen = Some(group);
            is_shared_out
        });
        let mut group = seen.unwrap();
        group.members.sort_by(|a, b| a.client_id.cmp(&b.client_id));
        assert_eq!((group.kind, group.state, group.name), (kind, State::Stable, name));
        let ids: Vec<_> = group
            .members
            .iter()
            .map(|member| member.client_id.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
        let mut partitions: Vec<_> = group
            .members
            .iter()
            .flat_map(|member| member.partitions.clone())
            .collect();
        partitions.sort();
        assert_eq!(
            partitions,
            (0..4).map(|number| (topic.clone(), number)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn what_is_committed_and_where_topics_end_is_told() {
    let kafka = Kafka::shared();
    let topic = kafka.unique_topic("offsets", 3);
    let name = format!("{topic}-group");
    let member = client(&kafka.bootstrap(), &[("group.id", &name)]);
    let asking = client(&kafka.bootstrap(), &[("group.id", "looks-on")]);
    assert_eq!(committed(&asking, &name, TIMEOUT).unwrap(), []);
    assert_eq!(
        group(&asking, &name).state,
        State::Dead,
        "nobody has ever used it"
    );
    let mut offsets = TopicPartitionList::new();
    offsets
        .add_partition_offset(&topic, 1, Offset::Offset(7))
        .unwrap();
    member.commit(&offsets, CommitMode::Sync).unwrap();
    let positions = committed(&asking, &name, TIMEOUT).unwrap();
    let positions: Vec<_> = positions
        .iter()
        .map(|one| (one.topic.as_str(), one.partition, one.offset))
        .collect();
    assert_eq!(positions, [(topic.as_str(), 1, Some(7))]);
    assert_eq!(group(&asking, &name).state, State::Empty);

    let writer = Writer::start(&kafka.bootstrap(), &topic, 3, 2, 1_000.0);
    writer.wait_confirmed(10, DEADLINE);
    let report = writer.finish(DEADLINE);
    let asked = [
        (topic.as_str(), 0),
        (topic.as_str(), 1),
        (topic.as_str(), 2),
        (topic.as_str(), 99),
    ];
    let mut positions = ends(asking.client(), &asked, TIMEOUT).unwrap();
    positions.sort_by_key(|one| one.partition);
    let offsets: Vec<_> = positions.iter().map(|one| (one.partition, one.offset)).collect();
    let half = report.sent() / 2;
    let first = (report.sent() - half) as i64;
    assert_eq!(
        offsets,
        [(0, Some(first)), (1, Some(half as i64)), (2, Some(0)), (99, None)]
    );
}

#[test]
fn a_kafka_that_does_not_answer_is_an_error_in_time() {
    let asking = client("127.0.0.1:1", &[("group.id", "looks-on")]);
    let short = Duration::from_millis(300);
    let error = describe(asking.client(), "g", short).unwrap_err();
    let is_timeout = matches!(
        error,
        KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut | RDKafkaErrorCode::Resolve)
    );
    assert!(is_timeout, "{error}");
    assert!(committed(&asking, "g", short).is_err());
    assert!(ends(asking.client(), &[("t", 0)], short).is_err());
    assert!(committed(&asking, "a\0b", short).is_err(), "no C string");
}

#[test]
fn a_client_without_a_group_is_refused_before_a_broker_can_end_the_process() {
    let asking = client("127.0.0.1:1", &[]);
    let error = committed(&asking, "g", TIMEOUT).unwrap_err();
    assert_eq!(error, KafkaError::AdminOp(RDKafkaErrorCode::UnknownGroup));
}

//! The Kafka side in a cluster: answers of applications reach the devices that asked, topics grow with their load, and
//! a route from Kafka has no more workers than partitions.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use millrace_crds::KafkaSink;
use millrace_crds::api::{KafkaSinkStatus, TopicStatus};
use millrace_e2e::{BROKERS, Brokers, Namespace, RouteHandle, SOON, get, kubectl, kubectl_with};
use millrace_testkit::{
    Dialogue, Observer, Publisher, Subscriber, add_partitions, check, now_micros, partition_ends, wait_until,
};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};

/// Broker and sink, with what the sink says of topics and groups: indented by two.
fn ends(sink: &str) -> String {
    format!(
        "apiVersion: millrace.dev/v1alpha1
kind: MqttBroker
metadata: {{name: plant}}
spec: {{urls: [mqtt://mosquitto.{BROKERS}.svc:1883]}}
---
apiVersion: millrace.dev/v1alpha1
kind: KafkaSink
metadata: {{name: main}}
spec:
  bootstrapServers: [kafka.{BROKERS}.svc:9092]
{sink}---
"
    )
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn answers_reach_the_devices_that_asked() {
    const RATE: f64 = 1_000.0;
    const QUESTIONS: u64 = 40_000;
    const MOST: Duration = Duration::from_millis(50);
    /// Kafka, which the cluster has only just started, compiles its code as it is used first.
    const WARM_UP: Duration = Duration::from_secs(15);
    let brokers = Brokers::start();
    let namespace = Namespace::create("dialogue");
    let run = now_micros();
    let [questions, answers] = ["questions", "answers"].map(|name| format!("{name}-{run}"));
    // One partition takes these thousand a second. Of three Kafka takes three times the requests, on two cores for everything.
    let topics = "  topics: [{pattern: \"*\", create: IfMissing, partitions: 1, replicationFactor: 1}]\n";
    namespace.apply(&format!(
        "{}apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: questions}}
spec:
  from:
    mqtt:
      brokerRef: {{name: plant}}
      subscriptions: [{{filter: dialogue/+device/questions}}]
      ordering: PerTopic
      lanes: 1
  to:
    kafka:
      sinkRef: {{name: main}}
      topic: {questions}
      key: '{{device}}'
      propagate: [ResponseTopic, CorrelationData]
---
apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: answers}}
spec:
  from: {{kafka: {{sinkRef: {{name: main}}, topics: [{answers}]}}}}
  to:
    mqtt:
      brokerRef: {{name: plant}}
      topic: \"{{record.headers['mqtt.responseTopic']}}\"
      allowedTopics: [dialogue/+/answers]
",
        ends(topics)
    ));
    for route in ["questions", "answers"] {
        RouteHandle::new(&namespace, route).wait_ready();
    }
    let topics = [questions.as_str(), answers.as_str()];
    let dialogue = Dialogue::start(brokers.mqtt(), &brokers.bootstrap(), topics, "dialogue", 50, RATE);
    dialogue.wait_asked(QUESTIONS, 2 * SOON);
    let heard = dialogue.finish(SOON);
    for start in (0..40).step_by(5).map(Duration::from_secs) {
        let mut part = heard.later_than(start);
        part.times
            .retain(|(asked, _)| *asked <= start + Duration::from_secs(5));
        eprintln!("from {start:?} on: p99 {:?}", part.percentile(99.0));
    }
    let steady = heard.later_than(WARM_UP);
    eprintln!("{heard}\nwithout the first {WARM_UP:?}: {steady}");
    assert_eq!(heard.wrong, [] as [String; 0]);
    assert_eq!((heard.answered, heard.repeated), (heard.asked, 0));
    assert!(steady.percentile(99.0) < MOST, "{:?}", steady.percentile(99.0));
}

/// Strimzi's kind of objects, as far as it matters: an operator that has none of them still finds the kind.
const KAFKA_TOPICS: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: kafkatopics.kafka.strimzi.io}
spec:
  group: kafka.strimzi.io
  names: {kind: KafkaTopic, plural: kafkatopics, singular: kafkatopic}
  scope: Namespaced
  versions:
  - name: v1beta2
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";

/// A sink, and the cluster's Kafka.
struct Growing {
    namespace: Namespace,
    brokers: Brokers,
    run: u64,
}

impl Growing {
    fn start() -> Self {
        let brokers = Brokers::start();
        Self {
            namespace: Namespace::create("growing"),
            brokers,
            run: now_micros(),
        }
    }

    /// A topic of this run.
    fn topic(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    fn sink(&self) -> KafkaSinkStatus {
        let sink: KafkaSink = get(self.namespace.name(), "kafkasink", "main").unwrap();
        sink.status.unwrap_or_default()
    }

    /// What the sink says of a topic.
    fn known(&self, name: &str) -> Option<TopicStatus> {
        let topic = self.topic(name);
        self.sink().topics.into_iter().find(|one| one.name == topic)
    }

    /// Waits until the sink says something of a topic, and returns it.
    fn wait_known(&self, name: &str, what: &str, is_so: impl Fn(&TopicStatus) -> bool) -> TopicStatus {
        let mut known = None;
        wait_until(2 * SOON, &format!("{name}: {what}"), || {
            known = self.known(name);
            known.as_ref().is_some_and(&is_so)
        });
        known.unwrap()
    }

    /// The sink's condition about partitions.
    fn condition(&self, kind: &str) -> String {
        let conditions = self.sink().conditions.into_iter();
        let mut found = conditions.filter(|one| one.type_ == kind);
        found
            .next()
            .map_or_else(String::new, |one| format!("{}: {}", one.reason, one.message))
    }

    /// The ends of a topic's partitions in Kafka.
    fn ends(&self, name: &str) -> Vec<u64> {
        partition_ends(&self.brokers.bootstrap(), &self.topic(name))
    }

    /// A route from `<name>/+key` to the topic of that name.
    fn route(&self, name: &str) -> String {
        format!(
            "apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: {name}}}
spec:
  from: {{mqtt: {{brokerRef: {{name: plant}}, subscriptions: [{{filter: {name}/+key}}], ordering: PerTopic, lanes: 1}}}}
  to: {{kafka: {{sinkRef: {{name: main}}, topic: {}, key: '{{key}}'}}}}
---
",
            self.topic(name)
        )
    }

    /// Messages at a steady rate, below the route's filter.
    fn publish(&self, name: &'static str, rate: f64) -> Publisher {
        Publisher::builder(self.brokers.mqtt())
            .qos(1)
            .keys(100)
            .rate(rate)
            .topic_of(move |key| format!("{name}/{key}"))
            .start()
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn topics_grow_with_their_load_where_they_may() {
    /// Producers use partitions that were added by then.
    const USED: Duration = Duration::from_secs(15);
    const COOLDOWN: Duration = Duration::from_secs(30);
    let growing = Growing::start();
    kubectl_with(&["apply", "-f", "-"], KAFKA_TOPICS);
    let [grown, kept, owned, slow] = ["grown", "kept", "owned", "slow"].map(|name| growing.topic(name));
    let group = growing.topic("analytics");
    let grow =
        "create: IfMissing, replicationFactor: 1, growth: {policy: Grow, ratePerPartition: 100, max: 6";
    let sink = format!(
        "  topics:
  - {{pattern: {grown}, partitions: 2, {grow}, keyRemap: Allow, cooldown: 30s}}}}
  - {{pattern: {kept}, partitions: 1, {grow}}}}}
  - {{pattern: {owned}, partitions: 1, {grow}, keyRemap: Allow}}}}
  - {{pattern: {slow}, partitions: 1, create: IfMissing, replicationFactor: 1}}
  watchedGroups: [{{group: {group}}}]
"
    );
    growing.namespace.apply(&format!(
        "apiVersion: kafka.strimzi.io/v1beta2
kind: KafkaTopic
metadata: {{name: owned}}
spec: {{topicName: {owned}, partitions: 1}}
---
{}{}apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: back}}
spec:
  from: {{kafka: {{sinkRef: {{name: main}}, topics: [{grown}], start: Latest}}}}
  to: {{mqtt: {{brokerRef: {{name: plant}}, topic: 'grown-back/{{record.key}}', allowedTopics: [grown-back/+]}}}}
",
        ends(&sink),
        ["grown", "kept", "owned", "slow"].map(|name| growing.route(name)).concat(),
    ));
    for route in ["grown", "kept", "owned", "slow", "back"] {
        RouteHandle::new(&growing.namespace, route).wait_ready();
    }
    let devices = Subscriber::start(growing.brokers.mqtt(), 1, 1, |_| "grown-back/+".to_owned());
    let publisher = growing.publish("grown", 1_000.0);
    let others = ["kept", "owned", "slow"].map(|name| growing.publish(name, 200.0));
    let behind = Behind::start(&growing.brokers.bootstrap(), &group, &slow);

    let (mut partitions, mut raised) = (2, None);
    while partitions < 6 {
        let mut now = partitions;
        wait_until(2 * SOON, "partitions to be added", || {
            now = growing.ends("grown").len();
            now > partitions
        });
        let added = Instant::now();
        assert!(
            now <= 2 * partitions,
            "from {partitions} to {now} partitions in one step"
        );
        wait_until(USED, "records in all partitions", || {
            growing.ends("grown").iter().all(|end| *end > 0)
        });
        let took = added.elapsed();
        eprintln!("{partitions} partitions became {now}, which all have records after {took:.1?}");
        let target = i32::try_from(now).unwrap();
        let step = growing.wait_known("grown", "the target", |topic| {
            topic.target_partitions == Some(target)
        });
        let step = step.target_raised.unwrap().0;
        if let Some(before) = raised {
            let between = Duration::try_from(step.duration_since(before)).unwrap();
            assert!(
                (COOLDOWN..COOLDOWN + SOON).contains(&between),
                "{between:?} between two steps"
            );
        }
        raised = Some(step);
        partitions = now;
    }

    let kept = growing.wait_known("kept", "more partitions to be wanted", |topic| {
        topic.recommended_partitions >= Some(2)
    });
    let owned = growing.wait_known("owned", "more partitions to be wanted", |topic| {
        topic.recommended_partitions >= Some(2)
    });
    for topic in [&kept, &owned] {
        assert_eq!(
            (topic.partitions, topic.target_partitions),
            (1, None),
            "{topic:?}"
        );
    }
    wait_until(2 * SOON, "the group to be saturated", || {
        growing
            .condition("ConsumersKeepUp")
            .starts_with("GroupSaturated: ")
    });
    let slow = growing.wait_known("slow", "the group to ask for partitions", |topic| {
        topic.recommended_partitions >= Some(2)
    });
    let why = slow.reason.unwrap();
    assert!(
        why.starts_with(&format!("group {group} falls behind with 1 member,")),
        "{why}"
    );

    let story = [
        "as many as growth.max allows",
        "its records have keys",
        "KafkaTopic growing/owned owns it: write the number there",
        "falls behind with 1 member,",
    ];
    let mut said = String::new();
    wait_until(SOON, "one condition to tell it all", || {
        said = growing.condition("PartitionsSufficient");
        story.iter().all(|part| said.contains(part))
    });
    eprintln!("{said}");

    let report = publisher.finish(SOON);
    for publisher in others {
        publisher.finish(SOON);
    }
    // Only now: it reads the partitions that it finds.
    let observer = Observer::start(&growing.brokers.bootstrap(), &[&grown]);
    observer.wait_for(report.acknowledged(), SOON);
    devices.wait_for(report.acknowledged(), SOON);
    check(&report, &observer.finish()).assert_nothing_lost();
    let arrived = devices.finish();
    assert_eq!(
        arrived.distinct(),
        report.acknowledged(),
        "{:?}",
        check(&report, &arrived)
    );
    assert_eq!(growing.ends("grown").len(), 6, "never more than growth.max");
    assert_eq!((growing.ends("kept").len(), growing.ends("owned").len()), (1, 1));
    behind.finish();
    kubectl(&["delete", "crd", "kafkatopics.kafka.strimzi.io"]);
}

/// The only member of a consumer group, which commits one record and no more.
struct Behind {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Behind {
    fn start(bootstrap: &str, group: &str, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", group)
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let thread = std::thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let mut is_committed = false;
                while !stop.load(Ordering::Relaxed) {
                    let record = consumer.poll(Duration::from_millis(100));
                    if let Some(Ok(record)) = record
                        && !is_committed
                    {
                        consumer.commit_message(&record, CommitMode::Sync).unwrap();
                        is_committed = true;
                    }
                }
            }
        });
        Self { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
#[ignore = "needs a cluster: make e2e-full"]
fn a_route_from_kafka_has_no_more_workers_than_partitions() {
    let growing = Growing::start();
    let topic = growing.topic("commands");
    let topics = "  topics: [{pattern: \"*\", create: IfMissing, partitions: 2, replicationFactor: 1}]\n";
    growing.namespace.apply(&format!(
        "{}apiVersion: millrace.dev/v1alpha1
kind: TopicRoute
metadata: {{name: commands}}
spec:
  from: {{kafka: {{sinkRef: {{name: main}}, topics: [{topic}]}}}}
  to: {{mqtt: {{brokerRef: {{name: plant}}, topic: commands}}}}
",
        ends(topics)
    ));
    let route = RouteHandle::new(&growing.namespace, "commands");
    route.wait_ready();
    let replicas = || route.get()?.status?.replicas;
    let wait_shared = |workers: u16| {
        let is_shared = || {
            let deliveries = route.statuses().into_iter().filter_map(|status| status.delivery);
            let shares = deliveries.map(|delivery| delivery.partitions.len());
            shares.eq(std::iter::repeat_n(1_usize, workers.into()))
        };
        let what = format!("{workers} workers that read a partition each");
        let took = wait_until(SOON, &what, || {
            replicas() == Some(i32::from(workers)) && is_shared()
        });
        eprintln!("{what} after {took:.1?}");
        assert_eq!(route.pods().len(), usize::from(workers));
    };

    route.scale(4);
    let warning = route.wait_for("Warning", "True", "ReplicasClamped", SOON);
    let said = "spec.replicas asks for 4 workers, and the route has 2 partitions: more workers would have nothing to \
                do and are not started; lower spec.replicas to 2, or add partitions to the topics";
    assert_eq!(warning.message, said);
    route.wait_applied(SOON);
    wait_shared(2);

    // Nobody scales.
    add_partitions(&growing.brokers.bootstrap(), &topic, 4);
    wait_shared(4);
    route.wait_for("Warning", "False", "Healthy", SOON);
}

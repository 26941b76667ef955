use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use millrace_contract::status::RouteStatus;
use millrace_testkit::{Observer, Publisher, Records, Verdict, check, now_micros, wait_until};

use crate::{Brokers, Manifests, Namespace, RouteHandle, SOON, try_kubectl};

/// Messages per second of the load, unless a test says more.
pub const RATE: f64 = 2_000.0;
/// What is still to be written is written with shorter pauses.
const QUIET: Duration = Duration::from_secs(3);

/// A route in the cluster under a constant load, with an account at both ends.
#[derive(Debug)]
pub struct Plant {
    brokers: Arc<Brokers>,
    namespace: Namespace,
    manifests: Manifests,
    rate: f64,
    publisher: Publisher,
    observer: Observer,
    /// Runs that are no part of the load.
    others: Vec<u32>,
}

impl Plant {
    /// A route of that name in a namespace of its own, under a load of [`RATE`] messages a second with QoS 1.
    pub fn start(name: &str, change: impl FnOnce(&mut Manifests)) -> Self {
        Self::start_at(&Arc::new(Brokers::start()), name, change)
    }

    /// One of several, or at other brokers: there is one way to Kafka from outside.
    pub fn start_at(brokers: &Arc<Brokers>, name: &str, change: impl FnOnce(&mut Manifests)) -> Self {
        Self::start_under(RATE, brokers, name, change)
    }

    /// Under another load, in messages a second.
    pub fn start_under(
        rate: f64,
        brokers: &Arc<Brokers>,
        name: &str,
        change: impl FnOnce(&mut Manifests),
    ) -> Self {
        let brokers = Arc::clone(brokers);
        let namespace = Namespace::create(&format!("e2e-{name}"));
        let mut manifests = Manifests::new(name);
        manifests.server = brokers.server();
        change(&mut manifests);
        namespace.apply(&login("millrace"));
        namespace.apply(&manifests.yaml());
        RouteHandle::new(&namespace, name).wait_ready();
        let observer = Observer::start(&brokers.bootstrap(), &[&manifests.topic]);
        let publisher = Publisher::builder(brokers.mqtt())
            .qos(1)
            .keys(100)
            .rate(rate)
            .topic_of(manifests.topic_of())
            .start();
        let plant = Self {
            brokers,
            namespace,
            manifests,
            rate,
            publisher,
            observer,
            others: Vec::new(),
        };
        plant.wait_flow("the load flows");
        plant
    }

    /// The brokers.
    pub fn brokers(&self) -> &Brokers {
        &self.brokers
    }

    /// Where the route is, and nothing else.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// What the route was made from.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Who makes the load.
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Who reads Kafka.
    pub fn observer(&self) -> &Observer {
        &self.observer
    }

    /// The route.
    pub fn route(&self) -> RouteHandle<'_> {
        RouteHandle::new(&self.namespace, &self.manifests.name)
    }

    /// Something of each of the workers' pods, as JSONPath says it from a pod on, sorted.
    pub fn of_workers(&self, path: &str) -> Vec<String> {
        let lines = format!("jsonpath={{range .items[*]}}{{{path}}}{{\"\\n\"}}{{end}}");
        let selector = "app.kubernetes.io/component=worker";
        let text = self
            .namespace
            .kubectl(&["get", "pods", "-l", selector, "-o", &lines]);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    /// The uids of the workers' pods.
    pub fn uids(&self) -> Vec<String> {
        self.of_workers(".metadata.uid")
    }

    /// What each worker that answers says at `/status`.
    pub fn statuses(&self) -> Vec<RouteStatus> {
        self.route().statuses()
    }

    /// When each lane was connected first after a moment, as the workers that there are have logged it; both in milliseconds
    /// since the Unix epoch.
    pub fn connected_since(&self, moment: i64) -> BTreeMap<u16, i64> {
        let pods = self.of_workers(".metadata.name").into_iter();
        // A pod that is about to go may be gone.
        let logs = pods.filter_map(|pod| try_kubectl(&["logs", "-n", self.namespace.name(), &pod]).ok());
        let mut connected = BTreeMap::new();
        for line in logs.collect::<String>().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            if line["message"] != "connected to the MQTT broker" {
                continue;
            }
            let (client_id, at) = (line["client_id"].as_str(), line["timestamp"].as_str());
            let lane = client_id.and_then(|id| id.rsplit_once('-')?.1.parse().ok());
            let at: Option<Timestamp> = at.and_then(|at| at.parse().ok());
            let (lane, at) = lane.zip(at).unwrap_or_else(|| panic!("{line}"));
            if at.as_millisecond() >= moment {
                let first = connected.entry(lane).or_insert(at.as_millisecond());
                *first = at.as_millisecond().min(*first);
            }
        }
        connected
    }

    /// Waits until Kafka has what was acknowledged by now, and two seconds of load more.
    pub fn wait_flow(&self, what: &str) {
        let goal = self.publisher.acknowledged() + (2.0 * self.rate) as u64;
        let took = self.observer.wait_for(goal, SOON);
        eprintln!(
            "{what}: {goal} messages are in Kafka after {:.1} s",
            took.as_secs_f64()
        );
    }

    /// Waits for two seconds of load, whatever becomes of it.
    pub fn wait_acknowledged(&self) {
        let goal = self.publisher.acknowledged() + (2.0 * self.rate) as u64;
        self.publisher.wait_acknowledged(goal, SOON);
    }

    /// Waits until the load has gone on for so long from `since` acknowledged messages on, and all of it is in Kafka.
    pub fn wait_load(&self, since: u64, time: Duration) {
        let goal = since + (self.rate * time.as_secs_f64()) as u64;
        self.observer.wait_for(goal, time + SOON);
    }

    /// Publishes one message to a topic, again and again while nobody has subscribed to it, and waits until it is in
    /// Kafka.
    pub fn pass_one(&mut self, topic: &str) {
        let topic = topic.to_owned();
        let one = Publisher::builder(self.brokers.mqtt())
            .keys(1)
            .messages(1)
            .topic_of(move |_| topic.clone())
            .start();
        let run = one.run();
        self.others.push(run);
        one.finish(SOON);
        wait_until(SOON, "the message to be in Kafka", || {
            let seen = self.observer.snapshot();
            seen.seen().iter().rev().any(|seen| seen.id.run == run)
        });
    }

    /// Compares the accounts of both ends when nothing more comes, whatever is missing.
    pub fn finish_as_it_is(self) -> Verdict {
        let report = self.publisher.finish(SOON);
        wait_until(SOON, "nothing more to come", || {
            let last = self.observer.last_at().unwrap_or_default();
            Duration::from_micros(now_micros().saturating_sub(last)) > QUIET
        });
        check(&report, &self.observer.finish().without(&self.others))
    }

    /// Compares the accounts of both ends: nothing is missing, and first occurrences are in order.
    pub fn finish(self) -> (Verdict, Records) {
        let (verdict, records) = self.account();
        verdict.assert_nothing_lost();
        (verdict, records)
    }

    /// Compares the accounts of both ends: nothing is missing.
    pub fn finish_in_any_order(self) -> (Verdict, Records) {
        let (verdict, records) = self.account();
        let verdict = verdict.in_any_order();
        verdict.assert_nothing_lost();
        (verdict, records)
    }

    fn account(self) -> (Verdict, Records) {
        let report = self.publisher.finish(SOON);
        let others = self.others.len() as u64;
        self.observer.wait_for(report.acknowledged() + others, SOON);
        let records = self.observer.finish().without(&self.others);
        let verdict = check(&report, &records);
        eprintln!(
            "{} sent, {} acknowledged, {} in Kafka, {} distinct",
            report.sent(),
            report.acknowledged(),
            records.seen().len(),
            records.distinct()
        );
        (verdict, records)
    }
}

/// The Secret that an [`MqttBroker`](millrace_crds::MqttBroker) with `secretRef: {name: login}` logs in with.
pub fn login(password: &str) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: login}}
stringData: {{username: plant, password: {password}}}
"
    )
}

//! A route and what is around it: what the user writes, what the operator makes of it, what kubelets and workers do.

use std::sync::Arc;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_contract::probe::{Failure, Outcome, Report, SinkFound, TopicFound};
use millrace_contract::status::{
    ConnectionState, ConnectionStatus, DeliveryStatus, LaneState, LaneStatus, PartitionStatus, Phase,
    Problem, RouteStatus,
};
use millrace_contract::{AnyDocument, LaneOwner, LaneRecord, Ownership};
use millrace_crds::TopicRoute;
use millrace_crds::api::TopicRouteStatus;
use millrace_operator::observed::{self, ChildKind, Family, Observed, Owner, Seen, Workers};
use millrace_operator::plan::{self, Checks, Inputs, Plan, Rejection, Rollout};
use millrace_operator::status::{self, RouteFacts};
use millrace_operator::{Settings, names};
use serde_json::{Value, json};

use crate::manifests::{NAMESPACE, edited, generation, json_of, object, typed};
use crate::pods;
use crate::said::Said;

/// A route and what is around it.
pub(crate) struct World {
    route: Value,
    broker: Option<Value>,
    sink: Option<Value>,
    /// Another route that is there already.
    other: Option<Value>,
    observed: Observed,
    answers: Workers,
    /// What the workers were last started with or told of: what the user had written then.
    acts_by: Option<(AnyDocument, Value, Value)>,
    /// How many workers the StatefulSet was last told to have.
    wanted: u16,
    /// Other routes that are replacing their workers.
    pub(crate) rolling: usize,
    /// Routes through which what it writes would come back.
    pub(crate) fed_back_by: Vec<String>,
    /// A route that reads with the same consumer group.
    pub(crate) in_group_of: Option<String>,
    /// What keeps the operator from making a child.
    pub(crate) taken: Option<Rejection>,
    /// What the API server says against a child.
    refused: Option<&'static str>,
    now: Timestamp,
    settings: Settings,
}

/// Partitions of the topics that a route from Kafka reads.
const PARTITIONS: u16 = 6;

/// What one of several workers of a route from Kafka has.
fn delivery(worker: u16, workers: u16) -> DeliveryStatus {
    let partition = |partition: u16| PartitionStatus {
        topic: "commands".into(),
        partition: partition.into(),
        arrived: Some(10),
        lag: Some(0),
    };
    DeliveryStatus {
        connection: ConnectionStatus {
            state: ConnectionState::Up,
            protocol_version: Some("5".into()),
            connections: 1,
            ..ConnectionStatus::new(format!("millrace-6a3d0c1e-out-{worker}"))
        },
        group: "millrace.factory.sensors".into(),
        partitions: (worker..PARTITIONS)
            .step_by(workers.into())
            .map(partition)
            .collect(),
        partitions_in_all: PARTITIONS.into(),
    }
}

impl World {
    /// The user has just written all three.
    pub(crate) fn new() -> Self {
        Self {
            route: object("TopicRoute"),
            broker: Some(object("MqttBroker")),
            sink: Some(object("KafkaSink")),
            other: None,
            observed: Observed::default(),
            answers: Workers::default(),
            acts_by: None,
            wanted: 0,
            rolling: 0,
            fed_back_by: Vec::new(),
            in_group_of: None,
            taken: None,
            refused: None,
            now: "2026-03-01T03:00:10Z".parse().unwrap(),
            settings: Settings::default(),
        }
    }

    /// All works.
    pub(crate) fn running() -> Self {
        Self::new().probe_finds_all().rolled_out()
    }

    /// The route was written like this from the beginning.
    pub(crate) fn written(mut self, write: impl FnOnce(&mut Value)) -> Self {
        write(&mut self.route["spec"]);
        self
    }

    /// The user changes the route, which has been looked after until now.
    pub(crate) fn edited(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        self.remember();
        self.route = edited(self.route, edit);
        self
    }

    /// The user changes the broker, or deletes it.
    pub(crate) fn broker(mut self, edit: impl FnOnce(Value) -> Option<Value>) -> Self {
        self.remember();
        self.broker = self.broker.and_then(edit);
        self
    }

    /// The user changes the sink, or deletes it.
    pub(crate) fn sink(mut self, edit: impl FnOnce(Value) -> Option<Value>) -> Self {
        self.remember();
        self.sink = self.sink.and_then(edit);
        self
    }

    /// An older route has the same broker.
    pub(crate) fn after_another(mut self, name: &str) -> Self {
        let mut other = self.route.clone();
        other["metadata"]["name"] = name.into();
        other["metadata"]["uid"] = "00000000-0000-4000-8000-000000000000".into();
        other["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z".into();
        self.other = Some(other);
        self
    }

    /// The status is gone, as after a restore of a backup.
    pub(crate) fn without_status(mut self) -> Self {
        self.route["status"] = Value::Null;
        self
    }

    /// Time passes.
    pub(crate) fn after(mut self, seconds: i64) -> Self {
        self.now += SignedDuration::from_secs(seconds);
        self
    }

    /// The operator makes the probe that is due, and its pod comes to this.
    pub(crate) fn probe(mut self, status: Value) -> Self {
        self.remember();
        let plan = self.plan().unwrap();
        let probe = plan.children.iter().find(|child| child.kind == ChildKind::Pod);
        let mut pod = json_of(probe.expect("a probe is due"));
        pod["metadata"]["creationTimestamp"] = self.now.to_string().into();
        pod["status"] = status;
        if let Some(end) = pod.pointer_mut("/status/containerStatuses/0/state/terminated") {
            end["finishedAt"] = self.now.to_string().into();
        }
        self.see(ChildKind::Pod, pod);
        self
    }

    /// The probe finds nothing wrong.
    pub(crate) fn probe_finds_all(self) -> Self {
        let found = r#"{"sink": {"found": {"brokers": 3}}}"#;
        self.probe(pods::ended(0, found))
    }

    /// The probe finds this wrong with the broker.
    pub(crate) fn probe_fails_at_broker(self, problem: Problem) -> Self {
        let report = Report {
            broker: Some(Outcome::Failed(failure(problem))),
            sink: None,
        };
        self.probe(pods::ended(1, &serde_json::to_string(&report).unwrap()))
    }

    /// The probe finds this wrong with Kafka.
    pub(crate) fn probe_fails_at_sink(self, problem: Problem) -> Self {
        let report = Report {
            broker: None,
            sink: Some(Outcome::Failed(failure(problem))),
        };
        self.probe(pods::ended(1, &serde_json::to_string(&report).unwrap()))
    }

    /// The probe finds Kafka, and this wrong with the topic.
    pub(crate) fn probe_misses_topic(self, problem: Problem) -> Self {
        let topic = TopicFound {
            name: "sensors".into(),
            partitions: 0,
            created: false,
            problem: Some(failure(problem)),
        };
        let report = Report {
            broker: None,
            sink: Some(Outcome::Found(SinkFound {
                cluster_id: None,
                brokers: 3,
                topics: vec![topic],
            })),
        };
        self.probe(pods::ended(1, &serde_json::to_string(&report).unwrap()))
    }

    /// The operator has written the children; the StatefulSet's workers are so many, of which `updated` are new.
    pub(crate) fn applied(mut self, current: i32, updated: i32) -> Self {
        self.remember();
        let plan = self.plan().unwrap();
        assert_eq!(plan.rollout, Rollout::Current, "nothing is rolled out");
        self.wanted = plan.workers;
        for child in &plan.children {
            let (kind, mut body) = (child.kind, json_of(child));
            if kind == ChildKind::StatefulSet {
                body["status"] = json!({
                    "observedGeneration": 1, "replicas": current, "updatedReplicas": updated,
                    "readyReplicas": current, "updateRevision": "new",
                });
                body["metadata"]["generation"] = 1.into();
            }
            self.see(kind, body);
        }
        self
    }

    /// All workers are new, ready, and do what is written.
    pub(crate) fn rolled_out(mut self) -> Self {
        let workers = self.plan().unwrap().workers;
        self = self.applied(workers.into(), workers.into());
        self.acts_by = Some((
            self.document().unwrap(),
            self.broker.clone().unwrap(),
            self.sink.clone().unwrap(),
        ));
        for worker in 0..workers {
            self = self.pod(worker, pods::READY).answers(worker, |_| {});
        }
        self
    }

    /// Something else has scaled the StatefulSet.
    pub(crate) fn scaled_by(mut self, manager: &str) -> Self {
        let plan = self.plan().unwrap();
        let set = plan
            .children
            .iter()
            .find(|child| child.kind == ChildKind::StatefulSet);
        let mut set = json_of(set.expect("workers are wanted"));
        set["metadata"]["managedFields"] = json!([{
            "manager": manager, "operation": "Update", "subresource": "scale", "apiVersion": "apps/v1",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
        }]);
        set["metadata"]["generation"] = 1.into();
        let workers = set["spec"]["replicas"].clone();
        set["status"] = json!({
            "observedGeneration": 1, "replicas": workers, "updatedReplicas": workers, "readyReplicas": workers,
            "updateRevision": "new",
        });
        self.see(ChildKind::StatefulSet, set);
        self.now = Timestamp::now();
        self
    }

    /// So many lanes are owned.
    pub(crate) fn owned(mut self, lanes: u16) -> Self {
        let owner = |lane| LaneOwner {
            lane,
            ordinal: lane % 2,
            state: Ownership::Owned,
            since: 1,
        };
        let record = LaneRecord {
            generation: 1,
            lanes: (0..lanes).map(owner).collect(),
        };
        let family = plan::Family::of(names::kind::ROUTE, &typed::<TopicRoute>(&self.route));
        let map = plan::record(&family, &record, None);
        self.see(ChildKind::ConfigMap, serde_json::to_value(map).unwrap());
        self
    }

    /// What a kubelet says of a worker.
    pub(crate) fn pod(mut self, worker: u16, status: &str) -> Self {
        let set = self.plan().unwrap().children;
        let set = set.into_iter().find(|child| child.kind == ChildKind::StatefulSet);
        let set = json_of(&set.expect("workers are wanted"));
        let template = &set["spec"]["template"];
        let mut pod = json!({"metadata": template["metadata"], "status": pods::status(status)});
        let meta = &mut pod["metadata"];
        meta["name"] = format!("{}-{worker}", names::workers("sensors")).into();
        meta["namespace"] = NAMESPACE.into();
        meta["uid"] = uid(worker).into();
        meta["labels"]["controller-revision-hash"] = "new".into();
        self.see(ChildKind::Pod, pod);
        self
    }

    /// What a worker says: that it does what is written, and all is well, but for this.
    pub(crate) fn answers(self, worker: u16, but: impl FnOnce(&mut RouteStatus)) -> Self {
        let lane = |lane: u16| LaneStatus {
            protocol_version: Some("5".into()),
            session_present: true,
            connections: 1,
            ..LaneStatus::new(lane, format!("millrace-6a3d0c1e-{lane}"), LaneState::Up)
        };
        let plan = self.plan().unwrap();
        let (mut lanes, mut delivery) = (Vec::new(), None);
        match &plan.document {
            AnyDocument::ToKafka(document) => {
                let owned = (worker..document.live.lanes.count).step_by(plan.workers.into());
                lanes = owned.map(lane).collect();
            }
            AnyDocument::ToMqtt(_) => delivery = Some(self::delivery(worker, plan.workers)),
        }
        let mut status = RouteStatus {
            namespace: NAMESPACE.into(),
            name: "sensors".into(),
            live: plan.live_hash,
            phase: Phase::Running,
            ready: true,
            lanes,
            delivery,
            ..RouteStatus::default()
        };
        but(&mut status);
        self.answers.answered(&uid(worker), Ok(status), Instant::now());
        self
    }

    /// A worker has these problems, and its lanes are in this state.
    pub(crate) fn suffers(self, worker: u16, state: LaneState, problems: &[Problem]) -> Self {
        let live = self.answers.of(&uid(worker)).status.unwrap().live;
        self.answers(worker, |status| {
            status.live = live;
            status.problems = problems.to_vec();
            status.lanes.iter_mut().for_each(|lane| lane.state = state);
        })
    }

    /// The API server does not take what the operator writes.
    pub(crate) fn refused(mut self, why: &'static str) -> Self {
        self.refused = Some(why);
        self
    }

    /// A worker cannot be asked.
    pub(crate) fn goes_silent(self, worker: u16, why: &str) -> Self {
        self.misses_a_question(worker, why).misses_a_question(worker, why)
    }

    /// A worker has not answered once.
    pub(crate) fn misses_a_question(self, worker: u16, why: &str) -> Self {
        self.answers
            .answered(&uid(worker), Err(why.into()), Instant::now());
        self
    }

    /// What is said now.
    pub(crate) fn said(self, scenario: &'static str) -> Said {
        let mut status = self.status();
        // A hash in the names of probes, which changes with every field of what workers read.
        if let Ok(plan) = self.plan() {
            for condition in &mut status.conditions {
                condition.message = condition.message.replace(&plan.version, "0123456789");
            }
        }
        Said {
            scenario,
            generation: generation(&self.route),
            observed: status.observed_generation,
            conditions: status.conditions,
            in_force: self.is_in_force(),
        }
    }

    /// Whether workers act by the route as it is written now, with broker and sink as they were.
    fn is_in_force(&self) -> bool {
        let Some((document, broker, sink)) = &self.acts_by else {
            return false;
        };
        let written = plan::render(&typed(&self.route), &typed(broker), &typed(sink));
        let has_all = self.plan().map_or(true, |plan| plan.workers == self.wanted);
        has_all && written.is_ok_and(|written| written == *document)
    }

    fn document(&self) -> Result<AnyDocument, Rejection> {
        let (broker, sink) = (self.broker.as_ref().unwrap(), self.sink.as_ref().unwrap());
        plan::render(&typed(&self.route), &typed(broker), &typed(sink))
    }

    fn plan(&self) -> Result<Plan, Rejection> {
        let plan = plan::route(&self.inputs(), &Checks::default(), &self.settings)?;
        self.taken.clone().map_or(Ok(plan), Err)
    }

    fn inputs(&self) -> Inputs {
        let broker: Option<Arc<_>> = self.broker.as_ref().map(|broker| Arc::new(typed(broker)));
        let other = self.other.as_ref().map(|other| Arc::new(typed(other)));
        Inputs {
            route: Arc::new(typed(&self.route)),
            others: other.into_iter().zip(broker.clone()).collect(),
            broker,
            sink: self.sink.as_ref().map(|sink| Arc::new(typed(sink))),
            family: self.family(),
            uptake: Default::default(),
            is_impatient: false,
            labels: None,
            rolling: self.rolling,
            partitions: self.partitions(),
            fed_back_by: self.fed_back_by.clone(),
            in_group_of: self.in_group_of.clone(),
            now: self.now,
        }
    }

    /// Of a route from Kafka whose workers have answered.
    fn partitions(&self) -> Option<u16> {
        let reads_kafka = self.route["spec"]["from"]["kafka"].is_object();
        (reads_kafka && self.acts_by.is_some()).then_some(PARTITIONS)
    }

    fn family(&self) -> Family {
        self.observed.family(&Owner {
            kind: names::kind::ROUTE,
            namespace: NAMESPACE.into(),
            name: "sensors".into(),
        })
    }

    fn status(&self) -> TopicRouteStatus {
        let (inputs, plan) = (self.inputs(), self.plan());
        let workers = plan::workers(&inputs.family);
        status::route(&RouteFacts {
            moving: false,
            route: &inputs.route,
            plan: plan.as_ref(),
            refused: self.refused,
            broker: inputs.broker.as_deref(),
            set: inputs.set(),
            workers: workers
                .map(|(child, pod)| (pod, self.answers.of(&child.uid)))
                .collect(),
            now: self.now,
        })
    }

    /// The operator writes the status.
    fn remember(&mut self) {
        self.route["status"] = serde_json::to_value(self.status()).unwrap();
    }

    /// The operator's watches tell of a child.
    fn see(&mut self, kind: ChildKind, body: Value) {
        let meta: ObjectMeta = typed(&body["metadata"]);
        let seen = match kind {
            ChildKind::StatefulSet => observed::set(&typed::<StatefulSet>(&body)),
            ChildKind::Pod => observed::pod(&typed::<Pod>(&body)),
            ChildKind::ConfigMap => observed::config_map(&typed::<ConfigMap>(&body)),
            _ => Seen::Plain,
        };
        self.observed.apply(kind, &meta, seen);
    }
}

fn uid(worker: u16) -> String {
    format!("worker-{worker}")
}

/// What a probe calls a problem.
pub(crate) fn failure(Problem { reason, message }: Problem) -> Failure {
    Failure { reason, message }
}

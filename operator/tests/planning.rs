//! What planning costs: with 1,000 routes of 8 lanes, of which one or all have changed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use millrace_contract::status::{LaneState, LaneStatus, RouteStatus};
use millrace_contract::{LaneRecord, Ownership};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute};
use millrace_operator::observed::{self, ChildKind, Observed, Owner};
use millrace_operator::plan::lanes::{self, Goal, PodView, Said, Silences};
use millrace_operator::plan::{self, Checks, Inputs, Rollout};
use millrace_operator::{Settings, names};
use serde_json::{Value, json};

const ROUTES: usize = 1_000;
const LANES: u16 = 8;
const WORKERS: u16 = 4;
const FAILOVER: Duration = Duration::from_secs(15);

/// What an operator knows of a cluster in which nothing is to be done.
struct Cluster {
    observed: Observed,
    routes: Vec<Arc<TopicRoute>>,
    broker: Arc<MqttBroker>,
    sink: Arc<KafkaSink>,
    checks: Checks,
    settings: Settings,
}

fn of<T: serde::de::DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).unwrap()
}

fn owner(route: &TopicRoute) -> Owner {
    Owner::of(names::kind::ROUTE, route)
}

impl Cluster {
    fn with(routes: usize) -> Self {
        let meta = |name: &str| json!({"name": name, "namespace": "plants", "uid": name, "generation": 1});
        let broker = json!({
            "metadata": meta("plant"), "spec": {"urls": ["mqtt://mosquitto:1883"]},
        });
        let sink = json!({
            "metadata": meta("main"),
            "spec": {"bootstrapServers": ["kafka:9092"], "topics": [{"pattern": "sensors", "create": "IfMissing"}]},
        });
        let route = |number: usize| {
            let route = json!({
                "metadata": meta(&format!("route-{number}")),
                "spec": {
                    "replicas": WORKERS,
                    "from": {"mqtt": {
                        "brokerRef": {"name": "plant"}, "lanes": LANES, "ordering": "PerTopic",
                        "subscriptions": (0..LANES)
                            .map(|filter| json!({"filter": format!("plants/{number}/{filter}/+device")}))
                            .collect::<Vec<_>>(),
                    }},
                    "to": {"kafka": {
                        "sinkRef": {"name": "main"}, "topic": "sensors", "key": "{device}",
                        "value": "{'device': device, 'topic': message.topic}",
                    }},
                },
            });
            Arc::new(of(route))
        };
        let cluster = Self {
            observed: Observed::default(),
            routes: (0..routes).map(route).collect(),
            broker: Arc::new(of(broker)),
            sink: Arc::new(of(sink)),
            checks: Checks::default(),
            settings: Settings::default(),
        };
        for route in &cluster.routes {
            cluster.run(route);
        }
        cluster
    }

    /// All that the operator would have written for a route is there, and its workers run.
    fn run(&self, route: &Arc<TopicRoute>) {
        let owner = owner(route);
        let labels = json!({names::OWNER_KIND: owner.kind, names::INSTANCE: owner.name});
        // The settings it wants decide whether it goes on to write the rest.
        let wanted = self.plan(route).unwrap();
        let set = |settings: &str, template: Value| {
            let set = json!({
                "metadata": {
                    "name": names::workers(&owner.name), "namespace": "plants", "uid": "set", "generation": 1,
                    "labels": labels,
                },
                "spec": {
                    "replicas": WORKERS, "selector": {}, "serviceName": "",
                    "template": {"metadata": {"annotations": template}},
                },
                "status": {
                    "replicas": WORKERS, "readyReplicas": WORKERS, "updatedReplicas": WORKERS,
                    "observedGeneration": 1, "updateRevision": settings,
                },
            });
            let set: StatefulSet = of(set);
            self.observed
                .apply(ChildKind::StatefulSet, &set.metadata, observed::set(&set));
        };
        set(&wanted.version, json!({names::SETTINGS: wanted.version}));
        for child in self.plan(route).unwrap().children {
            let mut body: Value = serde_json::from_str(child.body.get()).unwrap();
            body["metadata"]["uid"] = json!(child.name);
            match child.kind {
                ChildKind::ConfigMap => {
                    let map: ConfigMap = of(body);
                    self.observed
                        .apply(child.kind, &map.metadata, observed::config_map(&map));
                }
                ChildKind::StatefulSet => {
                    set(
                        &wanted.version,
                        body["spec"]["template"]["metadata"]["annotations"].take(),
                    );
                }
                _ => {}
            }
        }
        let record = lanes::next(None, GOAL, &BTreeMap::new()).unwrap();
        let map: ConfigMap = plan::record(
            &plan::Family::of(names::kind::ROUTE, route.as_ref()),
            &record,
            None,
        );
        let mut meta = map.metadata.clone();
        meta.uid = Some("record".into());
        self.observed
            .apply(ChildKind::ConfigMap, &meta, observed::config_map(&map));
        for ordinal in 0..WORKERS {
            self.show_worker(route, ordinal, "1");
        }
    }

    fn show_worker(&self, route: &TopicRoute, ordinal: u16, version: &str) -> Option<Owner> {
        let owner = owner(route);
        let name = format!("{}-{ordinal}", names::workers(&owner.name));
        let pod: Pod = of(json!({
            "metadata": {
                "name": name, "namespace": "plants", "uid": name, "resourceVersion": version,
                "labels": {
                    names::OWNER_KIND: owner.kind, names::INSTANCE: owner.name,
                    names::COMPONENT: names::component::WORKER,
                },
            },
            "status": {
                "podIP": "10.0.0.1", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            },
        }));
        self.observed
            .apply(ChildKind::Pod, &pod.metadata, observed::pod(&pod))
    }

    fn plan(&self, route: &Arc<TopicRoute>) -> Result<plan::Plan, plan::Rejection> {
        let owner = owner(route);
        let now = Timestamp::now();
        let inputs = Inputs {
            route: Arc::clone(route),
            broker: Some(Arc::clone(&self.broker)),
            sink: Some(Arc::clone(&self.sink)),
            labels: None,
            others: Vec::new(),
            uptake: Default::default(),
            is_impatient: false,
            family: self.observed.family(&owner),
            rolling: self.observed.rolling(&owner, now),
            partitions: None,
            fed_back_by: Vec::new(),
            in_group_of: None,
            now,
        };
        plan::route(&inputs, &self.checks, &self.settings)
    }
}

const GOAL: Goal = Goal {
    lanes: LANES,
    workers: WORKERS,
};

/// Workers that read what the record gives them.
fn pods(record: &LaneRecord) -> BTreeMap<u16, PodView> {
    let worker = |ordinal: u16| {
        let part = record.part_of(ordinal, None);
        let lanes = part
            .lanes
            .into_iter()
            .map(|lane| LaneStatus::new(lane, "", LaneState::Up));
        let status = RouteStatus {
            generation: record.generation,
            lanes: lanes.collect(),
            ..RouteStatus::default()
        };
        let view = PodView {
            said: Some(Said::of(&status)),
            answered: Some(Instant::now()),
            going: false,
            heard: record.generation,
        };
        (ordinal, view)
    };
    (0..WORKERS).map(worker).collect()
}

/// The shortest of some runs: the machine has other things to do.
fn shortest(run: impl FnMut() -> Duration) -> Duration {
    std::iter::repeat_with(run).take(7).min().unwrap()
}

#[test]
fn lanes_of_1000_routes_are_planned_in_50_ms() {
    let record = lanes::next(None, GOAL, &BTreeMap::new()).unwrap();
    assert_eq!(record.lanes.len(), usize::from(LANES));
    let mut routes: Vec<_> = (0..ROUTES)
        .map(|_| (record.clone(), pods(&record), Silences::default()))
        .collect();
    let mut pass = |goal: Goal| {
        let start = Instant::now();
        let plan = |(record, pods, silences): &mut (LaneRecord, BTreeMap<u16, PodView>, Silences)| {
            let crew = silences.crew(pods, Some(record), goal, Instant::now(), FAILOVER);
            lanes::next(Some(record), goal, &crew)
        };
        let changed: Vec<LaneRecord> = routes.iter_mut().filter_map(plan).collect();
        (start.elapsed(), changed)
    };
    let rest = shortest(|| {
        let (took, changed) = pass(GOAL);
        assert_eq!(changed, [], "nothing is to be done");
        took
    });
    let fewer = Goal { workers: 2, ..GOAL };
    let moves = shortest(|| {
        let (took, changed) = pass(fewer);
        assert_eq!(changed.len(), ROUTES);
        let released = |record: &LaneRecord| {
            let released = record
                .lanes
                .iter()
                .filter(|lane| lane.state == Ownership::Releasing);
            released.count()
        };
        assert!(
            changed
                .iter()
                .all(|record| released(record) == usize::from(LANES) / 2)
        );
        took
    });
    eprintln!(
        "{ROUTES} routes of {LANES} lanes: {rest:?} at rest, {moves:?} when half of all lanes are to move"
    );
    assert!(rest < Duration::from_millis(50) && moves < Duration::from_millis(50));
}

/// A route whose worker has changed is looked at, alone, and that costs the same however many others there are.
#[test]
fn a_change_costs_what_it_changes() {
    let cost = |cluster: &Cluster| {
        let route = &cluster.routes[3];
        let mut version = 1;
        shortest(|| {
            version += 1;
            let start = Instant::now();
            let concerned = cluster.show_worker(route, 1, &version.to_string());
            let plan = cluster.plan(route).unwrap();
            let took = start.elapsed();
            assert_eq!((concerned, plan.rollout), (Some(owner(route)), Rollout::Current));
            took
        })
    };
    let (few, many) = (Cluster::with(10), Cluster::with(ROUTES));
    let (of_few, of_many) = (cost(&few), cost(&many));
    let all = shortest(|| {
        let start = Instant::now();
        for route in &many.routes {
            assert_eq!(many.plan(route).unwrap().rollout, Rollout::Current);
        }
        start.elapsed()
    });
    eprintln!("one of 10 routes: {of_few:?}; one of {ROUTES}: {of_many:?}; all {ROUTES}: {all:?}");
    assert!(of_many < of_few * 2, "{of_many:?} {of_few:?}");
}

/// Draining nodes takes one worker at a time, and the loss of a node no more than its share.
#[test]
fn workers_are_spread_over_nodes_and_one_at_a_time_may_be_taken_away() {
    let cluster = Cluster::with(1);
    let plan = cluster.plan(&cluster.routes[0]).unwrap();
    let child = |kind: ChildKind| -> Value {
        let child = plan.children.iter().find(|child| child.kind == kind).unwrap();
        serde_json::from_str(child.body.get()).unwrap()
    };
    let (budget, set) = (
        child(ChildKind::PodDisruptionBudget),
        child(ChildKind::StatefulSet),
    );
    let workers = &set["spec"]["selector"];
    assert_eq!(budget["spec"]["selector"], *workers);
    assert_eq!(budget["spec"]["maxUnavailable"], 1);
    assert_eq!(budget["spec"]["unhealthyPodEvictionPolicy"], "AlwaysAllow");
    let spread = &set["spec"]["template"]["spec"]["topologySpreadConstraints"];
    let expected = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": workers,
    }]);
    assert_eq!(*spread, expected);
    for (label, value) in workers["matchLabels"].as_object().unwrap() {
        assert_eq!(
            set["spec"]["template"]["metadata"]["labels"][label], *value,
            "{label}"
        );
    }
}

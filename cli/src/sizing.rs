//! `millrace plan`: what routes will be like, before they are applied: lanes, windows, memory, partitions.

use millrace_crds::api::{Create, GrowthPolicy, KafkaDestination, KafkaSource, KeyRemap, MqttSource};
use millrace_crds::partitions::{Demand, counted, policy};
use millrace_crds::{KafkaSink, MqttBroker, Objects, TopicRoute, group, written_topic};
use serde::Serialize;

use crate::app::{self, Plan, ReportFormat};
use crate::exit::Exit;
use crate::validate;

/// The most memory of a worker, whatever happens: docs/guarantees.md.
const MEMORY_MIB: u32 = 128;
/// The same of one that reads Kafka.
const MEMORY_OF_DELIVERY_MIB: u32 = 64;
/// Messages that mosquitto gives or takes unanswered, unless `max_inflight_messages` says otherwise.
const SMALL_WINDOW: u32 = 20;

/// Reads manifests and prints what will be.
pub(crate) fn main(args: &Plan) -> anyhow::Result<Exit> {
    let Some(objects) = validate::objects(&args.files)? else {
        return Ok(Exit::Failed);
    };
    let plans = plans(&objects, args.rate);
    let text = match args.output {
        ReportFormat::Text => plans.iter().map(text).collect::<Vec<_>>().join("\n"),
        ReportFormat::Json => serde_json::to_string_pretty(&plans)? + "\n",
    };
    app::print(text.as_bytes())
}

/// What one route will be like.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RoutePlan {
    /// `namespace/name`.
    route: String,
    from: String,
    to: String,
    workers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<Lanes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<String>,
    /// Messages that may be unanswered on one connection, as far as the route is concerned.
    window: u32,
    /// How soon the other side must answer, on average, for the rate to get through, in milliseconds: with the window, and
    /// with that of mosquitto as it is installed.
    #[serde(skip_serializing_if = "Option::is_none")]
    must_answer_within_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    must_answer_within_ms_with_20: Option<f64>,
    memory_mib: u32,
    topics: Vec<TopicPlan>,
    notes: Vec<String>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lanes {
    total: u32,
    /// Of each worker, the most first.
    per_worker: Vec<u32>,
    /// Messages per second.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct TopicPlan {
    name: String,
    /// Partitions that it is created with; absent where it is not created.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_with: Option<u32>,
    wanted: u32,
    because: String,
    growth: String,
}

fn plans(objects: &Objects, rate: Option<u32>) -> Vec<RoutePlan> {
    let plans = objects.routes.iter().filter_map(|route| {
        let (broker, sink) = (objects.broker_of(route)?, objects.sink_of(route)?);
        let mut plan = plan(route, broker, sink, rate);
        plan.topics = topics(route, sink, rate, &objects.routes);
        Some(plan)
    });
    plans.collect()
}

fn plan(route: &TopicRoute, broker: &MqttBroker, sink: &KafkaSink, rate: Option<u32>) -> RoutePlan {
    let mqtt = format!("MQTT {}", broker.metadata.name.as_deref().unwrap_or_default());
    let kafka = format!("Kafka {}", sink.metadata.name.as_deref().unwrap_or_default());
    let window = u32::try_from(broker.spec.session.receive_maximum).unwrap_or(0);
    let asked = u32::try_from(route.spec.replicas).unwrap_or(0);
    let mut plan = RoutePlan {
        route: full_name(route),
        from: mqtt.clone(),
        to: kafka.clone(),
        workers: asked,
        lanes: None,
        group: None,
        window,
        must_answer_within_ms: None,
        must_answer_within_ms_with_20: None,
        memory_mib: MEMORY_MIB,
        topics: Vec::new(),
        notes: Vec::new(),
    };
    let connections = match (&route.spec.from.mqtt, &route.spec.from.kafka) {
        (Some(from), _) => to_kafka(&mut plan, from, rate),
        (None, Some(from)) => {
            (plan.from, plan.to) = (kafka, mqtt);
            plan.memory_mib = MEMORY_OF_DELIVERY_MIB;
            to_mqtt(&mut plan, route, from, sink)
        }
        (None, None) => 0,
    };
    if let Some(rate) = rate.filter(|rate| *rate > 0)
        && connections > 0
    {
        let within = |window: u32| f64::from(window * connections) / f64::from(rate) * 1e3;
        plan.must_answer_within_ms = Some(within(window));
        plan.must_answer_within_ms_with_20 = Some(within(window.min(SMALL_WINDOW)));
    }
    if let Some(to) = &route.spec.to.kafka
        && written_topic(route).is_none()
    {
        plan.notes.push(templated(to));
    }
    plan
}

/// Returns how many connections there will be.
fn to_kafka(plan: &mut RoutePlan, from: &MqttSource, rate: Option<u32>) -> u32 {
    let lanes = u32::try_from(from.lanes).unwrap_or(0);
    if plan.workers > lanes {
        plan.notes.push(format!(
            "{} workers are asked for, and {lanes} of them have a lane to read: raise spec.from.mqtt.lanes, or ask for fewer",
            plan.workers
        ));
        plan.workers = lanes;
    }
    let workers = plan.workers;
    let share = |worker: u32| lanes / workers + u32::from(worker < lanes % workers);
    plan.lanes = Some(Lanes {
        total: lanes,
        per_worker: (0..workers).map(share).collect(),
        rate: rate.map(|rate| f64::from(rate) / f64::from(lanes.max(1))),
    });
    lanes
}

/// Returns how many connections there will be.
fn to_mqtt(plan: &mut RoutePlan, route: &TopicRoute, from: &KafkaSource, sink: &KafkaSink) -> u32 {
    plan.group = group(route);
    let created = from.topics.iter().map(|topic| created(sink, topic));
    let partitions = created
        .collect::<Option<Vec<u32>>>()
        .map(|all| all.iter().sum::<u32>());
    match partitions {
        Some(partitions) if plan.workers > partitions => {
            plan.notes.push(format!(
                "{} workers are asked for, and {partitions} of them have a partition to read if topics are created as the KafkaSink \
                 says",
                plan.workers
            ));
            plan.workers = partitions;
        }
        Some(_) => {}
        None => plan.notes.push(
            "how many partitions there are to read is known in the cluster only: workers beyond them idle"
                .to_owned(),
        ),
    }
    plan.workers
}

fn created(sink: &KafkaSink, topic: &str) -> Option<u32> {
    let policy = policy(sink, topic).filter(|policy| policy.create == Create::IfMissing)?;
    u32::try_from(policy.partitions).ok()
}

/// `all` are the routes that are planned together: several may write one topic.
fn topics(route: &TopicRoute, sink: &KafkaSink, rate: Option<u32>, all: &[TopicRoute]) -> Vec<TopicPlan> {
    let read = route.spec.from.kafka.as_ref();
    let workers = u32::try_from(route.spec.replicas).unwrap_or(0);
    let topics = read
        .iter()
        .flat_map(|from| from.topics.clone())
        .chain(written_topic(route));
    let plans = topics.map(|name| {
        let growth = policy(sink, &name)
            .map(|policy| policy.growth.clone())
            .unwrap_or_default();
        let created_with = created(sink, &name);
        let writers: Vec<&KafkaDestination> = all
            .iter()
            .filter(|other| other.sink_ref().is_some_and(|reference| reference.is_to(sink)))
            .filter(|other| written_topic(other).as_deref() == Some(&name))
            .filter_map(|other| other.spec.to.kafka.as_ref())
            .collect();
        // Of what others write nothing is known.
        let is_keyed = writers.is_empty() || writers.iter().any(|to| !to.key.is_empty());
        let demand = Demand {
            peak: rate.map(|rate| f64::from(rate) * writers.len().max(1) as f64),
            group: None,
            workers: read.map(|_| (full_name(route), workers)),
        };
        let per_partition = u32::try_from(growth.rate_per_partition).unwrap_or(u32::MAX);
        let wanted = demand.wanted(created_with.unwrap_or(1), per_partition);
        TopicPlan {
            name,
            created_with,
            wanted: wanted.partitions,
            because: wanted.because.to_string(),
            growth: match growth.policy {
                GrowthPolicy::Fixed => "other than the written number is reported".to_owned(),
                GrowthPolicy::Recommend => "what is wanted is reported".to_owned(),
                GrowthPolicy::Grow if is_keyed && growth.key_remap == KeyRemap::Forbid => {
                    "no partitions are added, because keys would move: set growth.keyRemap to Allow if they may".to_owned()
                }
                GrowthPolicy::Grow => format!("partitions are added, up to {}", growth.max),
            },
        }
    });
    plans.collect()
}

fn full_name(route: &TopicRoute) -> String {
    let metadata = &route.metadata;
    let namespace = metadata.namespace.as_deref().unwrap_or("default");
    format!("{namespace}/{}", metadata.name.as_deref().unwrap_or_default())
}

fn templated(to: &KafkaDestination) -> String {
    format!("which topics {} makes is known when messages come", to.topic)
}

fn text(plan: &RoutePlan) -> String {
    let mut lines = vec![format!("TopicRoute {}: {} to {}", plan.route, plan.from, plan.to)];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<10} {value}"));
    line("workers", plan.workers.to_string());
    if let Some(lanes) = &plan.lanes {
        let shares: Vec<String> = lanes.per_worker.iter().map(u32::to_string).collect();
        let rate = lanes
            .rate
            .map(|rate| format!("; {rate:.0} messages per second in each"));
        line(
            "lanes",
            format!(
                "{}: {} per worker{}",
                lanes.total,
                shares.join(", "),
                rate.unwrap_or_default()
            ),
        );
    }
    if let Some(group) = &plan.group {
        line("group", group.clone());
    }
    let answers = plan.must_answer_within_ms.zip(plan.must_answer_within_ms_with_20);
    let answers = answers.map(|(with_all, with_20)| {
        format!(
            "; the rate gets through if answers take less than {}, and less than {} where the broker allows {SMALL_WINDOW}, as mosquitto may",
            milliseconds(with_all),
            milliseconds(with_20)
        )
    });
    line(
        "window",
        format!("{} per connection{}", plan.window, answers.unwrap_or_default()),
    );
    line("memory", format!("at most {} MiB per worker", plan.memory_mib));
    for topic in &plan.topics {
        let created = match topic.created_with {
            Some(partitions) => format!("created with {}", counted(partitions, "partition")),
            None => "not created".to_owned(),
        };
        line(
            "topic",
            format!(
                "{}: {created}; {} wanted: {}; {}",
                topic.name,
                counted(topic.wanted, "partition"),
                topic.because,
                topic.growth
            ),
        );
    }
    for note in &plan.notes {
        line("note", note.clone());
    }
    lines.join("\n") + "\n"
}

fn milliseconds(value: f64) -> String {
    match value {
        value if value < 10.0 => format!("{value:.1} ms"),
        value if value < 10_000.0 => format!("{value:.0} ms"),
        value => format!("{:.0} s", value / 1e3),
    }
}

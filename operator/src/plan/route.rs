//! The workers of a route.

use millrace_contract::probe::{BrokerRequest, Outcome, Report, Request, SinkRequest};
use millrace_contract::{AnyDocument, Live, Settings as WorkerSettings};
use millrace_crds::api::{Ordering, Reference, SharedSubscriptions};
use millrace_crds::{
    KafkaSink, MqttBroker, RenderOptions, SessionSource, TopicRoute, broker_places, document, group,
    known_topics, sink_places,
};

use super::inputs::Inputs;
use super::lanes::{self, Goal};
use super::meta::Family;
use super::probe::{self, Standing, Verdict};
use super::stateful_set::{Workers, stateful_set};
use super::{
    Checks, Desired, Rejection, Whereabouts, budget, configuration, network_policy, pod, pod_monitor, service,
};
use crate::names;
use crate::settings::Settings;
use crate::status::Reason;

/// What is to be done about a route.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose children these are.
    pub family: Family,
    /// What the workers read.
    pub document: AnyDocument,
    /// Children as they are to be, in the order in which they are written: what pods mount comes first.
    pub children: Vec<Desired>,
    /// Names of children that are kept although they are not in `children`.
    pub kept: Vec<String>,
    /// How far the workers are from what is asked for.
    pub rollout: Rollout,
    /// Workers, after clamping and pausing.
    pub workers: u16,
    /// Pods: workers, and those that still own lanes.
    pub pods: u16,
    /// Workers that were asked for beyond the lanes, or partitions, that there are.
    pub surplus: i32,
    /// The settings that the workers are to have.
    pub version: String,
    /// The hash of the live configuration that the workers are to have.
    pub live_hash: String,
}

/// How far the workers are from what is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Rollout {
    /// The StatefulSet is, or will now be, as it is to be.
    Current,
    /// Others are replacing their workers; this one waits for its turn.
    Waiting,
    /// The lanes are ending their sessions at the broker of before.
    Leaving,
    /// What is new is being tried. It has failed before.
    Probing(Option<Verdict>),
    /// What is new does not work; the workers that there are keep what they have.
    Refused(Verdict),
}

/// Decides about the workers of a route.
///
/// # Errors
/// If the route cannot work before something is changed.
pub fn route(inputs: &Inputs, checks: &Checks, settings: &Settings) -> Result<Plan, Rejection> {
    let route = inputs.route.as_ref();
    let (broker, sink) = references(inputs)?;
    checks.route(route, broker, sink, inputs.labels.as_ref())?;
    check_sessions(inputs, broker)?;
    check_feeding(inputs)?;
    check_group(inputs)?;
    check_sharing(route, broker)?;
    let mut document = render(route, broker, sink)?;
    let family = Family::of(names::kind::ROUTE, route);
    let name = &family.owner.name;
    let (settings_json, version) = configuration::settings_json(document.settings(), &settings.of_workers());
    // Another ordering is no other version, and all the same to be tried anew.
    let tried = match shares_subscriptions(&document) {
        true => format!("{version}-shared"),
        false => version.clone(),
    };
    let standing = probe::standing(&inputs.family, &tried, inputs.now);
    let (workers, surplus) = workers(route, shares(&document, inputs, &standing));
    let pods = match &document {
        AnyDocument::ToKafka(_) => lanes::pods(inputs.record(), workers),
        AnyDocument::ToMqtt(_) => workers,
    };
    let leaves = inputs.leaves();
    let rollout = rollout(inputs, &version, &standing, settings);

    let mut children = vec![
        service::account(&family),
        service::service(&family),
        budget::budget(&family),
    ];
    if settings.network_policy {
        children.push(network_policy::policy(&family, &settings.egress));
    }
    if settings.pod_monitor {
        children.push(pod_monitor::monitor(&family));
    }
    let mut kept = vec![names::lanes(name), names::live(name)];
    kept.extend(probe::kept(&inputs.family, &tried));
    kept.extend(settings_in_use(inputs).map(|version| names::settings(name, version)));
    let mut live_hash = super::live_hash(&inputs.family).unwrap_or_default().to_owned();
    if let Standing::Due { attempt, .. } = standing
        && matches!(rollout, Rollout::Probing(_))
    {
        let request = request(&document, route);
        children.push(probe::pod(
            &family,
            &tried,
            attempt,
            &request,
            broker_places(broker).into_iter().chain(sink_places(sink)),
            Some(route),
            settings,
        ));
    }
    if rollout == Rollout::Current {
        let (live_json, hash) = match &mut document {
            AnyDocument::ToKafka(document) => {
                // At another broker there is nothing of before.
                let old = inputs.live().filter(|_| leaves.is_none()).map(|(_, live)| live);
                document.live = configuration::retiring(document.live.clone(), old, &inputs.uptake);
                configuration::live_json(&document.live)
            }
            AnyDocument::ToMqtt(document) => configuration::live_json(&document.live),
        };
        live_hash.clone_from(&hash);
        children.push(configuration::settings(&family, &version, settings_json));
        children.push(configuration::live(&family, &hash, live_json));
        let workers = Workers {
            route,
            broker,
            sink,
            drain_ms: document.timeouts().drain_ms,
            replicas: i32::from(pods),
            settings_map: names::settings(name, &version),
            version: &version,
            whereabouts: route
                .spec
                .from
                .mqtt
                .is_some()
                .then(|| Whereabouts::of(route, broker).text()),
        };
        children.push(stateful_set(&family, &workers, settings));
    } else if inputs.set().is_some() {
        kept.push(names::workers(name));
    }
    Ok(Plan {
        family,
        document,
        children,
        kept,
        rollout,
        workers,
        pods,
        surplus,
        version,
        live_hash,
    })
}

/// What the workers of a route read.
///
/// # Errors
/// If the objects do not say enough, which [`super::valid`] would have reported.
pub fn render(route: &TopicRoute, broker: &MqttBroker, sink: &KafkaSink) -> Result<AnyDocument, Rejection> {
    let options = RenderOptions {
        session: SessionSource::Uid,
        places: &pod::file,
    };
    document(route, broker, sink, &options).map_err(|error| {
        let message = format!("{}: {}: {}", error.object, error.field, error.message);
        Rejection::new(Reason::Invalid, message)
    })
}

fn references(inputs: &Inputs) -> Result<(&MqttBroker, &KafkaSink), Rejection> {
    let route = &inputs.route;
    let broker = inputs
        .broker
        .as_deref()
        .ok_or_else(|| not_found(route, "MqttBroker", route.broker_ref(), Reason::BrokerNotFound))?;
    let sink = inputs
        .sink
        .as_deref()
        .ok_or_else(|| not_found(route, "KafkaSink", route.sink_ref(), Reason::SinkNotFound))?;
    Ok((broker, sink))
}

/// What is said where an object is not there. Of one in another namespace the same is said where it does not admit the route:
/// who may not refer to it does not learn whether it is there.
fn not_found(route: &TopicRoute, kind: &str, reference: Option<Reference<'_>>, reason: Reason) -> Rejection {
    let Some(Reference {
        field,
        namespace,
        name,
    }) = reference
    else {
        return Rejection::new(reason, format!("spec: refers to no {kind}"));
    };
    let own = route.metadata.namespace.as_deref().unwrap_or_default();
    let message = if namespace == own {
        format!(
            "{field}: there is no {kind} {name} in namespace {namespace}; create it, or write the name of one that exists"
        )
    } else {
        format!(
            "{field}: there is no {kind} {name} in namespace {namespace} that admits routes of namespace {own}; create it with \
             allowedRoutes that do, or write the name of one that exists"
        )
    };
    Rejection::new(reason, message)
}

/// Two routes with the same client ids would take each other's sessions, for ever.
fn check_sessions(inputs: &Inputs, broker: &MqttBroker) -> Result<(), Rejection> {
    let Some(id) = &inputs.route.spec.session_id else {
        return Ok(());
    };
    let clash = inputs.others.iter().find(|(other, its_broker)| {
        let same_broker = its_broker
            .spec
            .urls
            .iter()
            .any(|url| broker.spec.urls.contains(url))
            && its_broker.spec.session.client_id_prefix == broker.spec.session.client_id_prefix;
        other.spec.session_id.as_ref() == Some(id) && same_broker && goes_before(other, &inputs.route)
    });
    let Some((other, _)) = clash else { return Ok(()) };
    let (namespace, name) = (&other.metadata.namespace, &other.metadata.name);
    let message = format!(
        "spec.sessionId: {id:?} is the sessionId of TopicRoute {}/{} too, on the same broker, which keeps it: \
         delete this route and create it with another sessionId",
        namespace.as_deref().unwrap_or_default(),
        name.as_deref().unwrap_or_default(),
    );
    Err(Rejection::new(Reason::SessionConflict, message))
}

/// Whether a route keeps what another one wants as well: it has been accepted as it is written and the other was changed since,
/// or the other was never accepted, or refused; or else it is the older. Of those made within one second, the times of
/// Kubernetes being no finer, it is the one that is first by name.
pub fn goes_before(route: &TopicRoute, other: &TopicRoute) -> bool {
    fn rank(route: &TopicRoute) -> impl Ord + '_ {
        let meta = &route.metadata;
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        (standing(route), created, &meta.namespace, &meta.name)
    }
    rank(route) < rank(other)
}

/// How far a route is accepted, as its status says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Accepted {
    AsItIs,
    AsItWas,
    No,
}

fn standing(route: &TopicRoute) -> Accepted {
    let conditions = route.status.iter().flat_map(|status| &status.conditions);
    let accepted = conditions
        .filter(|condition| condition.type_ == "Accepted" && condition.status == "True")
        .map(|condition| condition.observed_generation == route.metadata.generation)
        .next();
    match accepted {
        Some(true) => Accepted::AsItIs,
        Some(false) => Accepted::AsItWas,
        None => Accepted::No,
    }
}

/// What the route writes must not come back to it.
fn check_feeding(inputs: &Inputs) -> Result<(), Rejection> {
    if inputs.fed_back_by.is_empty() {
        return Ok(());
    }
    let field = match inputs.route.spec.to.mqtt {
        Some(_) => "spec.to.mqtt.topic",
        None => "spec.to.kafka.topic",
    };
    let message = format!(
        "{field}: what this route writes comes back to it through {}, for ever: choose topics that none of them reads, or narrow \
         allowedTopics",
        inputs.fed_back_by.join(" and ")
    );
    Err(Rejection::new(Reason::FeedsItself, message))
}

/// Two routes in one consumer group would each get a part of the records.
fn check_group(inputs: &Inputs) -> Result<(), Rejection> {
    let Some(other) = &inputs.in_group_of else {
        return Ok(());
    };
    let message = format!(
        "spec.from.kafka.group: the consumer group {:?} is that of TopicRoute {other} too, on the same KafkaSink, so each would get a \
         part of the records; that one keeps it: write another one",
        group(&inputs.route).unwrap_or_default()
    );
    Err(Rejection::new(Reason::GroupConflict, message))
}

/// Workers take another ordering over while they run, so nothing tries it before: what the broker was found to be like has to do.
fn check_sharing(route: &TopicRoute, broker: &MqttBroker) -> Result<(), Rejection> {
    // Also of the generation before: what that found is not said any more once the broker has been looked at anew.
    let capabilities = broker
        .status
        .as_ref()
        .and_then(|status| status.capabilities.as_ref());
    let cannot = broker.spec.shared_subscriptions == SharedSubscriptions::Auto
        && capabilities.is_some_and(|found| found.shared_subscriptions == Some(false));
    match &route.spec.from.mqtt {
        Some(from) if from.ordering == Ordering::Unordered && cannot => Err(Rejection::new(
            Reason::SharedSubscriptionsUnsupported,
            format!(
                "spec.from.mqtt.ordering: Unordered needs shared subscriptions, which the broker has refused: write PerTopic, or set \
                 sharedSubscriptions: Supported on MqttBroker {} if it has them now",
                broker.metadata.name.as_deref().unwrap_or_default()
            ),
        )),
        _ => Ok(()),
    }
}

/// Among how many workers the work can be shared: there are so many lanes, or partitions.
fn shares(document: &AnyDocument, inputs: &Inputs, standing: &Standing) -> u16 {
    match document {
        AnyDocument::ToKafka(document) => document.live.lanes.count,
        AnyDocument::ToMqtt(document) => {
            let found = match standing {
                Standing::Passed(report) => partitions(report, &document.settings),
                _ => None,
            };
            // A route that was just made has no workers that would know.
            inputs.partitions.max(found).unwrap_or(u16::MAX)
        }
    }
}

/// Partitions of the topics that a route reads, as a probe has found them.
fn partitions(report: &Report, settings: &WorkerSettings) -> Option<u16> {
    let Some(Outcome::Found(found)) = &report.sink else {
        return None;
    };
    let topics = &settings.consumer.as_ref()?.topics;
    let of_topics = found.topics.iter().filter(|topic| topics.contains(&topic.name));
    let count: u32 = of_topics.map(|topic| topic.partitions).sum();
    u16::try_from(count).ok().filter(|count| *count > 0)
}

/// What the lanes of a route are to come to, while this is what its workers take over.
pub fn goal(route: &TopicRoute, live: Option<&Live>) -> Goal {
    let lanes = route.spec.from.mqtt.as_ref().map_or(1, |mqtt| mqtt.lanes);
    let lanes = u16::try_from(lanes).unwrap_or(1).max(1);
    let (workers, _) = workers(route, lanes);
    Goal {
        lanes: live.map_or(lanes, Live::lanes_read),
        workers,
    }
}

/// Workers that are of use, and how many more were asked for.
fn workers(route: &TopicRoute, lanes: u16) -> (u16, i32) {
    if route.spec.paused {
        return (0, 0);
    }
    let asked = route.spec.replicas.max(0);
    let useful = asked.min(i32::from(lanes));
    (u16::try_from(useful).unwrap_or(lanes), asked - useful)
}

fn rollout(inputs: &Inputs, version: &str, standing: &Standing, settings: &Settings) -> Rollout {
    if inputs.set().is_some_and(|set| set.settings == version) {
        return Rollout::Current;
    }
    // A new image concerns all routes at once.
    let is_to_wait = inputs.set().is_some() && inputs.rolling >= settings.max_concurrent_routes;
    match standing {
        Standing::Due { last: None, .. } | Standing::Passed(_) if is_to_wait => Rollout::Waiting,
        Standing::Due { last, .. } | Standing::Running { last } => Rollout::Probing(last.clone()),
        Standing::Failed(verdict) => Rollout::Refused(verdict.clone()),
        Standing::Passed(_) if has_to_leave(inputs) => Rollout::Leaving,
        Standing::Passed(_) => Rollout::Current,
    }
}

/// Whether lanes have sessions elsewhere that have not been ended, or given up.
fn has_to_leave(inputs: &Inputs) -> bool {
    let has_lanes = inputs.record().is_some_and(|record| !record.lanes.is_empty());
    has_lanes && !inputs.is_impatient && inputs.leaves().is_some()
}

fn shares_subscriptions(document: &AnyDocument) -> bool {
    match document {
        AnyDocument::ToKafka(document) => {
            document.live.lanes.ordering == millrace_contract::Ordering::Unordered
        }
        AnyDocument::ToMqtt(_) => false,
    }
}

/// What is asked of broker and Kafka before workers depend on them.
fn request(document: &AnyDocument, route: &TopicRoute) -> Request {
    let qos = match document {
        AnyDocument::ToKafka(document) => document.live.source.qos,
        AnyDocument::ToMqtt(document) => document.live.publishing.qos,
    };
    let settings = document.settings();
    Request {
        broker: Some(BrokerRequest {
            broker: settings.broker.clone(),
            qos,
            shares: shares_subscriptions(document),
        }),
        sink: Some(SinkRequest {
            sink: settings.sink.clone(),
            topics: known_topics(route),
        }),
    }
}

/// The settings that workers use, or will use when they start.
fn settings_in_use(inputs: &Inputs) -> impl Iterator<Item = &str> {
    let of_set = inputs.set().map(|set| set.settings.as_str());
    of_set
        .into_iter()
        .chain(inputs.workers().map(|(_, pod)| pod.settings.as_str()))
}

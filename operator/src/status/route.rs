//! What is said of a route.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use millrace_contract::status::{LaneState, Phase, Problem, Reason as WorkerReason, RouteStatus};
use millrace_contract::{AnyDocument, Ledger};
use millrace_crds::api::{ConsumerCounts, LaneCounts, LedgerStatus, TopicRouteStatus};
use millrace_crds::{MqttBroker, TopicRoute};

use super::{Conditions, Reason};
use crate::names;
use crate::observed::{PodSeen, SetSeen, WorkerSeen};
use crate::plan::{Plan, Rejection, Rollout};

/// For how long it is said that something else has scaled the workers.
const CONFLICT: SignedDuration = SignedDuration::from_mins(5);

/// What keeps a route that works from taking more, and that more workers do not change: conditions of their own, so that
/// alerts and `kubectl wait` can be about them. A route that was never limited does not have them.
const LIMITS: [(&str, WorkerReason, &str); 2] = [
    (
        "WindowLimited",
        WorkerReason::WindowLimited,
        "the broker holds nothing back for want of acks",
    ),
    (
        "SinkSaturated",
        WorkerReason::SinkSaturated,
        "Kafka takes what MQTT delivers",
    ),
];

/// What a route's status is made from.
pub struct RouteFacts<'a> {
    /// The route.
    pub route: &'a TopicRoute,
    /// What was decided.
    pub plan: Result<&'a Plan, &'a Rejection>,
    /// What the API server does not take of it, in its own words.
    pub refused: Option<&'a str>,
    /// The broker it refers to, if it is there.
    pub broker: Option<&'a MqttBroker>,
    /// The StatefulSet.
    pub set: Option<&'a SetSeen>,
    /// The workers, with what they said last.
    pub workers: Vec<(&'a PodSeen, WorkerSeen)>,
    /// Lanes have been given to others a moment ago: those that nobody reads are on their way.
    pub moving: bool,
    /// The time.
    pub now: Timestamp,
}

/// Whether something works, and why.
struct Verdict {
    good: bool,
    reason: Reason,
    message: String,
}

impl Verdict {
    fn good(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            good: true,
            reason,
            message: message.into(),
        }
    }

    fn bad(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            good: false,
            reason,
            message: message.into(),
        }
    }
}

/// The status of a route.
pub fn route(facts: &RouteFacts<'_>) -> TopicRouteStatus {
    let old = facts.route.status.clone().unwrap_or_default();
    let generation = facts.route.metadata.generation;
    let mut conditions = Conditions::new(&old.conditions, generation, facts.now);
    let applied = applied(facts);
    let ready = ready(facts, &applied);
    match facts.plan {
        Ok(_) => conditions.set(
            "Accepted",
            Some(true),
            Reason::AsAsked,
            "the route can work as it is written",
        ),
        Err(rejection) => conditions.set("Accepted", Some(false), rejection.reason, &rejection.message),
    }
    if applied.good || !ready.good {
        conditions.set("Ready", Some(ready.good), ready.reason, &ready.message);
    } else {
        // Works, but not yet as it is written now.
        conditions.set_stale("Ready", Some(true), ready.reason, &ready.message);
    }
    conditions.set(
        "ConfigurationApplied",
        Some(applied.good),
        applied.reason,
        &applied.message,
    );
    let credentials = problem(facts, |reason| reason == WorkerReason::CredentialsRefused);
    match credentials {
        Some(refused) => conditions.set(
            "CredentialsApplied",
            Some(false),
            refused.reason.into(),
            refused.message,
        ),
        None => conditions.set(
            "CredentialsApplied",
            Some(true),
            Reason::AsAsked,
            "the credentials in use are the newest",
        ),
    }
    match problem(facts, has_stopped) {
        Some(stopped) => conditions.set("Delivering", Some(false), stopped.reason.into(), stopped.message),
        None => conditions.set(
            "Delivering",
            Some(true),
            Reason::Healthy,
            "no message has stopped the route",
        ),
    }
    let warnings = warnings(facts);
    match warnings.first() {
        Some((reason, _)) => {
            let texts: Vec<&str> = warnings.iter().map(|(_, text)| text.as_str()).collect();
            conditions.set("Warning", Some(true), *reason, texts.join("; "));
        }
        None => conditions.set("Warning", Some(false), Reason::Healthy, "nothing to note"),
    }
    for (kind, limit, free) in LIMITS {
        match problem(facts, |reason| reason == limit) {
            Some(limit) => conditions.set(kind, Some(true), limit.reason.into(), limit.message),
            None if conditions.has_been(kind) => conditions.set(kind, Some(false), Reason::Healthy, free),
            None => {}
        }
    }
    let stalled = stalled(facts);
    match &stalled {
        Some((reason, message)) => conditions.set("Stalled", Some(true), *reason, message),
        None => conditions.set(
            "Stalled",
            Some(false),
            Reason::Healthy,
            "nothing waits for a change by the user",
        ),
    }
    let starting = starting(facts);
    let under_way = [Some(&applied), Some(&ready), starting.as_ref()];
    match under_way.into_iter().flatten().find(|verdict| !verdict.good) {
        Some(verdict) if stalled.is_none() => {
            conditions.set("Reconciling", Some(true), verdict.reason, &verdict.message);
        }
        _ => conditions.set(
            "Reconciling",
            Some(false),
            Reason::AsAsked,
            "nothing is under way",
        ),
    }
    let (lanes, ledger, consumer) = (lanes(facts), ledger(facts), consumer(facts));
    TopicRouteStatus {
        observed_generation: generation,
        replicas: Some(
            i32::try_from(facts.workers.iter().filter(|(pod, _)| !pod.deleting).count()).unwrap_or(i32::MAX),
        ),
        selector: facts
            .plan
            .ok()
            .map(|plan| plan.family.selector_text(names::component::WORKER))
            .or(old.selector),
        lanes: lanes.or(old.lanes),
        consumer: consumer.or(old.consumer),
        ledger: ledger.or(old.ledger),
        conditions: conditions.into_vec(),
    }
}

/// Whether what is written is what runs.
fn applied(facts: &RouteFacts<'_>) -> Verdict {
    let before = match facts.set {
        Some(_) => "; the workers go on as they were before",
        None => "; no workers are started before it works",
    };
    let plan = match facts.plan {
        Ok(plan) => plan,
        Err(rejection) => {
            return Verdict::bad(rejection.reason, format!("{}{before}", rejection.message));
        }
    };
    if let Some(why) = facts.refused {
        return Verdict::bad(Reason::ClusterRefused, format!("{}{before}", refused(why)));
    }
    match &plan.rollout {
        Rollout::Probing(None) => {
            return Verdict::bad(
                Reason::Probing,
                format!("a probe connects to the broker and to Kafka first{before}"),
            );
        }
        Rollout::Probing(Some(verdict)) | Rollout::Refused(verdict) => {
            return Verdict::bad(
                verdict.failure.reason.into(),
                format!("{}{before}", verdict.failure.message),
            );
        }
        Rollout::Waiting => {
            let message = "other routes are replacing their workers, as many as may at once (maxConcurrentRoutes); this \
                           one follows: if that takes long, look for routes that are not Ready";
            return Verdict::bad(Reason::WaitingForTurn, message);
        }
        Rollout::Leaving => {
            let message = "the route goes to another broker: waiting for its lanes to read to the end what the one of \
                           before holds for them, and to end their sessions there; then the workers are replaced. What \
                           takes longer than spec.timeouts.leave is left to expire";
            return Verdict::bad(Reason::LeavingBroker, message);
        }
        Rollout::Current => {}
    }
    let Some(set) = facts.set else {
        return Verdict::bad(Reason::WorkersStarting, "the workers are being created");
    };
    if let Some(refused) = problem(facts, |reason| reason == WorkerReason::ConfigurationRefused) {
        return Verdict::bad(Reason::ConfigurationRefused, refused.message);
    }
    // What was just written into the StatefulSet may not have been seen yet.
    if set.replicas != i32::from(plan.pods) || plan.pods != plan.workers {
        let message = format!(
            "waiting for the StatefulSet to go from {} to {}",
            counted(set.replicas, "worker"),
            plan.workers
        );
        return Verdict::bad(Reason::Changing, message);
    }
    let is_told = set.is_observed && set.settings == plan.version;
    if !is_told || set.updated < set.replicas {
        let message = format!(
            "{} of {} workers run what is written; the others follow one by one",
            if is_told { set.updated } else { 0 },
            set.replicas
        );
        return Verdict::bad(Reason::RollingOut, message);
    }
    let stale = answers(facts)
        .filter(|status| status.live != plan.live_hash)
        .count();
    if stale > 0 {
        let message = format!(
            "waiting for {} to take over what is written",
            counted(stale, "worker")
        );
        return Verdict::bad(Reason::Changing, message);
    }
    Verdict::good(Reason::AsAsked, "the workers run what is written")
}

fn refused(why: &str) -> String {
    format!(
        "the API server does not take what the operator writes: {why}; change the quota, policy or permission that forbids \
         it, it is tried again"
    )
}

/// Whether the route works now, whatever configuration it has.
fn ready(facts: &RouteFacts<'_>, applied: &Verdict) -> Verdict {
    let Some(set) = facts.set else {
        return Verdict::bad(applied.reason, &applied.message);
    };
    if facts.route.spec.paused {
        let collects = collector(facts);
        return Verdict::good(
            Reason::Paused,
            format!("the route is paused: {collects}; write spec.paused: false to go on"),
        );
    }
    // What shut the route out has ended its workers.
    if set.replicas == 0
        && facts.route.spec.replicas > 0
        && let Err(rejection) = facts.plan
    {
        return Verdict::bad(rejection.reason, &rejection.message);
    }
    if set.replicas == 0 {
        let collects = collector(facts);
        let message = format!("the route has no workers, so {collects}; write spec.replicas: 1 or more");
        return Verdict::good(Reason::ScaledToZero, message);
    }
    if let Some((pod, why)) = facts
        .workers
        .iter()
        .find_map(|(pod, _)| failing(pod).map(|why| (pod, why)))
    {
        return Verdict::bad(Reason::WorkerFailing, format!("worker {}: {why}", pod.name));
    }
    let urgent = problem(facts, |reason| {
        !is_warning(reason) && !is_limit(reason) && !is_about_changes(reason)
    });
    if let Some(urgent) = urgent {
        return Verdict::bad(urgent.reason.into(), urgent.message);
    }
    let silent = facts.workers.iter().find_map(|(pod, worker)| {
        let is_asked = pod.ready && !pod.deleting;
        let silence = worker
            .silent
            .as_ref()
            .filter(|_| is_asked && worker.is_silent())?;
        Some(format!(
            "worker {} does not answer at /status: {}; it is asked again: if that does not help, see its logs, and \
             whether a NetworkPolicy keeps the operator from its port {}",
            pod.name,
            silence.why,
            names::ADMIN_PORT
        ))
    });
    if let Some(message) = silent {
        return Verdict::bad(Reason::WorkerSilent, message);
    }
    if facts.plan.is_ok_and(|plan| plan.rollout == Rollout::Leaving) {
        return Verdict::bad(applied.reason, &applied.message);
    }
    if facts.route.spec.from.kafka.is_some() {
        return delivering(facts);
    }
    let lanes = lanes(facts).unwrap_or_default();
    // All lanes are read: workers that are still to come only take some of them over.
    if are_all_up(&lanes, facts, applied) {
        let (lanes, workers) = (counted(lanes.up, "lane"), counted(ready_workers(facts), "worker"));
        return Verdict::good(Reason::Healthy, format!("{lanes} up on {workers}"));
    }
    // It has worked until now: a lane that moves is away for a moment only.
    if facts.moving && was_healthy(facts) {
        let workers = counted(ready_workers(facts), "worker");
        return Verdict::good(Reason::Healthy, format!("lanes are moving between {workers}"));
    }
    if let Some(starting) = starting(facts) {
        return starting;
    }
    match lanes.total {
        1.. => Verdict::bad(
            Reason::Connecting,
            format!(
                "{} of {} lanes are subscribed; the others are being connected to the broker",
                lanes.up, lanes.total
            ),
        ),
        _ => Verdict::bad(
            Reason::Connecting,
            "no lane is subscribed yet; they are being given to the workers, which connect them to the broker",
        ),
    }
}

/// Whether a route from Kafka works: each worker is connected to the broker and has its part of the partitions, and no
/// partition is without a reader.
fn delivering(facts: &RouteFacts<'_>) -> Verdict {
    let waiting = answers(facts).filter(|status| !status.ready).count();
    let parts = consumer(facts).unwrap_or_default();
    let workers = ready_workers(facts);
    if workers > 0 && waiting == 0 && parts.assigned > 0 && parts.assigned == parts.partitions {
        let (partitions, workers) = (counted(parts.partitions, "partition"), counted(workers, "worker"));
        return Verdict::good(Reason::Healthy, format!("{partitions} read by {workers}"));
    }
    // It has worked until now: partitions that go from one worker to another are away for a moment only.
    if was_healthy(facts) && workers > 0 {
        let workers = counted(workers, "worker");
        return Verdict::good(
            Reason::Healthy,
            format!("partitions are moving between {workers}"),
        );
    }
    if let Some(starting) = starting(facts) {
        return starting;
    }
    let message = match parts.partitions {
        0 => "no worker has joined the consumer group yet".to_owned(),
        partitions => format!(
            "{} of {partitions} partitions are read; the others are being given to the workers",
            parts.assigned
        ),
    };
    Verdict::bad(Reason::Connecting, message)
}

/// Whether each lane of the route is read that has something to read: the workers that answer know of their own lanes
/// only.
fn are_all_up(lanes: &LaneCounts, facts: &RouteFacts<'_>, applied: &Verdict) -> bool {
    let owned: BTreeSet<u16> = answers(facts)
        .flat_map(|status| &status.lanes)
        .filter(|lane| matches!(lane.state, LaneState::Idle | LaneState::Up))
        .map(|lane| lane.lane)
        .collect();
    let are_known = match facts.plan {
        Ok(Plan {
            document: AnyDocument::ToKafka(document),
            ..
        }) if applied.good => (0..document.live.lanes.count).all(|lane| owned.contains(&lane)),
        // The workers have another configuration than the one that is written.
        _ => true,
    };
    lanes.up > 0 && lanes.up == lanes.total && are_known
}

/// Where what a route does not read is kept.
fn collector(facts: &RouteFacts<'_>) -> &'static str {
    match facts.route.spec.from.kafka {
        Some(_) => "its records stay in Kafka",
        None => "the broker collects its messages",
    }
}

fn was_healthy(facts: &RouteFacts<'_>) -> bool {
    let before = facts.route.status.as_ref().map(|status| &status.conditions);
    let ready = before
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.status == "True" && ready.reason == Reason::Healthy.to_string())
}

fn ready_workers(facts: &RouteFacts<'_>) -> usize {
    let ready = facts.workers.iter().filter(|(pod, _)| pod.ready && !pod.deleting);
    ready.count()
}

/// That workers are on their way, if so.
fn starting(facts: &RouteFacts<'_>) -> Option<Verdict> {
    let set = facts.set?;
    let (ready, wanted) = (
        ready_workers(facts),
        usize::try_from(set.replicas).unwrap_or_default(),
    );
    // While workers are replaced one by one, the others carry the route.
    let enough = if set.is_rolling() {
        wanted.saturating_sub(1).max(1)
    } else {
        wanted
    };
    (ready < enough.min(wanted)).then(|| {
        let message = format!("{ready} of {wanted} workers are ready: {}", awaited(facts));
        Verdict::bad(Reason::WorkersStarting, message)
    })
}

/// Who is waited for until all workers are ready. What keeps a pod from starting may be known to its events alone: a
/// Secret that is missing, a volume, a quota.
fn awaited(facts: &RouteFacts<'_>) -> String {
    let is_awaited = |pod: &&PodSeen| !pod.ready && !pod.deleting;
    let look_at = match facts.workers.iter().map(|(pod, _)| *pod).find(is_awaited) {
        Some(pod) => {
            return format!(
                "waiting for {0}; if that takes long, see `kubectl describe pod {0}`",
                pod.name
            );
        }
        None => names::workers(facts.route.metadata.name.as_deref().unwrap_or_default()),
    };
    format!(
        "waiting for the others to be made; if that takes long, see `kubectl describe statefulset {look_at}`"
    )
}

/// `1 lane`, `2 lanes`.
fn counted(number: impl TryInto<u64>, noun: &str) -> String {
    match number.try_into().unwrap_or_default() {
        1 => format!("1 {noun}"),
        many => format!("{many} {noun}s"),
    }
}

/// Why nothing changes any more without the user, if so.
fn stalled(facts: &RouteFacts<'_>) -> Option<(Reason, String)> {
    match (facts.plan, facts.refused) {
        (Err(rejection), _) => Some((rejection.reason, rejection.message.clone())),
        (Ok(_), Some(why)) => Some((Reason::ClusterRefused, refused(why))),
        (Ok(plan), None) => match &plan.rollout {
            Rollout::Refused(verdict) | Rollout::Probing(Some(verdict)) => {
                let message = format!(
                    "{}; tried {}, and tried again with growing pauses",
                    verdict.failure.message,
                    counted(verdict.failures, "time")
                );
                Some((verdict.failure.reason.into(), message))
            }
            _ => problem(facts, |reason| has_stopped(reason) || is_about_changes(reason))
                .map(|problem| (problem.reason.into(), problem.message)),
        },
    }
}

fn failing(pod: &PodSeen) -> Option<String> {
    if let Some((reason, message)) = &pod.waiting {
        let last = pod
            .terminated
            .as_ref()
            .map(|end| end.message.trim().lines().last().unwrap_or_default());
        let last = last
            .filter(|last| !last.is_empty())
            .map(|last| format!("; it said last: {last}"));
        let last = last.unwrap_or_default();
        return Some(format!("{reason}: {message}{last}; {}", pod.way_out()));
    }
    pod.unschedulable.as_ref().map(|why| {
        format!(
            "no node takes it: {why}; it starts when one has room: add a node, or lower spec.worker.resources"
        )
    })
}

/// What works, but perhaps not as meant.
fn warnings(facts: &RouteFacts<'_>) -> Vec<(Reason, String)> {
    let mut warnings = Vec::new();
    if let Ok(plan) = facts.plan
        && plan.surplus > 0
    {
        let (noun, way_out) = match plan.document {
            AnyDocument::ToKafka(_) => ("lane", "raise spec.from.mqtt.lanes"),
            AnyDocument::ToMqtt(_) => ("partition", "add partitions to the topics"),
        };
        let message = format!(
            "spec.replicas asks for {}, and the route has {}: more workers would have nothing to do and are not \
             started; lower spec.replicas to {2}, or {way_out}",
            counted(facts.route.spec.replicas, "worker"),
            counted(plan.workers, noun),
            plan.workers
        );
        warnings.push((Reason::ReplicasClamped, message));
    }
    if let Some(set) = facts.set
        && let Some((manager, _)) = set
            .scaled
            .as_ref()
            .filter(|(_, at)| facts.now.duration_since(*at) < CONFLICT)
    {
        let message = format!(
            "{manager} has set the number of workers in StatefulSet {}, and the operator has set it back: let what scales \
             it, such as a HorizontalPodAutoscaler, name the TopicRoute instead",
            names::workers(facts.route.metadata.name.as_deref().unwrap_or_default())
        );
        warnings.push((Reason::ScalingConflict, message));
    }
    if let Some(risk) = at_risk(facts) {
        warnings.push((Reason::BrokerBuffering, risk));
    }
    let mut seen = BTreeSet::new();
    let problems = answers(facts)
        .flat_map(|status| &status.problems)
        .filter(|problem| is_warning(problem.reason));
    for problem in problems {
        if seen.insert(problem.message.clone()) {
            warnings.push((problem.reason.into(), problem.message.clone()));
        }
    }
    warnings
}

/// What can be lost while a route has no workers, because the broker keeps neither everything nor for ever.
fn at_risk(facts: &RouteFacts<'_>) -> Option<String> {
    let (plan, set) = (facts.plan.ok()?, facts.set?);
    // Kafka keeps what nobody reads.
    let AnyDocument::ToKafka(document) = &plan.document else {
        return None;
    };
    if set.replicas > 0 || plan.workers > 0 {
        return None;
    }
    let has_run = facts
        .route
        .status
        .as_ref()
        .is_some_and(|status| status.ledger.is_some());
    if !has_run {
        let never = "no worker has run yet, so the broker has no session of the route and keeps nothing for it: what is \
                     published now is not received later; write spec.replicas: 1 or more to begin";
        return Some(never.to_owned());
    }
    let broker = &document.settings.broker;
    let granted = facts.broker.and_then(|broker| broker.status.as_ref());
    let granted = granted.and_then(|status| status.capabilities.as_ref()?.session_expiry_seconds);
    let asked = i64::from(broker.session_expiry_seconds);
    let kept = SignedDuration::from_secs(granted.map_or(asked, |granted| granted.min(asked)));
    let qos0 = match document.live.source.qos {
        0 => ", and most brokers keep none of QoS 0 at all",
        _ => "",
    };
    Some(format!(
        "the broker keeps what comes for {kept:#} (spec.session.expiryInterval of the MqttBroker; in MQTT 3.1.1 as long as it \
         is set up to) and as much as its queue for a session holds (mosquitto: max_queued_messages, HiveMQ: max-queue-size, \
         EMQX: mqtt.max_mqueue_len, VerneMQ: max_offline_messages; 1,000 messages by default){qos0}; it drops the rest: raise \
         both to what you need, or start workers again before"
    ))
}

fn is_warning(reason: WorkerReason) -> bool {
    matches!(
        reason,
        WorkerReason::QosDowngraded
            | WorkerReason::RetainUnavailable
            | WorkerReason::SessionExpiryShort
            | WorkerReason::TopicUnsafe
            | WorkerReason::CertificateExpires
    )
}

/// What has stopped a route goes on standing in its way until somebody does something.
fn has_stopped(reason: WorkerReason) -> bool {
    matches!(
        reason,
        WorkerReason::MessageUndeliverable | WorkerReason::OffsetOutOfRange
    )
}

fn is_limit(reason: WorkerReason) -> bool {
    LIMITS.iter().any(|(_, limit, _)| *limit == reason)
}

fn is_about_changes(reason: WorkerReason) -> bool {
    matches!(
        reason,
        WorkerReason::ConfigurationRefused | WorkerReason::CredentialsRefused
    )
}

/// The first problem that a worker has and `is` asks for.
fn problem(facts: &RouteFacts<'_>, is: impl Fn(WorkerReason) -> bool) -> Option<Problem> {
    answers(facts)
        .flat_map(|status| &status.problems)
        .find(|problem| is(problem.reason))
        .cloned()
}

/// What the workers said last that can be asked.
fn answers<'f>(facts: &'f RouteFacts<'_>) -> impl Iterator<Item = &'f RouteStatus> {
    let asked = facts
        .workers
        .iter()
        .filter(|(pod, worker)| !pod.deleting && worker.answers());
    asked.filter_map(|(_, worker)| worker.status.as_ref())
}

fn lanes(facts: &RouteFacts<'_>) -> Option<LaneCounts> {
    let mut counts = LaneCounts::default();
    let mut known = false;
    for status in answers(facts) {
        known = true;
        for lane in &status.lanes {
            let works = !matches!(
                lane.state,
                LaneState::Idle | LaneState::Down | LaneState::Leaving | LaneState::Left
            );
            counts.total += i32::from(works || status.phase == Phase::Stopped);
            counts.up += i32::from(lane.state == LaneState::Up);
        }
    }
    known.then_some(counts)
}

/// What the workers of a route from Kafka read.
fn consumer(facts: &RouteFacts<'_>) -> Option<ConsumerCounts> {
    let mut counts: Option<ConsumerCounts> = None;
    for delivery in answers(facts).filter_map(|status| status.delivery.as_ref()) {
        let counts = counts.get_or_insert_default();
        counts.group.clone_from(&delivery.group);
        let number = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
        counts.assigned += number(delivery.partitions.len());
        let in_all = i32::try_from(delivery.partitions_in_all).unwrap_or(i32::MAX);
        counts.partitions = counts.partitions.max(in_all);
    }
    counts
}

fn ledger(facts: &RouteFacts<'_>) -> Option<LedgerStatus> {
    let mut sum = Ledger::default();
    let (mut received, mut written, mut known) = (0.0, 0.0, false);
    for status in answers(facts) {
        known = true;
        sum += status.ledger;
        received += status.received_per_second;
        written += status.written_per_second;
    }
    let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    known.then(|| LedgerStatus {
        received: count(sum.received),
        written: count(sum.written),
        filtered: count(sum.filtered),
        dead_lettered: count(sum.dead_lettered),
        discarded: count(sum.discarded),
        expired: count(sum.expired),
        repeats: count(sum.repeats),
        returned: count(sum.returned),
        dropped: count(sum.dropped),
        in_flight: count(sum.in_flight),
        received_per_second: received.round() as i64,
        written_per_second: written.round() as i64,
    })
}

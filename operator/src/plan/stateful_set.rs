//! The workers of a route.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{
    ContainerPort, HTTPGetAction, PodTemplateSpec, Probe, ResourceRequirements, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute, broker_places, sink_places};

use super::meta::Family;
use super::pod::{self, ROOT};
use super::{Desired, LIVE_KEY, RECORD_KEY, SETTINGS_KEY, placement};
use crate::names;
use crate::observed::ChildKind;
use crate::settings::Settings;

/// What a pod has beyond the time that the worker takes to drain.
const GRACE: Duration = Duration::from_secs(30);
/// How long a worker stays on a node that has gone silent, in seconds: its lanes then move to another.
const LOST_NODE_SECONDS: i64 = 30;
/// What a worker asks for by default. A CPU HorizontalPodAutoscaler needs a request to reckon with.
const REQUESTS: [(&str, &str); 2] = [("cpu", "100m"), ("memory", "64Mi")];
/// What it may use by default: it never needs more than 128 MiB.
const LIMITS: [(&str, &str); 1] = [("memory", "256Mi")];

/// How long a worker's pod may take to end, in whole seconds, when the worker may take `drain`.
pub fn grace(drain: Duration) -> Duration {
    Duration::from_secs(drain.as_secs() + u64::from(drain.subsec_nanos() > 0)).saturating_add(GRACE)
}

/// What the workers of a route are made from.
pub(super) struct Workers<'a> {
    pub(super) route: &'a TopicRoute,
    pub(super) broker: &'a MqttBroker,
    pub(super) sink: &'a KafkaSink,
    /// How long a worker may take to end, in milliseconds.
    pub(super) drain_ms: u64,
    pub(super) replicas: i32,
    /// The name of the settings' ConfigMap.
    pub(super) settings_map: String,
    /// Settings and image in one word.
    pub(super) version: &'a str,
    /// Where the sessions are that they read, if they read sessions.
    pub(super) whereabouts: Option<String>,
}

/// The StatefulSet: one pod for each worker, replaced one by one, started all at once.
pub(super) fn stateful_set(family: &Family, workers: &Workers<'_>, settings: &Settings) -> Desired {
    let name = names::workers(&family.owner.name);
    let set = StatefulSet {
        metadata: family.child(name.clone(), names::component::WORKER),
        spec: Some(StatefulSetSpec {
            replicas: Some(workers.replicas),
            service_name: Some(name),
            selector: family.selector(names::component::WORKER),
            pod_management_policy: Some("Parallel".into()),
            revision_history_limit: Some(2),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    max_unavailable: None,
                }),
            }),
            template: template(family, workers, settings),
            ..StatefulSetSpec::default()
        }),
        status: None,
    };
    Desired::of(ChildKind::StatefulSet, &set)
}

fn template(family: &Family, workers: &Workers<'_>, settings: &Settings) -> PodTemplateSpec {
    let route = &family.owner.name;
    let written = &workers.route.spec.worker;
    let path = |folder: &str, file: &str| format!("{ROOT}/{folder}/{file}");
    let (settings_file, live_file) = (path("settings", SETTINGS_KEY), path("live", LIVE_KEY));
    let (record_file, assignment_file) = (path("lanes", RECORD_KEY), path("pod", "assignment"));
    let command = pod::command(&[
        "run",
        "--settings",
        &settings_file,
        "--live",
        &live_file,
        "--record",
        &record_file,
        "--assignment",
        &assignment_file,
        "--admin",
        "0.0.0.0:9090",
        "--log-format",
        "json",
    ]);
    let mut mounts = vec![
        pod::config("settings", workers.settings_map.clone(), false),
        pod::config("live", names::live(route), false),
        // A pod may be there before the record; it then learns its part from its annotation.
        pod::config("lanes", names::lanes(route), true),
        pod::annotation("pod", "assignment", names::ASSIGNMENT),
    ];
    mounts.extend(pod::values(
        broker_places(workers.broker)
            .into_iter()
            .chain(sink_places(workers.sink)),
    ));
    let (mut spec, mut container) = pod::spec(settings, command, mounts);
    container.ports = Some(vec![ContainerPort {
        name: Some("admin".into()),
        container_port: names::ADMIN_PORT,
        protocol: Some("TCP".into()),
        ..ContainerPort::default()
    }]);
    container.readiness_probe = Some(probe("/readyz", 2, 3));
    container.liveness_probe = Some(probe("/livez", 10, 6));
    container.resources = Some(ResourceRequirements {
        requests: Some(pod::quantities(&written.resources.requests, &REQUESTS)),
        limits: Some(pod::quantities(&written.resources.limits, &LIMITS)),
        claims: None,
    });
    spec.containers = vec![container];
    spec.service_account_name = Some(names::workers(route));
    let grace = grace(Duration::from_millis(workers.drain_ms));
    spec.termination_grace_period_seconds = Some(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
    placement::place(&mut spec, workers.route);
    spec.tolerations.get_or_insert_default().extend(lost_nodes());
    spec.topology_spread_constraints = Some(vec![TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "kubernetes.io/hostname".into(),
        when_unsatisfiable: "ScheduleAnyway".into(),
        label_selector: Some(family.selector(names::component::WORKER)),
        ..TopologySpreadConstraint::default()
    }]);
    spec.priority_class_name
        .clone_from(&written.pod_template.spec.priority_class_name);
    PodTemplateSpec {
        metadata: Some(template_meta(family, workers)),
        spec: Some(spec),
    }
}

fn template_meta(family: &Family, workers: &Workers<'_>) -> ObjectMeta {
    let written = &workers.route.spec.worker.pod_template.metadata;
    let mut labels: BTreeMap<String, String> = written.labels.clone();
    labels.extend(family.labels(names::component::WORKER));
    let mut annotations = written.annotations.clone();
    annotations.insert(names::SETTINGS.into(), workers.version.to_owned());
    if let Some(whereabouts) = &workers.whereabouts {
        annotations.insert(names::WHEREABOUTS.into(), whereabouts.clone());
    }
    ObjectMeta {
        labels: Some(labels),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn probe(path: &str, period_seconds: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String("admin".into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// How long a worker stays where its node is lost.
fn lost_nodes() -> [Toleration; 2] {
    ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(|key| Toleration {
        key: Some(key.into()),
        operator: Some("Exists".into()),
        effect: Some("NoExecute".into()),
        toleration_seconds: Some(LOST_NODE_SECONDS),
        value: None,
    })
}

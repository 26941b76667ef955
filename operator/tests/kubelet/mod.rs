//! What a kubelet shows of the pods that the operator makes: that probes end with a report, that workers run and
//! answer at `/status`. Nothing is really run.

#![allow(dead_code, reason = "each of the tests that share it uses a part")]

pub(crate) mod worker;

use millrace_contract::Live;
use millrace_contract::probe::{BrokerFound, Failure, Outcome, Report, Request, SinkFound, TopicFound};
use millrace_contract::status::Reason;
use millrace_operator::names;
use serde_json::{Value, json};

use crate::objects::{annotation, now};

/// The live configuration of a worker. It takes one over at once, and finds what is retired dry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) hash: String,
}

impl Taken {
    /// What a route's ConfigMap of that says.
    pub(crate) fn from_map(map: &Value) -> Option<Self> {
        let _: Live = serde_json::from_str(map["data"]["live.json"].as_str()?).ok()?;
        Some(Self {
            hash: annotation(map, names::LIVE)?.to_owned(),
        })
    }

    /// Whether a pod has been told to take over a configuration, which is this one.
    pub(crate) fn is_told(&self, pod: &Value) -> bool {
        let told = annotation(pod, names::NUDGE).and_then(|nudge| nudge.split_once('.'));
        told.is_some_and(|(hash, _)| hash == self.hash)
    }
}

/// The status of a pod that runs; a worker has an address and is ready.
pub(crate) fn running(ip: Option<&str>) -> Value {
    let mut status = json!({
        "phase": "Running",
        "containerStatuses": [container(json!({"running": {}}))],
    });
    if let Some(ip) = ip {
        status["podIP"] = ip.into();
        status["conditions"] = json!([{"type": "Ready", "status": "True"}]);
    }
    status
}

/// The status of a probe's pod when it has answered: it finds all it is asked for,
/// but a broker whose host is named `down`.
pub(crate) fn probe_ended(pod: &Value) -> Value {
    let report = annotation(pod, names::REQUEST).map(report);
    ended(&report.unwrap_or_default())
}

/// The status of a pod that has done its work.
pub(crate) fn ended(message: &str) -> Value {
    let terminated = json!({"exitCode": 0, "reason": "Completed", "message": message, "finishedAt": now()});
    json!({"phase": "Succeeded", "containerStatuses": [container(json!({"terminated": terminated}))]})
}

/// The ConfigMaps that a pod cannot start without.
pub(crate) fn mounted(pod_spec: &Value) -> Vec<String> {
    let volumes = pod_spec["volumes"].as_array().into_iter().flatten();
    let maps = volumes
        .map(|volume| &volume["configMap"])
        .filter(|map| map["optional"] != true);
    maps.filter_map(|map| map["name"].as_str())
        .map(str::to_owned)
        .collect()
}

fn container(state: Value) -> Value {
    json!({
        "name": names::CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state,
    })
}

fn report(request: &str) -> String {
    let Ok(request) = serde_json::from_str::<Request>(request) else {
        return String::new();
    };
    let topic = |name: String| TopicFound {
        name,
        partitions: 6,
        created: false,
        problem: None,
    };
    let report = Report {
        broker: request.broker.map(|broker| {
            if broker.broker.urls.iter().any(|url| url.contains("//down.")) {
                return Outcome::Failed(Failure {
                    reason: Reason::BrokerUnreachable,
                    message: "the broker is down".into(),
                });
            }
            Outcome::Found(BrokerFound {
                protocol_version: "5".into(),
                shared_subscriptions: Some(true),
                maximum_qos: broker.qos,
                receive_maximum: None,
                session_expiry_seconds: None,
                maximum_packet_bytes: None,
            })
        }),
        sink: request.sink.map(|sink| {
            Outcome::Found(SinkFound {
                cluster_id: Some("fake".into()),
                brokers: 3,
                topics: sink.topics.into_iter().map(topic).collect(),
            })
        }),
    };
    serde_json::to_string(&report).unwrap_or_default()
}

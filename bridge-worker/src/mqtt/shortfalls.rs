use millrace_contract::status::{Problem, Reason};

use super::packet::Grant;
use super::session::Granted;

/// What the broker granted less than was asked.
pub(crate) fn shortfalls(
    granted: &Granted,
    asked_expiry_seconds: u32,
    qos: u8,
    shared: bool,
    codes: &[Grant],
) -> Vec<Problem> {
    let mut problems = Vec::new();
    let lowest = codes
        .iter()
        .filter_map(|code| {
            if let Grant::Qos(qos) = code {
                Some(*qos)
            } else {
                None
            }
        })
        .min();
    let granted_qos = lowest.unwrap_or(qos).min(granted.maximum_qos);
    if granted_qos < qos {
        let way_out = if shared {
            "some brokers grant less on shared subscriptions: use spec.from.mqtt.ordering: PerTopic, or"
        } else {
            "use a broker that supports it, or"
        };
        problems.push(Problem {
            reason: Reason::QosDowngraded,
            message: format!(
                "the broker grants QoS {granted_qos} where {qos} was asked{}: {way_out} set spec.from.mqtt.qos to \
                 {granted_qos}",
                if granted_qos == 0 { ", so messages can be lost" } else { "" },
            ),
        });
    }
    if let Some(seconds) = granted
        .session_expiry_seconds
        .filter(|seconds| *seconds < asked_expiry_seconds)
    {
        problems.push(Problem {
            reason: Reason::SessionExpiryShort,
            message: format!(
                "the broker keeps the session for {seconds} s without connection, not {asked_expiry_seconds} s: \
                 after a longer outage messages are lost; raise the broker's limit"
            ),
        });
    }
    problems
}

/// What the broker takes less of than is to be published.
pub(crate) fn publishing_shortfalls(granted: &Granted, qos: u8, retain: bool) -> Vec<Problem> {
    let mut problems = Vec::new();
    let most = granted.maximum_qos;
    if most < qos {
        problems.push(Problem {
            reason: Reason::QosDowngraded,
            message: format!(
                "the broker takes QoS {most} at most, and {qos} was asked{}: use a broker that takes more, or set \
                 spec.to.mqtt.qos to {most}",
                if most == 0 { ", so messages can be lost" } else { "" },
            ),
        });
    }
    if retain && !granted.retain_available {
        problems.push(Problem {
            reason: Reason::RetainUnavailable,
            message: "the broker keeps no messages for devices that subscribe later: use a broker that does, or set \
                      spec.to.mqtt.retain to Never"
                .into(),
        });
    }
    problems
}

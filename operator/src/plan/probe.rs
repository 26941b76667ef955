//! Whether something is to be tried before workers depend on it: a short pod that connects and answers.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use millrace_contract::probe::{Failure, Outcome, Report, Request};
use millrace_contract::status;
use millrace_crds::{Place, TopicRoute};

use super::meta::Family;
use super::pod::{self, ROOT};
use super::{Desired, placement};
use crate::names;
use crate::observed::{self, Child, ChildKind, PodSeen, Seen};
use crate::settings::Settings;

/// How long the kubelet lets a probe run.
const DEADLINE_SECONDS: i64 = 90;
/// How long a probe that has not come to an end may be waited for: an image that cannot be pulled ends nothing.
const PATIENCE: SignedDuration = SignedDuration::from_secs(120);
/// The wait after a first failure; it doubles.
const BACKOFF: SignedDuration = SignedDuration::from_secs(5);
/// It doubles so often at most.
const DOUBLINGS: u32 = 6;

/// How a probe stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Make one.
    Due {
        /// How many failed before it.
        attempt: u32,
        /// How the last of them did.
        last: Option<Verdict>,
    },
    /// Wait for its end.
    Running {
        /// How the one before it failed.
        last: Option<Verdict>,
    },
    /// It has answered, and all is well.
    Passed(Report),
    /// It has not found what it should, and rests.
    Failed(Verdict),
}

/// What a failed probe comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What it did find.
    pub report: Report,
    /// What is wrong.
    pub failure: Failure,
    /// When it is to be tried again.
    pub again_at: Timestamp,
    /// How many have failed.
    pub failures: u32,
}

/// How the probe of `key` stands, from what has been seen of its pods.
pub fn standing(family: &observed::Family, key: &str, now: Timestamp) -> Standing {
    let mut pods: Vec<&PodSeen> = family.values().filter_map(|child| probe_of(child, key)).collect();
    pods.sort_by_key(|pod| std::cmp::Reverse(pod.attempt));
    let mut pods = pods.into_iter();
    let Some(newest) = pods.next() else {
        return Standing::Due {
            attempt: 0,
            last: None,
        };
    };
    match judge(newest, now) {
        Judgement::Running => Standing::Running {
            last: pods.next().and_then(|pod| match judge(pod, now) {
                Judgement::Failed(verdict) => Some(verdict),
                _ => None,
            }),
        },
        Judgement::Passed(report) => Standing::Passed(report),
        Judgement::Failed(verdict) if verdict.again_at <= now => Standing::Due {
            attempt: verdict.failures,
            last: Some(verdict),
        },
        Judgement::Failed(verdict) => Standing::Failed(verdict),
    }
}

/// Names of the pods of `key` that are still of use: the newest, and the one that says why it was made.
pub fn kept(family: &observed::Family, key: &str) -> Vec<String> {
    let pods = family.values().filter_map(|child| probe_of(child, key));
    let mut pods: Vec<(u32, String)> = pods.map(|pod| (pod.attempt, pod.name.clone())).collect();
    pods.sort_by_key(|(attempt, _)| std::cmp::Reverse(*attempt));
    pods.into_iter().take(2).map(|(_, name)| name).collect()
}

fn probe_of<'a>(child: &'a Child, key: &str) -> Option<&'a PodSeen> {
    match &child.seen {
        Seen::Pod(pod)
            if pod.component == names::component::PROBE && pod.settings == key && !child.deleting =>
        {
            Some(pod)
        }
        _ => None,
    }
}

enum Judgement {
    Running,
    Passed(Report),
    Failed(Verdict),
}

fn judge(pod: &PodSeen, now: Timestamp) -> Judgement {
    if let Some(terminated) = pod.terminated.as_ref().filter(|_| pod.finished) {
        let report: Report = serde_json::from_str(&terminated.message).unwrap_or_default();
        let failure = failure_of(&report).or_else(|| {
            (terminated.exit_code != 0 || report == Report::default()).then(|| Failure {
                reason: status::Reason::ProbeFailed,
                message: format!(
                    "the probe ended with exit code {} ({}) and without a report: {}; see `kubectl logs {}`",
                    terminated.exit_code,
                    terminated.reason,
                    last_line(&terminated.message),
                    pod.name
                ),
            })
        });
        return match failure {
            None => Judgement::Passed(report),
            Some(failure) => {
                Judgement::Failed(failed(report, failure, terminated.at.unwrap_or(now), pod.attempt))
            }
        };
    }
    let reason = status::Reason::ProbeFailed;
    let (message, since) = match (&pod.waiting, &pod.unschedulable) {
        (Some((word, text)), _) => (
            format!(
                "the probe's container does not start: {word}: {text}; {}",
                pod.way_out()
            ),
            pod.created,
        ),
        (None, Some(text)) => (
            format!(
                "no node takes the probe's pod {}: {text}; it starts when one has room: add a node, or free one",
                pod.name
            ),
            pod.created,
        ),
        (None, None) if pod.finished => (
            format!(
                "the probe's pod {0} was ended before it could answer; another is made: if that does not help, see \
                 `kubectl describe pod {0}`",
                pod.name
            ),
            Some(now),
        ),
        (None, None) => {
            let late = pod
                .created
                .is_some_and(|created| now.duration_since(created) > PATIENCE);
            if !late {
                return Judgement::Running;
            }
            (
                format!(
                    "the probe's pod {0} has not ended within {1} s: see `kubectl describe pod {0}`; a Secret that does \
                     not exist keeps it from starting",
                    pod.name,
                    PATIENCE.as_secs()
                ),
                pod.created,
            )
        }
    };
    let since = since.unwrap_or(now);
    // What keeps it from starting may go away by itself; it is not started anew before it has had some time.
    let verdict = failed(Report::default(), Failure { reason, message }, since, pod.attempt);
    Judgement::Failed(Verdict {
        again_at: verdict.again_at.max(add(since, PATIENCE)),
        ..verdict
    })
}

fn failed(report: Report, failure: Failure, since: Timestamp, attempt: u32) -> Verdict {
    let wait = BACKOFF * 2_i32.pow(attempt.min(DOUBLINGS));
    Verdict {
        report,
        failure,
        again_at: add(since, wait),
        failures: attempt + 1,
    }
}

fn add(at: Timestamp, wait: SignedDuration) -> Timestamp {
    at.checked_add(wait).unwrap_or(Timestamp::MAX)
}

/// The first thing that is wrong in a report.
fn failure_of(report: &Report) -> Option<Failure> {
    if let Some(Outcome::Failed(failure)) = &report.broker {
        return Some(failure.clone());
    }
    match &report.sink {
        Some(Outcome::Failed(failure)) => Some(failure.clone()),
        Some(Outcome::Found(found)) => found.topics.iter().find_map(|topic| topic.problem.clone()),
        None => None,
    }
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or_default()
}

/// The pod of a probe. `key` is what tells it from a probe of something else, `places` where what is not in the request is.
pub fn pod<'a>(
    family: &Family,
    key: &str,
    attempt: u32,
    request: &Request,
    places: impl IntoIterator<Item = Place<'a>>,
    route: Option<&TopicRoute>,
    settings: &Settings,
) -> Desired {
    let name = names::probe(family.owner.kind, &family.owner.name, key, attempt);
    let mut meta = family.child(name, names::component::PROBE);
    meta.annotations = Some(
        [
            (names::REQUEST, serde_json::to_string(request).unwrap_or_default()),
            (names::ATTEMPT, attempt.to_string()),
            (names::SETTINGS, key.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into(),
    );
    let mut mounts = vec![pod::annotation("probe", "request.json", names::REQUEST)];
    mounts.extend(pod::values(places));
    let request = format!("{ROOT}/probe/request.json");
    let (mut spec, mut container) =
        pod::spec(settings, pod::command(&["probe", "--request", &request]), mounts);
    container.resources = Some(ResourceRequirements {
        requests: Some(pod::quantities(
            &std::collections::BTreeMap::new(),
            &[("cpu", "10m"), ("memory", "32Mi")],
        )),
        limits: Some(pod::quantities(
            &std::collections::BTreeMap::new(),
            &[("memory", "128Mi")],
        )),
        claims: None,
    });
    if let Some(route) = route {
        placement::place(&mut spec, route);
    }
    spec.containers = vec![container];
    spec.restart_policy = Some("Never".into());
    spec.active_deadline_seconds = Some(DEADLINE_SECONDS);
    spec.termination_grace_period_seconds = Some(1);
    let pod = Pod {
        metadata: meta,
        spec: Some(spec),
        status: None,
    };
    Desired::of(ChildKind::Pod, &pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Terminated;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn family(pods: Vec<PodSeen>) -> observed::Family {
        let child = |pod: PodSeen| {
            let name = format!("probe-{}", pod.attempt);
            let pod = PodSeen {
                component: names::component::PROBE.into(),
                settings: "key".into(),
                name: name.clone(),
                ..pod
            };
            let child = Child {
                uid: name.clone(),
                resource_version: "1".into(),
                deleting: false,
                seen: Seen::Pod(Box::new(pod)),
            };
            ((ChildKind::Pod, name), child)
        };
        pods.into_iter().map(child).collect()
    }

    fn standing_of(pod: PodSeen, now: Timestamp) -> Standing {
        standing(&family(vec![pod]), "key", now)
    }

    fn ended(exit_code: i32, message: &str, attempt: u32) -> PodSeen {
        PodSeen {
            finished: true,
            attempt,
            terminated: Some(Terminated {
                exit_code,
                message: message.into(),
                reason: "Error".into(),
                at: Some(at(0)),
            }),
            ..PodSeen::default()
        }
    }

    #[test]
    fn a_report_without_failure_passes() {
        let report = r#"{"sink":{"found":{"brokers":1}}}"#;
        assert!(matches!(
            standing_of(ended(0, report, 0), at(1)),
            Standing::Passed(_)
        ));
    }

    #[test]
    fn every_failure_waits_twice_as_long_as_the_one_before() {
        let report = r#"{"broker":{"failed":{"reason":"BrokerRefused","message":"bad password"}}}"#;
        let mut waits = Vec::new();
        for attempt in 0..9 {
            let Standing::Failed(verdict) = standing_of(ended(1, report, attempt), at(1)) else {
                panic!("it failed");
            };
            assert_eq!(verdict.failure.message, "bad password");
            assert_eq!(verdict.failures, attempt + 1);
            waits.push(verdict.again_at.duration_since(at(0)).as_secs());
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 320, 320]);
    }

    #[test]
    fn after_its_rest_a_failed_probe_is_made_again_and_the_failure_is_not_forgotten() {
        let report = r#"{"broker":{"failed":{"reason":"BrokerRefused","message":"bad password"}}}"#;
        let Standing::Due { attempt, last } = standing_of(ended(1, report, 2), at(1000)) else {
            panic!("its time has come");
        };
        assert_eq!(
            (attempt, last.unwrap().failure.message.as_str()),
            (3, "bad password")
        );
        let running = PodSeen {
            attempt: 3,
            created: Some(at(1000)),
            ..PodSeen::default()
        };
        let both = family(vec![ended(1, report, 2), running, ended(1, report, 1)]);
        let Standing::Running { last } = standing(&both, "key", at(1001)) else {
            panic!("it runs");
        };
        assert_eq!(last.unwrap().failures, 3);
        assert_eq!(kept(&both, "key"), ["probe-3", "probe-2"]);
    }

    #[test]
    fn an_end_without_a_report_is_a_failure_with_what_was_said_last() {
        let Standing::Failed(verdict) = standing_of(ended(101, "x\nthread panicked\n", 0), at(1)) else {
            panic!("it failed");
        };
        assert!(
            verdict.failure.message.contains("101") && verdict.failure.message.contains("thread panicked")
        );
    }

    #[test]
    fn a_pod_that_does_not_start_says_why_and_gets_time() {
        let pod = PodSeen {
            created: Some(at(0)),
            waiting: Some(("ImagePullBackOff".into(), "no such image".into())),
            ..PodSeen::default()
        };
        let Standing::Failed(verdict) = standing_of(pod, at(10)) else {
            panic!("it does not start");
        };
        assert!(verdict.failure.message.contains("no such image"));
        assert_eq!(verdict.again_at, at(120));
    }
}

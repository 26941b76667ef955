//! What follows the deletion of a route: its MQTT sessions are ended, by its workers, or by a Job where none is alive.

use std::time::Duration;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{PodTemplateSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use millrace_contract::status::LaneState;
use millrace_contract::{Document, LaneRecord};
use millrace_crds::{KafkaSink, MqttBroker, TopicRoute, broker_places, sink_places};

use super::meta::Family;
use super::pod::{self, ROOT};
use super::{Desired, LIVE_KEY, SETTINGS_KEY, placement};
use crate::names;
use crate::observed::{ChildKind, JobSeen, WorkerSeen};
use crate::settings::Settings;

/// What is to be done about the sessions of a deleted route.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// They are gone, or given up: let the route go. With sessions left, an Event names them.
    Release {
        /// Client ids of sessions that are left to expire.
        left: Vec<String>,
        /// Why.
        why: &'static str,
    },
    /// Workers are alive and end them.
    Workers,
    /// Nobody is alive: a Job ends them.
    Job,
    /// Wait for the Job.
    Wait,
}

/// What a step is decided from.
#[derive(Clone, Debug, Default)]
pub struct Situation<'a> {
    /// Client ids of all sessions that the route has at its broker.
    pub sessions: Vec<String>,
    /// Answers of the workers that are alive.
    pub workers: Vec<WorkerSeen>,
    /// The route's leave Job.
    pub job: Option<&'a JobSeen>,
    /// The user does not want to wait.
    pub forced: bool,
    /// The namespace goes too: nothing can be made in it any more.
    pub namespace_terminating: bool,
    /// The route never had workers.
    pub never_ran: bool,
    /// It is not known how to reach the broker.
    pub unknown_broker: bool,
    /// How long this operator has known that the route is deleted: its clock and the API server's may differ.
    pub waited: Duration,
    /// How long it may take.
    pub patience: Duration,
}

/// What is to be done now.
pub fn step(situation: &Situation<'_>) -> Step {
    let release = |left: &[String], why| Step::Release {
        left: left.to_vec(),
        why,
    };
    if situation.never_ran {
        return release(&[], "it never had a session");
    }
    let remaining = remaining(situation);
    if remaining.is_empty() || situation.job.is_some_and(|job| job.succeeded) {
        return release(&[], "its sessions are ended");
    }
    if situation.forced {
        return release(
            &remaining,
            "annotation millrace.dev/force-delete asks not to wait",
        );
    }
    if situation.waited > situation.patience {
        return release(&remaining, "timeouts.leave is over");
    }
    if situation.job.is_some_and(|job| job.failed) {
        return release(&remaining, "the leave Job could not end them");
    }
    if situation.job.is_some() {
        return Step::Wait;
    }
    if situation.workers.iter().any(|worker| !worker.is_silent()) {
        return Step::Workers;
    }
    if situation.namespace_terminating {
        return release(
            &remaining,
            "their namespace is deleted as well, so nothing can run in it",
        );
    }
    if situation.unknown_broker {
        return release(
            &remaining,
            "the MqttBroker is deleted as well, so the way to them is not known",
        );
    }
    Step::Job
}

/// The sessions that no worker has ended yet.
fn remaining(situation: &Situation<'_>) -> Vec<String> {
    let ended: Vec<&str> = situation
        .workers
        .iter()
        .filter_map(|worker| worker.status.as_ref())
        .flat_map(|status| &status.lanes)
        .filter(|lane| lane.state == LaneState::Left)
        .map(|lane| lane.client_id.as_str())
        .collect();
    situation
        .sessions
        .iter()
        .filter(|id| !ended.contains(&id.as_str()))
        .cloned()
        .collect()
}

/// Lanes that may have a session: those of the record, or all that are asked for while there is none.
pub fn lanes(record: Option<&LaneRecord>, asked: u16) -> u16 {
    let recorded = record.and_then(|record| record.lanes.iter().map(|owner| owner.lane + 1).max());
    recorded.unwrap_or(asked)
}

/// The Job. It has no owner, because foreground deletion would take it away first, and carries what it reads in
/// annotations of its pod, so that nothing else has to be cleaned up.
pub fn job(
    family: &Family,
    document: &Document,
    lanes: u16,
    route: &TopicRoute,
    (broker, sink): (&MqttBroker, &KafkaSink),
    patience_seconds: u64,
    settings: &Settings,
) -> Desired {
    let name = names::leave(&family.owner.name);
    let content = [
        (names::LEAVE_SETTINGS, serde_json::to_string(&document.settings)),
        (names::LEAVE_LIVE, serde_json::to_string(&document.live)),
    ];
    let annotations = content.map(|(name, json)| (name.to_owned(), json.unwrap_or_default()));
    let mut mounts = vec![
        pod::annotation("settings", SETTINGS_KEY, names::LEAVE_SETTINGS),
        pod::annotation("live", LIVE_KEY, names::LEAVE_LIVE),
    ];
    mounts.extend(pod::values(
        broker_places(broker).into_iter().chain(sink_places(sink)),
    ));
    let (settings_file, live_file) = (
        format!("{ROOT}/settings/{SETTINGS_KEY}"),
        format!("{ROOT}/live/{LIVE_KEY}"),
    );
    let (lanes, timeout) = (lanes.to_string(), format!("{}s", patience_seconds.max(1)));
    let command = pod::command(&[
        "leave",
        "--settings",
        &settings_file,
        "--live",
        &live_file,
        "--lanes",
        &lanes,
        "--timeout",
        &timeout,
    ]);
    let (mut spec, mut container) = pod::spec(settings, command, mounts);
    container.resources = Some(ResourceRequirements {
        requests: Some(pod::quantities(
            &Default::default(),
            &[("cpu", "50m"), ("memory", "64Mi")],
        )),
        limits: Some(pod::quantities(&Default::default(), &[("memory", "256Mi")])),
        claims: None,
    });
    placement::place(&mut spec, route);
    spec.containers = vec![container];
    spec.restart_policy = Some("Never".into());
    spec.termination_grace_period_seconds = Some(5);
    let deadline = i64::try_from(patience_seconds)
        .unwrap_or(i64::MAX)
        .saturating_add(15);
    let job = Job {
        metadata: family.orphan(name, names::component::LEAVE),
        spec: Some(JobSpec {
            backoff_limit: Some(1),
            active_deadline_seconds: Some(deadline),
            // Should the operator be away when it ends.
            ttl_seconds_after_finished: Some(300),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(family.labels(names::component::LEAVE)),
                    annotations: Some(annotations.into()),
                    ..ObjectMeta::default()
                }),
                spec: Some(spec),
            },
            ..JobSpec::default()
        }),
        status: None,
    };
    Desired::of(ChildKind::Job, &job)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_contract::status::{LaneStatus, RouteStatus};

    fn worker(states: &[(&str, LaneState)]) -> WorkerSeen {
        let lanes = states
            .iter()
            .enumerate()
            .map(|(lane, (id, state))| LaneStatus::new(lane.try_into().unwrap(), *id, *state));
        WorkerSeen {
            status: Some(RouteStatus {
                lanes: lanes.collect(),
                ..RouteStatus::default()
            }),
            ..WorkerSeen::default()
        }
    }

    fn situation(workers: Vec<WorkerSeen>) -> Situation<'static> {
        Situation {
            sessions: vec!["a".into(), "b".into()],
            workers,
            waited: Duration::from_secs(10),
            patience: Duration::from_secs(45),
            ..Situation::default()
        }
    }

    #[test]
    fn workers_that_are_alive_end_the_sessions() {
        let half = worker(&[("a", LaneState::Left), ("b", LaneState::Leaving)]);
        assert_eq!(step(&situation(vec![half])), Step::Workers);
        let done = worker(&[("a", LaneState::Left), ("b", LaneState::Left)]);
        assert!(matches!(step(&situation(vec![done])), Step::Release { left, .. } if left.is_empty()));
    }

    #[test]
    fn without_workers_a_job_does_it() {
        assert_eq!(step(&situation(vec![])), Step::Job);
        let running = JobSeen::default();
        let waiting = Situation {
            job: Some(&running),
            ..situation(vec![])
        };
        assert_eq!(step(&waiting), Step::Wait);
        let succeeded = JobSeen {
            succeeded: true,
            failed: false,
        };
        let ended = Situation {
            job: Some(&succeeded),
            ..situation(vec![])
        };
        assert!(matches!(step(&ended), Step::Release { left, .. } if left.is_empty()));
    }

    #[test]
    fn what_is_left_to_expire_is_named() {
        let half = || worker(&[("a", LaneState::Left), ("b", LaneState::Up)]);
        let late = Situation {
            waited: Duration::from_secs(46),
            ..situation(vec![half()])
        };
        let terminating = Situation {
            namespace_terminating: true,
            ..situation(vec![])
        };
        let forced = Situation {
            forced: true,
            ..situation(vec![half()])
        };
        for (situation, expected) in [
            (late, vec!["b"]),
            (terminating, vec!["a", "b"]),
            (forced, vec!["b"]),
        ] {
            let Step::Release { left, .. } = step(&situation) else {
                panic!("{situation:?}");
            };
            assert_eq!(left, expected);
        }
    }
}

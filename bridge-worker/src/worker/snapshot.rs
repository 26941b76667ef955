//! What can be seen of a route.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Instant;

use millrace_contract::status::{LaneState, LaneStatus, Phase, Problem, Reason, RouteStatus};

use super::lanes::{Lanes, MAX_BUFFERED};
use super::{Route, lock};
use crate::certificates::expiring;
use crate::limits::{Full, Held, saturated, window_full};
use crate::metrics::RouteSnapshot;
use crate::pipeline::Stop;

/// What the lanes of this process show.
#[derive(Default)]
struct Seen {
    lanes: Vec<LaneStatus>,
    /// Of those that are to read.
    owned: Vec<LaneState>,
    problems: Vec<Problem>,
    /// What limits the first of them that something does.
    window: Option<Full>,
    sink: Option<Held>,
    /// Filters that are read no more and that something may still come of.
    late: BTreeSet<String>,
    /// All that are to read have been up.
    up: bool,
    /// All act by the newest configuration.
    act: bool,
}

impl Route {
    pub(super) fn snapshot(&self, ended: bool) -> RouteSnapshot {
        let mut lanes = lock(&self.lanes);
        let mut totals = lanes.gone.clone();
        let mut seen = Seen {
            up: true,
            act: true,
            ..Seen::default()
        };
        let now = Instant::now();
        for (lane, handle) in &lanes.handles {
            let (status, view, problems) = handle.report.view();
            totals.add_view(&view, status.connections);
            seen.problems.extend(problems);
            seen.late.extend(view.late);
            seen.window = seen.window.or(view.limits.window.said(now));
            seen.sink = seen.sink.or(view.limits.sink.said(now));
            if lanes.owned.contains(lane) {
                seen.up &= view.has_been_up || status.state == LaneState::Idle;
                seen.act &= view.revision == lanes.live.revision;
                seen.owned.push(status.state);
            }
            seen.lanes.push(status);
        }
        if seen.act {
            lanes.acting = lanes.live.hash.clone();
        }
        let (received_per_second, written_per_second) = lock(&self.rates).at(now, totals.ledger);
        let of_broker = self.credentials.known().seen();
        let of_kafka = self.kafka_credentials.known().seen();
        seen.problems.extend(of_broker.2);
        seen.problems.extend(of_kafka.2);
        let mut certificates = self.credentials.known().certificates();
        certificates.extend(self.kafka_credentials.certificates());
        seen.problems.extend(expiring(&certificates));
        let route = &self.settings.route;
        RouteSnapshot {
            status: RouteStatus {
                namespace: route.namespace.clone(),
                name: route.name.clone(),
                uid: route.uid.clone(),
                pod_uid: self.pod_uid.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                generation: lanes.generation,
                live: lanes.acting.clone(),
                certificates,
                credentials_taken_over: of_broker.0 + of_kafka.0,
                credentials_refused: of_broker.1 + of_kafka.1,
                late: seen.late.iter().cloned().collect(),
                phase: phase(&lanes, &seen, ended),
                ready: self.ready(&seen),
                problems: self.problems(&lanes, &seen),
                ledger: totals.ledger,
                received_per_second,
                written_per_second,
                load: lock(&self.load).at(now),
                latency: totals.latency.to_contract(),
                buffered_bytes: totals.buffered,
                lanes: seen.lanes,
                delivery: None,
                survey: self.surveys.seen(),
            },
            latency: totals.latency,
            bytes_received: totals.bytes_received,
            bytes_written: totals.bytes_written,
            reconnects: totals.reconnects,
            taken_over: totals.taken_over,
            window_limited: totals.window_limited,
            sink_saturated: totals.sink_saturated,
            errors: totals.errors,
            producer_restarts: self.producer.restarts(),
            live_reloads: lanes.reloads,
            live_refusals: lanes.refusals,
        }
    }

    /// Once every lane has been up and Kafka has answered it stays so. A worker without lanes has nothing to wait for.
    fn ready(&self, seen: &Seen) -> bool {
        if seen.owned.is_empty() || self.has_been_ready.load(Ordering::Relaxed) {
            return true;
        }
        let ready = seen.up && self.kafka.has_answered();
        if ready {
            self.has_been_ready.store(true, Ordering::Relaxed);
        }
        ready
    }

    fn problems(&self, lanes: &Lanes, seen: &Seen) -> Vec<Problem> {
        let servers = self.settings.sink.bootstrap_servers.join(", ");
        let problem = |reason, message: &String| Problem {
            reason,
            message: message.clone(),
        };
        let stopped = lanes.stopped.as_ref();
        let stopped = stopped.map(|Stop { message, .. }| problem(Reason::MessageUndeliverable, message));
        let refused = lanes.refused.as_ref();
        let refused = refused.map(|message| problem(Reason::ConfigurationRefused, message));
        let of_kafka = self.kafka_credentials.problems(&self.kafka, &servers);
        // A Kafka that is away, or stands, fills windows and buffers too.
        let limits = [
            seen.window.map(window_full),
            seen.sink.map(|held| saturated(held, MAX_BUFFERED)),
        ];
        let limits: Vec<Problem> = match of_kafka.is_empty() {
            true => limits.into_iter().flatten().collect(),
            false => Vec::new(),
        };
        let mut known = BTreeSet::new();
        let all = stopped
            .into_iter()
            .chain(refused)
            .chain(of_kafka)
            .chain(self.topics.problems())
            .chain(seen.problems.iter().cloned())
            .chain(limits);
        all.filter(|problem| known.insert((format!("{:?}", problem.reason), problem.message.clone())))
            .collect()
    }
}

fn phase(lanes: &Lanes, seen: &Seen, ended: bool) -> Phase {
    if lanes.end.is_some() {
        if ended { Phase::Ended } else { Phase::Draining }
    } else if lanes.stopped.is_some() {
        Phase::Stopped
    } else if seen
        .owned
        .iter()
        .all(|state| matches!(state, LaneState::Up | LaneState::Idle))
    {
        Phase::Running
    } else {
        Phase::Connecting
    }
}

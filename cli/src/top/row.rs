//! From what was seen of a route to what is shown of it. Pure.

use std::time::Duration;

use millrace_contract::status::{Phase, Problem, RouteStatus};
use millrace_contract::{Ledger, Ownership};

use super::seen::{RouteSeen, WorkerSeen};
use crate::view::grid::Cell;
use crate::view::table::columns::{lanes, latency, oldest, state};
use crate::view::text::Style;

/// What is shown of a route: sums over the workers that answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The reason of its condition Ready, or what its process does.
    pub(crate) state: Cell,
    /// Messages per second received from MQTT.
    pub(crate) received: f64,
    /// Records per second confirmed by Kafka.
    pub(crate) written: f64,
    /// What its workers use of what one may.
    pub(crate) load: f64,
    /// The lanes that are up, by worker.
    pub(crate) lanes: String,
    /// How many lanes are on their way.
    pub(crate) moves: usize,
    /// The age of the oldest unacknowledged message.
    pub(crate) oldest: Option<Duration>,
    /// What 99 % of the messages took at most, by the slowest worker.
    pub(crate) p99: Option<Duration>,
    /// Where the messages went.
    pub(crate) ledger: Ledger,
    /// Workers that answered.
    pub(crate) answered: usize,
    /// Workers that did not, and why.
    pub(crate) silent: Vec<(String, String)>,
    /// What workers say is wrong.
    pub(crate) problems: Vec<Problem>,
    /// Whether a worker has stopped at a message.
    pub(crate) stopped: bool,
    /// Why it is not ready, where no worker says so.
    pub(crate) message: Option<String>,
    /// What moves where, in words.
    pub(crate) moving: Option<String>,
}

impl Row {
    /// Of a route.
    pub(crate) fn of(route: &RouteSeen) -> Self {
        let answers = || route.answers();
        let mut problems: Vec<Problem> = Vec::new();
        for problem in answers().flat_map(|answer| &answer.problems) {
            if !problems.contains(problem) {
                problems.push(problem.clone());
            }
        }
        let mut ledger = Ledger::default();
        answers().for_each(|answer| ledger += answer.ledger);
        let silent = route.silent();
        let is_well = problems.is_empty() && silent.is_empty();
        let stopped = answers().any(|answer| answer.phase == Phase::Stopped);
        Self {
            namespace: route.namespace.clone(),
            name: route.name.clone(),
            state: state_of(route, is_well, stopped),
            received: received(route),
            written: answers().map(|answer| answer.written_per_second).sum(),
            load: answers().map(|answer| answer.load).sum(),
            lanes: lanes_by_worker(route),
            moves: route.moves().count(),
            oldest: answers().filter_map(oldest).max(),
            p99: answers().filter_map(latency).max(),
            ledger,
            answered: answers().count(),
            silent,
            message: unexplained(route, &problems),
            problems,
            stopped,
            moving: moving(route),
        }
    }

    /// Whether its sums lack a worker.
    pub(crate) fn is_partial(&self) -> bool {
        !self.silent.is_empty()
    }

    /// ` (1 of 3 workers)`, where its sums lack one.
    pub(crate) fn of_workers(&self) -> String {
        if !self.is_partial() {
            return String::new();
        }
        format!(
            " ({} of {} workers)",
            self.answered,
            self.answered + self.silent.len()
        )
    }
}

/// Messages per second that the workers receive which answered.
pub(crate) fn received(route: &RouteSeen) -> f64 {
    route.answers().map(|answer| answer.received_per_second).sum()
}

/// The reason of Ready is the word that the documentation explains.
fn state_of(route: &RouteSeen, is_well: bool, stopped: bool) -> Cell {
    let Some(said) = &route.said else {
        return route
            .answers()
            .next()
            .map_or(("silent".into(), Style::Bad), state);
    };
    let style = match said.ready {
        _ if stopped => Style::Bad,
        Some(true) if !is_well => Style::Warn,
        Some(true) if said.reason == "Healthy" => Style::Good,
        Some(true) => Style::Dim,
        _ => Style::Warn,
    };
    (said.reason.clone(), style)
}

/// Why the route is not ready, unless a worker says the same.
fn unexplained(route: &RouteSeen, problems: &[Problem]) -> Option<String> {
    let said = route.said.as_ref().filter(|said| said.ready != Some(true))?;
    let is_told = problems
        .iter()
        .any(|problem| format!("{:?}", problem.reason) == said.reason);
    (!is_told && !said.message.is_empty()).then(|| format!("{}: {}", said.reason, said.message))
}

/// `0:3 1:2/3 2:?`: worker, lanes that are up, and of how many if not all are; or partitions of a route from Kafka. Neighbours that say the same stand
/// together: `0-5:2`.
fn lanes_by_worker(route: &RouteSeen) -> String {
    let told = |worker: &WorkerSeen| Some((worker.ordinal?, count(worker.answer.as_ref().ok())));
    let mut told: Vec<(u16, String)> = route.workers.iter().filter_map(told).collect();
    if told.is_empty()
        && let Some(answer) = route.answers().next()
    {
        return count(Some(answer));
    }
    told.extend(route.without_pod().into_iter().map(|owner| (owner, count(None))));
    told.sort();
    let mut groups: Vec<(u16, u16, String)> = Vec::new();
    for (ordinal, count) in told {
        match groups.last_mut() {
            Some((_, last, same)) if *same == count && *last + 1 == ordinal => *last = ordinal,
            _ => groups.push((ordinal, ordinal, count)),
        }
    }
    let text = groups.into_iter().map(|(first, last, count)| match last - first {
        0 => format!("{first}:{count}"),
        _ => format!("{first}-{last}:{count}"),
    });
    text.collect::<Vec<_>>().join(" ")
}

fn count(answer: Option<&RouteStatus>) -> String {
    if let Some(delivery) = answer.and_then(|answer| answer.delivery.as_ref()) {
        return delivery.partitions.len().to_string();
    }
    match answer.map(lanes) {
        None => "?".to_owned(),
        Some((up, in_use)) if up == in_use => up.to_string(),
        Some((up, in_use)) => format!("{up}/{in_use}"),
    }
}

/// `worker 0 gives up lanes 3 and 5; worker 1 ends lane 8`.
fn moving(route: &RouteSeen) -> Option<String> {
    let mut groups: Vec<((u16, Ownership), Vec<u16>)> = Vec::new();
    for lane in route.moves() {
        let key = (lane.ordinal, lane.state);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, lanes)) => lanes.push(lane.lane),
            None => groups.push((key, vec![lane.lane])),
        }
    }
    let text = groups.into_iter().map(|((ordinal, state), lanes)| {
        let does = match state {
            Ownership::Leaving => "ends",
            Ownership::Owned | Ownership::Releasing => "gives up",
        };
        let noun = if lanes.len() == 1 { "lane" } else { "lanes" };
        let lanes: Vec<String> = lanes.iter().map(u16::to_string).collect();
        format!("worker {ordinal} {does} {noun} {}", lanes.join(", "))
    });
    let text: Vec<String> = text.collect();
    (!text.is_empty()).then(|| text.join("; "))
}

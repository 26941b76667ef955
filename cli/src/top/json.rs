//! The same as JSON lines: one object for each route.

use millrace_contract::status::Problem;
use millrace_contract::{LaneOwner, Ledger};
use serde::Serialize;

use super::row::Row;
use super::seen::{RouteSeen, WorkerSeen};
use crate::view::table::columns::lanes;

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RouteLine<'a> {
    time: &'a str,
    namespace: &'a str,
    name: &'a str,
    /// The condition Ready, where there is an operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready: Option<bool>,
    /// Its reason, or what the process does.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    /// Whether all workers have answered: the sums lack the others.
    complete: bool,
    received_per_second: f64,
    written_per_second: f64,
    load: f64,
    lanes_up: usize,
    lanes: usize,
    moves: Vec<&'a LaneOwner>,
    oldest_unacked_ms: Option<u64>,
    ledger: Ledger,
    /// Received less everything accounted for.
    balance: i128,
    problems: Vec<Problem>,
    workers: Vec<WorkerLine>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WorkerLine {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes_up: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lanes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    received_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<f64>,
    /// Why it says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl<'a> RouteLine<'a> {
    /// Of a route, as it was seen at a time.
    pub(crate) fn of(route: &'a RouteSeen, time: &'a str) -> Self {
        let row = Row::of(route);
        let said = route.said.as_ref();
        let lanes: Vec<(usize, usize)> = route.answers().map(lanes).collect();
        let answered = route.workers.iter().filter_map(WorkerLine::of);
        let silent = row.silent.iter().map(WorkerLine::silent);
        Self {
            time,
            namespace: &route.namespace,
            name: &route.name,
            ready: said.and_then(|said| said.ready),
            message: said.map(|said| said.message.as_str()),
            complete: !row.is_partial(),
            received_per_second: row.received,
            written_per_second: row.written,
            load: row.load,
            lanes_up: lanes.iter().map(|(up, _)| up).sum(),
            lanes: lanes.iter().map(|(_, in_use)| in_use).sum(),
            moves: route.moves().collect(),
            oldest_unacked_ms: row.oldest.and_then(|age| age.as_millis().try_into().ok()),
            balance: row.ledger.balance(),
            ledger: row.ledger,
            workers: answered.chain(silent).collect(),
            state: row.state.0,
            problems: row.problems,
        }
    }
}

impl WorkerLine {
    fn of(worker: &WorkerSeen) -> Option<Self> {
        let answer = worker.answer.as_ref().ok()?;
        let (up, in_use) = lanes(answer);
        Some(Self {
            name: worker.name.clone(),
            lanes_up: Some(up),
            lanes: Some(in_use),
            received_per_second: Some(answer.received_per_second),
            load: Some(answer.load),
            error: None,
        })
    }

    fn silent((name, why): &(String, String)) -> Self {
        Self {
            name: name.clone(),
            lanes_up: None,
            lanes: None,
            received_per_second: None,
            load: None,
            error: Some(why.clone()),
        }
    }
}

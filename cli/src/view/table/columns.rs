use std::time::Duration;

use millrace_contract::Ledger;
use millrace_contract::status::{ConnectionState, LaneState, Phase, RouteStatus};

use super::super::grid::{self, Cell, Column, GAP, taken};
use super::super::text::{Line, Style, duration, short_count};
use super::{buckets, name};

/// A route's name is cut before it pushes the figures out.
pub(crate) const LONGEST_NAME: usize = 40;
pub(crate) const SHORTEST_NAME: usize = 8;

/// One word for the state, or how many of the lanes are up, and how good that is.
pub(crate) fn state(route: &RouteStatus) -> Cell {
    let (up, in_use) = lanes(route);
    match route.phase {
        Phase::Connecting if up == 0 => ("connecting".into(), Style::Warn),
        Phase::Connecting | Phase::Running if up < in_use => (format!("{up}/{in_use} up"), Style::Warn),
        Phase::Connecting => ("connecting".into(), Style::Warn),
        Phase::Running if route.problems.is_empty() => ("running".into(), Style::Good),
        Phase::Running => ("running".into(), Style::Warn),
        Phase::Stopped => ("stopped".into(), Style::Bad),
        Phase::Draining => ("draining".into(), Style::Warn),
        Phase::Ended => ("ended".into(), Style::Dim),
    }
}

/// How many of its lanes are subscribed, of how many that have something to read. The connection of a route from Kafka
/// counts as one.
pub(crate) fn lanes(route: &RouteStatus) -> (usize, usize) {
    if let Some(delivery) = &route.delivery {
        return (usize::from(delivery.connection.state == ConnectionState::Up), 1);
    }
    let count = |is: fn(LaneState) -> bool| route.lanes.iter().filter(|lane| is(lane.state)).count();
    (
        count(|state| state == LaneState::Up),
        count(|state| state != LaneState::Idle),
    )
}

/// The columns that fit, chosen for all rows together.
pub(super) struct Columns<'a> {
    columns: Vec<Column<'a, RouteStatus>>,
    /// Whether the ledger stands in columns; otherwise it stands in a line below each route.
    pub(super) ledger: bool,
}

const STATE_WIDTH: usize = 10;

/// Received, written, and the buckets that any row has used, as `figure` writes them. What is in flight has its column already.
pub(crate) fn ledger_columns<'a, R: 'a>(
    rows: &[R],
    ledger: impl Fn(&R) -> &Ledger + Copy + 'a,
    figure: impl Fn(&R, u64) -> String + Copy + 'a,
) -> Vec<Column<'a, R>> {
    const TITLES: [&str; 8] = [
        "WRITTEN",
        "FILTERED",
        "DEAD-LETTERED",
        "DISCARDED",
        "EXPIRED",
        "REPEATS",
        "RETURNED",
        "DROPPED",
    ];
    let used = |i: usize| i == 0 || rows.iter().any(|row| buckets(ledger(row))[i].1 > 0);
    let received = Column::figures("RECEIVED", move |row: &R| figure(row, ledger(row).received));
    let others = TITLES.into_iter().enumerate().filter(|(i, _)| used(*i));
    let others = others
        .map(|(i, title)| Column::figures(title, move |row: &R| figure(row, buckets(ledger(row))[i].1)));
    std::iter::once(received)
        .chain(others)
        .map(|column| column.at_least("9,999,999".len()))
        .collect()
}

/// The age of the oldest unacknowledged message.
pub(crate) fn oldest(route: &RouteStatus) -> Option<Duration> {
    let published = route.delivery.as_ref();
    let published = published.and_then(|delivery| delivery.connection.oldest_unanswered_ms);
    let received = route.lanes.iter().filter_map(|lane| lane.oldest_unacked_ms);
    received.chain(published).max().map(Duration::from_millis)
}

/// What 99 % of the messages took at most.
pub(crate) fn latency(route: &RouteStatus) -> Option<Duration> {
    (route.latency.max_us > 0).then(|| Duration::from_micros(route.latency.p99_us))
}

impl<'a> Columns<'a> {
    /// Chooses the columns for a table of so many columns of text.
    pub(super) fn new(routes: &'a [RouteStatus], width: usize) -> Self {
        let right: Vec<Column<'_, RouteStatus>> = vec![
            Column::figures("RECEIVED/S", |route: &RouteStatus| {
                rate(route.received_per_second)
            }),
            Column::figures("WRITTEN/S", |route: &RouteStatus| rate(route.written_per_second)),
            Column::figures("IN FLIGHT", |route: &RouteStatus| {
                short_count(route.ledger.in_flight)
            }),
            Column::figures("OLDEST", |route: &RouteStatus| or_dash(oldest(route))),
            Column::figures("P99", |route: &RouteStatus| or_dash(latency(route))),
        ];
        let longest = routes.iter().map(|route| name(route, routes).chars().count());
        let wanted = longest.max().unwrap_or(0).clamp(SHORTEST_NAME, LONGEST_NAME);
        let extra = ledger_columns(routes, |route: &RouteStatus| &route.ledger, |_, n| short_count(n));
        let base = GAP + STATE_WIDTH + taken(&right);
        let ledger = base + wanted + taken(&extra) <= width;
        let name_width = wanted.min(width.saturating_sub(base)).max(SHORTEST_NAME);
        let mut columns = vec![
            Column::text("ROUTE", name_width, |route: &RouteStatus| {
                (name(route, routes), Style::Plain)
            }),
            Column::text("STATE", STATE_WIDTH, state),
        ];
        columns.extend(right);
        columns.extend(extra.into_iter().filter(|_| ledger));
        Self { columns, ledger }
    }

    /// The titles.
    pub(super) fn header(&self) -> Line {
        grid::header(&self.columns)
    }

    /// The row of a route.
    pub(super) fn row(&self, route: &RouteStatus) -> Line {
        grid::row(&self.columns, route)
    }
}

/// Messages per second.
pub(crate) fn rate(per_second: f64) -> String {
    short_count(per_second.round() as u64)
}

/// A duration, where there is one.
pub(crate) fn or_dash(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), duration)
}

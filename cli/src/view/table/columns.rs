use std::time::Duration;

use millrace_contract::status::{LaneState, Phase, RouteStatus};

use super::super::text::{Line, Style, duration, short_count};
use super::{buckets, name};

const GAP: usize = 2;
/// A route's name is cut before it pushes the figures out.
const LONGEST_NAME: usize = 40;
const SHORTEST_NAME: usize = 8;

/// One word for the state, or how many of the lanes are up, and how good that is.
fn state(route: &RouteStatus) -> (String, Style) {
    let in_use = route
        .lanes
        .iter()
        .filter(|lane| lane.state != LaneState::Idle)
        .count();
    let up = route
        .lanes
        .iter()
        .filter(|lane| lane.state == LaneState::Up)
        .count();
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

struct Column<'a> {
    title: &'static str,
    width: usize,
    cell: Box<dyn Fn(&RouteStatus) -> String + 'a>,
}

/// The columns that fit, chosen for all rows together.
pub(super) struct Columns<'a> {
    name_width: usize,
    name: Box<dyn Fn(&RouteStatus) -> String + 'a>,
    right: Vec<Column<'a>>,
    /// Whether the ledger stands in columns; otherwise it stands in a line below each route.
    pub(super) ledger: bool,
}

const STATE_WIDTH: usize = 10;

fn column<'a>(title: &'static str, cell: impl Fn(&RouteStatus) -> String + 'a) -> Column<'a> {
    Column {
        title,
        width: title.len().max(6),
        cell: Box::new(cell),
    }
}

/// Received, written, and the buckets that any route has used. What is in flight has its column already.
fn ledger_columns(routes: &[RouteStatus]) -> Vec<Column<'static>> {
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
    let used = |i: usize| i == 0 || routes.iter().any(|route| buckets(&route.ledger)[i].1 > 0);
    let mut columns = vec![column("RECEIVED", |route| short_count(route.ledger.received))];
    columns.extend(
        TITLES
            .into_iter()
            .enumerate()
            .filter(|(i, _)| used(*i))
            .map(|(i, title)| {
                column(title, move |route: &RouteStatus| {
                    short_count(buckets(&route.ledger)[i].1)
                })
            }),
    );
    for column in &mut columns {
        column.width = column.width.max("9,999,999".len());
    }
    columns
}

fn oldest(route: &RouteStatus) -> Option<Duration> {
    route
        .lanes
        .iter()
        .filter_map(|lane| lane.oldest_unacked_ms)
        .max()
        .map(Duration::from_millis)
}

fn latency(route: &RouteStatus) -> Option<Duration> {
    (route.latency.max_us > 0).then(|| Duration::from_micros(route.latency.p99_us))
}

impl<'a> Columns<'a> {
    /// Chooses the columns for a table of so many columns of text.
    pub(super) fn new(routes: &'a [RouteStatus], width: usize) -> Self {
        let name = |route: &RouteStatus| name(route, routes);
        let longest = routes
            .iter()
            .map(|route| name(route).chars().count())
            .max()
            .unwrap_or(0);
        let mut right: Vec<Column<'_>> = vec![
            column("RECEIVED/S", |route| {
                short_count(route.received_per_second.round() as u64)
            }),
            column("WRITTEN/S", |route| {
                short_count(route.written_per_second.round() as u64)
            }),
            column("IN FLIGHT", |route| short_count(route.ledger.in_flight)),
            column("OLDEST", |route| oldest(route).map_or("-".to_owned(), duration)),
            column("P99", |route| latency(route).map_or("-".to_owned(), duration)),
        ];
        let wanted = longest.clamp(SHORTEST_NAME, LONGEST_NAME);
        let extra = ledger_columns(routes);
        let taken = |columns: &[Column<'_>]| columns.iter().map(|column| GAP + column.width).sum::<usize>();
        let base = GAP + STATE_WIDTH + taken(&right);
        let ledger = base + wanted + taken(&extra) <= width;
        if ledger {
            right.extend(extra);
        }
        let name_width = wanted.min(width.saturating_sub(base)).max(SHORTEST_NAME);
        Self {
            name_width,
            name: Box::new(name),
            right,
            ledger,
        }
    }

    /// The titles.
    pub(super) fn header(&self) -> Line {
        let mut text = format!("{:<1$}  {2:<3$}", "ROUTE", self.name_width, "STATE", STATE_WIDTH);
        for column in &self.right {
            text += &format!("  {:>1$}", column.title, column.width);
        }
        Line::styled(text, Style::Bold)
    }

    /// The row of a route.
    pub(super) fn row(&self, route: &RouteStatus) -> Line {
        let name = Line::plain((self.name)(route)).cut(self.name_width).render(false);
        let (state, style) = state(route);
        let mut line = Line::plain(format!("{name:<0$}  ", self.name_width))
            .with(format!("{state:<STATE_WIDTH$}"), style);
        for column in &self.right {
            line = line.with(
                format!("  {:>1$}", (column.cell)(route), column.width),
                Style::Plain,
            );
        }
        line
    }
}

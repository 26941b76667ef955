//! The live view as lines of text: which routes there are, how they do, where their messages went, what is wrong.
//! Pure: the same status and size give the same lines, never more or wider than the terminal.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_contract::Ledger;
use millrace_contract::status::{LaneState, Phase, RouteStatus};

use super::text::{Line, Style, count, duration, short_count, wrap};

/// Columns and rows that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
}

const GAP: usize = 2;
/// A route's name is cut before it pushes the figures out.
const LONGEST_NAME: usize = 40;
const SHORTEST_NAME: usize = 8;

/// The frame: `above`, the table of routes with their problems, `below`. When the rows do not suffice, ledger
/// lines go first, then routes that are well, then problems' details.
pub(crate) fn frame(above: &[Line], routes: &[RouteStatus], below: &[Line], size: Size) -> Vec<Line> {
    let room = size.height.saturating_sub(above.len() + below.len());
    let mut lines = above.to_vec();
    lines.extend(body(
        routes,
        Size {
            width: size.width,
            height: room,
        },
    ));
    lines.extend_from_slice(below);
    lines.truncate(size.height);
    lines.into_iter().map(|line| line.cut(size.width)).collect()
}

fn body(routes: &[RouteStatus], size: Size) -> Vec<Line> {
    let columns = columns(routes, size.width);
    let problems = problems(routes, size.width);
    let needed = 1 + routes.len() + problems.len();
    let ledgers: Vec<Vec<Line>> = routes
        .iter()
        .map(|route| ledger_lines(&route.ledger, size.width))
        .collect();
    let with_ledgers = !columns.ledger && needed + ledgers.iter().map(Vec::len).sum::<usize>() <= size.height;

    let for_problems = problems
        .len()
        .min(size.height.saturating_sub(1 + routes.len().min(3)));
    let for_routes = size.height.saturating_sub(1 + for_problems);

    let mut lines = vec![columns.header()];
    if with_ledgers {
        for (route, ledger) in routes.iter().zip(ledgers) {
            lines.push(columns.row(route));
            lines.extend(ledger);
        }
    } else {
        let (shown, hidden) = fitting(routes, for_routes);
        lines.extend(shown.into_iter().map(|route| columns.row(route)));
        if hidden > 0 {
            lines.push(Line::styled(format!("… and {hidden} more"), Style::Dim));
        }
    }
    lines.extend(problems.into_iter().take(for_problems));
    lines
}

/// The routes to show in `rows` rows and how many are left out. Routes with problems come first then.
fn fitting(routes: &[RouteStatus], rows: usize) -> (Vec<&RouteStatus>, usize) {
    let mut order: Vec<&RouteStatus> = routes.iter().collect();
    if routes.len() <= rows {
        return (order, 0);
    }
    order.sort_by_key(|route| route.problems.is_empty());
    order.truncate(rows.saturating_sub(1));
    let hidden = routes.len() - order.len();
    (order, hidden)
}

/// The equation below a route, indented and in as many lines as it takes.
fn ledger_lines(ledger: &Ledger, width: usize) -> Vec<Line> {
    // What is in flight comes and goes; shown all the time it does not make the lines jump.
    let pieces = wrap(&sum(ledger, true), width.saturating_sub(4));
    let line = |(i, piece)| Line::plain(if i == 0 { "  " } else { "    " }).with(piece, Style::Dim);
    pieces.iter().enumerate().map(line).collect()
}

/// `24,120 received = 23,001 written + 1,000 filtered + 119 in flight`: promise and proof in one line.
pub(crate) fn equation(ledger: &Ledger) -> String {
    sum(ledger, false)
}

fn sum(ledger: &Ledger, always_in_flight: bool) -> String {
    let mut terms: Vec<String> = buckets(ledger)
        .into_iter()
        .filter(|(name, n)| *n > 0 || (always_in_flight && *name == IN_FLIGHT))
        .map(|(name, n)| format!("{} {name}", count(n)))
        .collect();
    if terms.is_empty() {
        terms.push("0".to_owned());
    }
    let sign = if ledger.balance() == 0 { "=" } else { "≠" };
    format!("{} received {sign} {}", count(ledger.received), terms.join(" + "))
}

const IN_FLIGHT: &str = "in flight";

/// The ledger's buckets in the order in which they are shown.
fn buckets(ledger: &Ledger) -> [(&'static str, u64); 9] {
    [
        ("written", ledger.written),
        ("filtered", ledger.filtered),
        ("dead-lettered", ledger.dead_lettered),
        ("discarded", ledger.discarded),
        ("expired", ledger.expired),
        ("repeats", ledger.repeats),
        ("returned", ledger.returned),
        ("dropped", ledger.dropped),
        (IN_FLIGHT, ledger.in_flight),
    ]
}

/// The route as the user calls it: with its namespace only where that tells routes apart.
pub(crate) fn name(route: &RouteStatus, routes: &[RouteStatus]) -> String {
    let namespaces: BTreeSet<&str> = routes.iter().map(|route| route.namespace.as_str()).collect();
    if namespaces.len() > 1 {
        format!("{}/{}", route.namespace, route.name)
    } else {
        route.name.clone()
    }
}

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

struct Columns<'a> {
    name_width: usize,
    name: Box<dyn Fn(&RouteStatus) -> String + 'a>,
    right: Vec<Column<'a>>,
    /// Whether the ledger stands in columns; otherwise it stands in a line below each route.
    ledger: bool,
}

const STATE_WIDTH: usize = 10;

fn columns(routes: &[RouteStatus], width: usize) -> Columns<'_> {
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
    Columns {
        name_width,
        name: Box::new(name),
        right,
        ledger,
    }
}

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

impl Columns<'_> {
    fn header(&self) -> Line {
        let mut text = format!("{:<1$}  {2:<3$}", "ROUTE", self.name_width, "STATE", STATE_WIDTH);
        for column in &self.right {
            text += &format!("  {:>1$}", column.title, column.width);
        }
        Line::styled(text, Style::Bold)
    }

    fn row(&self, route: &RouteStatus) -> Line {
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

fn problems(routes: &[RouteStatus], width: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    for route in routes {
        let name = name(route, routes);
        let style = if route.phase == Phase::Stopped {
            Style::Bad
        } else {
            Style::Warn
        };
        for problem in &route.problems {
            let text = format!("{name}: {:?}: {}", problem.reason, problem.message);
            for (i, piece) in wrap(&text, width.saturating_sub(2)).into_iter().enumerate() {
                let mark = if i == 0 { "! " } else { "  " };
                lines.push(Line::styled(mark, style).with(piece, style));
            }
        }
    }
    lines
}

#[cfg(test)]
pub(crate) mod tests;

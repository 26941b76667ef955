//! The live view as lines of text: which routes there are, how they do, where their messages went, what is wrong.
//! Pure: the same status and size give the same lines, never more or wider than the terminal.

mod columns;

use std::collections::BTreeSet;

use millrace_contract::Ledger;
use millrace_contract::status::{Phase, Problem, RouteStatus};

use super::text::{Line, Style, count, wrap};
use columns::Columns;

/// Columns and rows that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Columns.
    pub(crate) width: usize,
    /// Rows.
    pub(crate) height: usize,
}

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
    let columns = Columns::new(routes, size.width);
    let problems = problems(routes, size.width);
    let needed = 1 + routes.len() + problems.len();
    let ledgers: Vec<Vec<Line>> = routes
        .iter()
        .map(|route| ledger_lines(&route.ledger, size.width))
        .collect();
    let with_ledgers = !columns.ledger && needed + ledgers.iter().map(Vec::len).sum::<usize>() <= size.height;

    let for_problems = problems
        .len()
        .min(size.height.saturating_sub(1 + routes.len().min(size.height / 2)));
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

/// Each problem once, with the routes that have it.
fn problems(routes: &[RouteStatus], width: usize) -> Vec<Line> {
    let mut grouped: Vec<(&Problem, Style, Vec<String>)> = Vec::new();
    for route in routes {
        let style = if route.phase == Phase::Stopped {
            Style::Bad
        } else {
            Style::Warn
        };
        for problem in &route.problems {
            let name = name(route, routes);
            match grouped
                .iter_mut()
                .find(|(known, known_style, _)| *known == problem && *known_style == style)
            {
                Some((_, _, names)) => names.push(name),
                None => grouped.push((problem, style, vec![name])),
            }
        }
    }
    let lines = grouped.into_iter().flat_map(|(problem, style, names)| {
        let who = if names.len() > 1 && names.len() == routes.len() {
            "all routes".into()
        } else {
            names.join(", ")
        };
        let text = format!("{who}: {:?}: {}", problem.reason, problem.message);
        let pieces = wrap(&text, width.saturating_sub(2)).into_iter().enumerate();
        pieces.map(move |(i, piece)| Line::styled(if i == 0 { "! " } else { "  " }, style).with(piece, style))
    });
    lines.collect()
}

#[cfg(test)]
pub(crate) mod tests;

//! The live view as lines of text: which routes there are, how they do, where their messages went, what is wrong.
//! Pure: the same status and size give the same lines, never more or wider than the terminal.

pub(crate) mod columns;

use millrace_contract::Ledger;
use millrace_contract::status::{Phase, Problem, RouteStatus};

use super::fit::{self, Body, Note, notes};
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
    let row = |route: &RouteStatus| fit::Row {
        line: columns.row(route),
        details: if columns.ledger {
            Vec::new()
        } else {
            ledger_lines(&route.ledger, "", size.width)
        },
        urgent: !route.problems.is_empty(),
    };
    let body = Body {
        header: columns.header(),
        rows: routes.iter().map(row).collect(),
        notes: notes(problems(routes), routes.len(), size.width),
        hidden: 0,
    };
    body.lines(size)
}

/// The equation below a route with a remark, indented and in as many lines as it takes.
pub(crate) fn ledger_lines(ledger: &Ledger, remark: &str, width: usize) -> Vec<Line> {
    // What is in flight comes and goes; shown all the time it does not make the lines jump.
    let pieces = wrap(&(sum(ledger, true) + remark), width.saturating_sub(4));
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
pub(crate) fn buckets(ledger: &Ledger) -> [(&'static str, u64); 9] {
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
    let namespaces = routes.iter().map(|route| route.namespace.as_str());
    full_name(&route.namespace, &route.name, are_several(namespaces))
}

/// A name, with its namespace if that tells routes apart.
pub(crate) fn full_name(namespace: &str, name: &str, with_namespace: bool) -> String {
    if with_namespace {
        format!("{namespace}/{name}")
    } else {
        name.to_owned()
    }
}

/// Whether these are different namespaces.
pub(crate) fn are_several<'a>(mut namespaces: impl Iterator<Item = &'a str>) -> bool {
    namespaces
        .next()
        .is_some_and(|first| namespaces.any(|other| other != first))
}

fn problems(routes: &[RouteStatus]) -> Vec<Note> {
    let of = |route: &RouteStatus| {
        let style = if route.phase == Phase::Stopped {
            Style::Bad
        } else {
            Style::Warn
        };
        let who = name(route, routes);
        let note = move |problem: &Problem| Note {
            who: who.clone(),
            style,
            text: said(problem),
        };
        route.problems.iter().map(note).collect::<Vec<_>>()
    };
    routes.iter().flat_map(of).collect()
}

/// A problem in words, after the word that a program acts on.
pub(crate) fn said(problem: &Problem) -> String {
    format!("{:?}: {}", problem.reason, problem.message)
}

#[cfg(test)]
pub(crate) mod tests;

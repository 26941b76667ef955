//! The table of routes as lines of text. Pure.

mod columns;

use super::row::Row;
use super::seen::RouteSeen;
use crate::view::fit::{self, Body, Note, notes};
use crate::view::table::{Size, are_several, full_name, ledger_lines, said};
use crate::view::text::{Line, Style};
use columns::Columns;

/// The line with the titles.
const TITLES: usize = 1;

/// How many routes there is room for.
pub(crate) fn room(above: usize, below: usize, size: Size) -> usize {
    size.height.saturating_sub(above + below + TITLES)
}

/// The frame: `above`, the table, `below`. `hidden` routes have been left out before.
pub(crate) fn frame(
    above: &[Line],
    routes: &[RouteSeen],
    hidden: usize,
    below: &[Line],
    size: Size,
) -> Vec<Line> {
    let inner = Size {
        height: size.height.saturating_sub(above.len() + below.len()),
        ..size
    };
    let mut lines = above.to_vec();
    lines.extend(table(routes, hidden, inner));
    lines.extend_from_slice(below);
    lines.truncate(size.height);
    lines.into_iter().map(|line| line.cut(size.width)).collect()
}

fn table(routes: &[RouteSeen], hidden: usize, size: Size) -> Vec<Line> {
    let rows: Vec<Row> = routes.iter().map(Row::of).collect();
    let with_namespace = are_several(rows.iter().map(|row| row.namespace.as_str()));
    let columns = Columns::new(&rows, with_namespace, size.width);
    let shown = |row: &Row| fit::Row {
        line: columns.row(row),
        details: if columns.ledger || row.answered == 0 {
            Vec::new()
        } else {
            ledger_lines(&row.ledger, &row.of_workers(), size.width)
        },
        urgent: !said_of(row, with_namespace).is_empty(),
    };
    let about = rows.iter().flat_map(|row| said_of(row, with_namespace)).collect();
    let moves = rows.iter().flat_map(|row| moving(row, with_namespace));
    let body = Body {
        header: columns.header(),
        rows: rows.iter().map(shown).collect(),
        notes: notes(about, rows.len() + hidden, size.width)
            .into_iter()
            .chain(moves)
            .collect(),
        hidden,
    };
    body.lines(size)
}

/// What is the matter with a route, in words.
fn said_of(row: &Row, with_namespace: bool) -> Vec<Note> {
    let who = full_name(&row.namespace, &row.name, with_namespace);
    let style = if row.stopped { Style::Bad } else { Style::Warn };
    let note = |text: String| Note {
        who: who.clone(),
        style,
        text,
    };
    let silent = silences(row).into_iter().map(note);
    let message = row.message.iter().map(|message| note(message.clone()));
    let problems = row.problems.iter().map(|problem| note(said(problem)));
    message.chain(problems).chain(silent).collect()
}

/// `telemetry-worker-1 says nothing: no answer within 2 s`; workers with the same reason stand together.
fn silences(row: &Row) -> Vec<String> {
    let mut by_reason: Vec<(&str, Vec<&str>)> = Vec::new();
    for (worker, why) in &row.silent {
        match by_reason.iter_mut().find(|(known, _)| known == why) {
            Some((_, workers)) => workers.push(worker),
            None => by_reason.push((why, vec![worker])),
        }
    }
    let text = by_reason.into_iter().map(|(why, workers)| match workers[..] {
        [worker] => format!("{worker} says nothing: {why}"),
        [first, second] => format!("{first} and {second} say nothing: {why}"),
        [first, ..] => format!("{first} and {} others say nothing: {why}", workers.len() - 1),
        [] => String::new(),
    });
    text.collect()
}

fn moving(row: &Row, with_namespace: bool) -> Option<Line> {
    let who = full_name(&row.namespace, &row.name, with_namespace);
    let moving = row.moving.as_ref()?;
    Some(Line::styled(format!("  {who}: {moving}"), Style::Dim))
}

#[cfg(test)]
pub(crate) mod tests;

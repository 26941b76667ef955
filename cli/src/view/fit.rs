//! What of a table fits on a terminal.

use super::table::Size;
use super::text::{Line, Style, wrap};

/// A table before it is known what of it fits.
pub(crate) struct Body {
    /// The titles.
    pub(crate) header: Line,
    /// The rows.
    pub(crate) rows: Vec<Row>,
    /// What is to be known besides, below the rows.
    pub(crate) notes: Vec<Line>,
    /// Rows that were left out before.
    pub(crate) hidden: usize,
}

/// One row.
pub(crate) struct Row {
    /// The row.
    pub(crate) line: Line,
    /// More about it, for which there may be no room.
    pub(crate) details: Vec<Line>,
    /// It is left out last.
    pub(crate) urgent: bool,
}

impl Body {
    /// The lines. When the terminal's do not suffice, details go first, then rows that are not urgent, then notes.
    pub(crate) fn lines(self, size: Size) -> Vec<Line> {
        let Self {
            header,
            rows,
            notes,
            hidden,
        } = self;
        let rows_needed = rows.len() + usize::from(hidden > 0);
        let details: usize = rows.iter().map(|row| row.details.len()).sum();
        let with_details = 1 + rows_needed + notes.len() + details <= size.height;
        let for_notes = notes
            .len()
            .min(size.height.saturating_sub(1 + rows_needed.min(size.height / 2)));
        let for_rows = size.height.saturating_sub(1 + for_notes);

        let (rows, hidden) = fitting(rows, hidden, for_rows);
        let mut lines = vec![header];
        for row in rows {
            lines.push(row.line);
            lines.extend(row.details.into_iter().filter(|_| with_details));
        }
        if hidden > 0 {
            lines.push(Line::styled(format!("… and {hidden} more"), Style::Dim));
        }
        lines.extend(notes.into_iter().take(for_notes));
        lines
    }
}

/// The rows to show in so many lines, and how many are left out.
fn fitting(mut rows: Vec<Row>, hidden: usize, room: usize) -> (Vec<Row>, usize) {
    if rows.len() + usize::from(hidden > 0) <= room {
        return (rows, hidden);
    }
    let all = rows.len();
    rows.sort_by_key(|row| !row.urgent);
    rows.truncate(room.saturating_sub(1));
    let left_out = all - rows.len();
    (rows, hidden + left_out)
}

/// Something to be known of a route.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    /// The route, as the user calls it.
    pub(crate) who: String,
    /// How it stands out.
    pub(crate) style: Style,
    /// What.
    pub(crate) text: String,
}

/// Each text once, with the routes it is about, of `routes` there are.
pub(crate) fn notes(all: Vec<Note>, routes: usize, width: usize) -> Vec<Line> {
    let mut grouped: Vec<(String, Style, Vec<String>)> = Vec::new();
    for Note { who, style, text } in all {
        match grouped
            .iter_mut()
            .find(|(known, known_style, _)| *known == text && *known_style == style)
        {
            Some((_, _, names)) => names.push(who),
            None => grouped.push((text, style, vec![who])),
        }
    }
    let lines = grouped.into_iter().flat_map(|(text, style, names)| {
        let who = if names.len() > 1 && names.len() == routes {
            "all routes".into()
        } else {
            names.join(", ")
        };
        let pieces = wrap(&format!("{who}: {text}"), width.saturating_sub(2));
        let pieces = pieces.into_iter().enumerate();
        pieces.map(move |(i, piece)| Line::styled(if i == 0 { "! " } else { "  " }, style).with(piece, style))
    });
    lines.collect()
}

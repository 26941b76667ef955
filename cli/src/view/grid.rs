//! Columns of text, for whatever has rows.

use super::text::{Line, Style};

/// Columns between columns.
pub(crate) const GAP: usize = 2;

/// What stands in one place.
pub(crate) type Cell = (String, Style);

/// One column of a table with rows of `R`.
pub(crate) struct Column<'a, R> {
    title: &'static str,
    /// Columns of text. What is wider is cut on the left side, where text stands; figures are never cut.
    pub(crate) width: usize,
    side: Side,
    cell: Box<dyn Fn(&R) -> Cell + 'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Left,
    Right,
}

impl<'a, R> Column<'a, R> {
    /// Text.
    pub(crate) fn text(title: &'static str, width: usize, cell: impl Fn(&R) -> Cell + 'a) -> Self {
        Self {
            title,
            width,
            side: Side::Left,
            cell: Box::new(cell),
        }
    }

    /// Figures, as wide as its title and six columns at least.
    pub(crate) fn figures(title: &'static str, cell: impl Fn(&R) -> String + 'a) -> Self {
        Self {
            title,
            width: title.len().max(6),
            side: Side::Right,
            cell: Box::new(move |row| (cell(row), Style::Plain)),
        }
    }

    /// At least so wide.
    pub(crate) fn at_least(mut self, width: usize) -> Self {
        self.width = self.width.max(width);
        self
    }

    /// As wide as its widest cell needs.
    pub(crate) fn fitted<'r>(self, rows: impl IntoIterator<Item = &'r R>) -> Self
    where
        R: 'r,
    {
        let widest = rows
            .into_iter()
            .map(|row| (self.cell)(row).0.chars().count())
            .max();
        let widest = widest.unwrap_or_default().max(self.title.len());
        self.at_least(widest)
    }

    fn place(&self, line: Line, (text, style): Cell) -> Line {
        let width = self.width;
        match self.side {
            Side::Left => {
                let text = Line::plain(text).cut(width).render(false);
                line.with(format!("{text:<width$}"), style)
            }
            Side::Right => line.with(format!("{text:>width$}"), style),
        }
    }
}

/// How many columns of text these take, with a gap before each.
pub(crate) fn taken<R>(columns: &[Column<'_, R>]) -> usize {
    columns.iter().map(|column| GAP + column.width).sum()
}

/// The titles.
pub(crate) fn header<R>(columns: &[Column<'_, R>]) -> Line {
    let cells = columns
        .iter()
        .map(|column| (column, (column.title.to_owned(), Style::Bold)));
    placed(cells)
}

/// The cells of a row.
pub(crate) fn row<R>(columns: &[Column<'_, R>], row: &R) -> Line {
    placed(columns.iter().map(|column| (column, (column.cell)(row))))
}

fn placed<'c, 'a: 'c, R: 'c>(cells: impl Iterator<Item = (&'c Column<'a, R>, Cell)>) -> Line {
    cells.enumerate().fold(Line::new(), |line, (i, (column, cell))| {
        let gap = if i == 0 { 0 } else { GAP };
        column.place(line.with(" ".repeat(gap), Style::Plain), cell)
    })
}

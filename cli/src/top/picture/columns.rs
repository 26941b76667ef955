use crate::top::row::Row;
use crate::view::grid::{self, Column, GAP, taken};
use crate::view::table::columns::{LONGEST_NAME, SHORTEST_NAME, ledger_columns, or_dash, rate};
use crate::view::table::full_name;
use crate::view::text::{Line, Style, short_count};

/// Widest column of lanes and of states, where there is room; and where there is not.
const TEXT: (usize, usize) = (24, 12);

/// A marked time: `≥999 ms`.
const TIME: usize = 7;

/// The columns that fit, chosen for all rows together.
pub(super) struct Columns<'a> {
    columns: Vec<Column<'a, Row>>,
    /// Whether the ledger stands in columns; otherwise it stands in a line below each route.
    pub(super) ledger: bool,
}

impl<'a> Columns<'a> {
    pub(super) fn new(rows: &'a [Row], with_namespace: bool, width: usize) -> Self {
        let name = move |row: &Row| {
            let name = full_name(&row.namespace, &row.name, with_namespace);
            (name, Style::Plain)
        };
        let mut name = Column::text("ROUTE", SHORTEST_NAME, name).fitted(rows);
        let mut state = Column::text("STATE", 0, |row: &Row| row.state.clone()).fitted(rows);
        let mut lanes = Column::text("LANES", 0, |row: &Row| (row.lanes.clone(), Style::Plain)).fitted(rows);
        let figures = vec![
            Column::figures("RECEIVED/S", |row| at_least(row, &rate(row.received))),
            Column::figures("WRITTEN/S", |row| at_least(row, &rate(row.written))),
            Column::figures("LOAD", |row| at_least(row, &format!("{:.2}", row.load))),
            Column::figures("OLDEST", |row| at_least(row, &or_dash(row.oldest))).at_least(TIME),
        ];
        let figures: Vec<_> = figures.into_iter().map(|column| column.fitted(rows)).collect();

        name.width = name.width.min(LONGEST_NAME);
        (state.width, lanes.width) = (state.width.min(TEXT.0), lanes.width.min(TEXT.0));
        let left = |name: &Column<'_, Row>, state: &Column<'_, Row>, lanes: &Column<'_, Row>| {
            width.saturating_sub(name.width + state.width + lanes.width + 2 * GAP + taken(&figures))
        };
        if left(&name, &state, &lanes) == 0 {
            (state.width, lanes.width) = (state.width.min(TEXT.1), lanes.width.min(TEXT.1));
            let others = state.width + lanes.width + 2 * GAP + taken(&figures);
            name.width = name.width.min(width.saturating_sub(others)).max(SHORTEST_NAME);
        }
        let mut left = left(&name, &state, &lanes);
        let mut fits = |columns: &[Column<'_, Row>]| {
            let fits = taken(columns) <= left;
            left -= if fits { taken(columns) } else { 0 };
            fits
        };
        let more = [
            Column::figures("MOVES", |row: &Row| match row.moves {
                0 => "-".to_owned(),
                moves => moves.to_string(),
            }),
            Column::figures("IN FLIGHT", |row| {
                at_least(row, &short_count(row.ledger.in_flight))
            }),
            Column::figures("P99", |row| at_least(row, &or_dash(row.p99))).at_least(TIME),
        ];
        // The first that does not fit ends the table: figures keep their order at every width.
        let more: Vec<_> = more
            .into_iter()
            .map(|column| column.fitted(rows))
            .take_while(|column| fits(std::slice::from_ref(column)))
            .collect();
        let mut extra = ledger_columns(
            rows,
            |row: &Row| &row.ledger,
            |row, n| at_least(row, &short_count(n)),
        );
        extra.push(Column::figures("BALANCE", |row: &Row| match row.answered {
            0 => at_least(row, ""),
            _ => row.ledger.balance().to_string(),
        }));
        let extra: Vec<_> = extra.into_iter().map(|column| column.fitted(rows)).collect();
        let ledger = fits(&extra);

        let mut columns = vec![name, state];
        columns.extend(figures);
        columns.push(lanes);
        columns.extend(more);
        columns.extend(extra.into_iter().filter(|_| ledger));
        Self { columns, ledger }
    }

    pub(super) fn header(&self) -> Line {
        grid::header(&self.columns)
    }

    pub(super) fn row(&self, row: &Row) -> Line {
        grid::row(&self.columns, row)
    }
}

/// A sum that lacks a worker is marked.
fn at_least(row: &Row, figure: &str) -> String {
    match (row.answered, row.is_partial()) {
        (0, true) => "?".to_owned(),
        (0, false) => "-".to_owned(),
        (_, true) if figure != "-" => format!("≥{figure}"),
        _ => figure.to_owned(),
    }
}

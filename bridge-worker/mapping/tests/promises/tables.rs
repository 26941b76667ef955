//! Tables of a page of the documentation, whose examples are true.

/// A table with its header line, cells without the quotes of code.
struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

fn cells(line: &str) -> Vec<String> {
    let line = line.replace("\\|", "\u{1}");
    let cells = line.trim_matches('|').split('|').map(|cell| {
        let cell = cell.trim();
        let is_code = cell.len() > 1
            && cell.starts_with('`')
            && cell.ends_with('`')
            && !cell[1..cell.len() - 1].contains('`');
        if is_code { &cell[1..cell.len() - 1] } else { cell }.replace('\u{1}', "|")
    });
    cells.collect()
}

fn tables(page: &str) -> Vec<Table> {
    let mut tables: Vec<Table> = Vec::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with('|') && lines.peek().is_some_and(|next| next.starts_with("|---")) {
            lines.next();
            let mut rows = Vec::new();
            while let Some(row) = lines.next_if(|line| line.starts_with('|')) {
                rows.push(cells(row));
            }
            tables.push(Table {
                header: cells(line),
                rows,
            });
        }
    }
    tables
}

/// The rows of all tables of a page with this header line.
pub(crate) fn rows(page: &str, header: &[&str]) -> Vec<Vec<String>> {
    let rows: Vec<_> = tables(page)
        .into_iter()
        .filter(|table| table.header == header)
        .flat_map(|table| table.rows)
        .collect();
    assert!(!rows.is_empty(), "{header:?}");
    rows
}

/// The first block of YAML of a page.
pub(crate) fn example(page: &str) -> serde_yaml::Value {
    let start = page.find("```yaml\n").unwrap() + 8;
    let block = &page[start..start + page[start..].find("```").unwrap()];
    serde_yaml::from_str(block).unwrap()
}

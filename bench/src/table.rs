//! A markdown table that lines up on a terminal.

/// Renders `rows` under `heads`. Columns are as wide as their widest cell; the first two are left-aligned.
pub fn render(heads: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |column: usize| {
        rows.iter()
            .filter_map(move |row| row.get(column))
            .map(|cell| cell.chars().count())
    };
    let widths: Vec<usize> = heads
        .iter()
        .enumerate()
        .map(|(column, head)| {
            cells(column)
                .chain([head.chars().count(), 3])
                .max()
                .unwrap_or_default()
        })
        .collect();
    let line = |row: &[String]| {
        let cells = widths.iter().enumerate().map(|(column, width)| {
            let cell = row.get(column).map_or("", String::as_str);
            if column < 2 {
                format!(" {cell:<width$} ")
            } else {
                format!(" {cell:>width$} ")
            }
        });
        format!("|{}|\n", cells.collect::<Vec<_>>().join("|"))
    };
    let heads: Vec<String> = heads.iter().map(ToString::to_string).collect();
    let rules = widths.iter().enumerate().map(|(column, width)| {
        if column < 2 {
            "-".repeat(width + 2)
        } else {
            format!("{}:", "-".repeat(width + 1))
        }
    });
    let rule = format!("|{}|\n", rules.collect::<Vec<_>>().join("|"));
    line(&heads) + &rule + &rows.iter().map(|row| line(row)).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up_and_fills_missing_cells() {
        let rows = vec![vec!["a".into(), "long name".into(), "1".into()], vec!["b".into()]];
        assert_eq!(
            render(&["case", "figure", "value"], &rows),
            "| case | figure    | value |\n\
             |------|-----------|------:|\n\
             | a    | long name |     1 |\n\
             | b    |           |       |\n"
        );
    }
}

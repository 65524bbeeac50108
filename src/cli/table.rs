//! Tables for a person and for a spreadsheet.

/// Which way a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// Rows of as many cells as there are columns, one line each, aligned. Control characters, which could move a terminal's cursor, are shown as `�`.
pub(super) fn aligned(columns: &[Align], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(columns).map(|((cell, width), align)| match align {
            Align::Left => format!("{cell:width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn printable(cell: &str) -> String {
    cell.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// The same as CSV (RFC 4180).
///
/// Names come from callers' tokens, and a spreadsheet takes a cell for a formula where it begins with `=`, `+`, `-`, `@` or a tab: such a cell gets
/// a `'` in front.
pub(super) fn csv(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for row in rows {
        text.push_str(&row.iter().map(|cell| quoted(cell)).collect::<Vec<_>>().join(","));
        text.push_str("\r\n");
    }
    text
}

fn quoted(cell: &str) -> String {
    let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { "'" } else { "" };
    if guard.is_empty() && !cell.contains([',', '"', '\r', '\n']) {
        return cell.to_owned();
    }
    format!("\"{guard}{}\"", cell.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_no_cell_moves_the_cursor() {
        let rows = [row(&["TENANT", "CALLS"]), row(&["ünï", "7"]), row(&["a\u{1b}[2J", "12345678"])];
        assert_eq!(aligned(&[Align::Left, Align::Right], &rows), "TENANT     CALLS\nünï            7\na\u{fffd}[2J   12345678\n");
    }

    #[test]
    fn csv_is_quoted_and_no_cell_is_a_formula() {
        let rows = [row(&["a,b", "say \"x\"", "plain", ""]), row(&["=1+1", "@x", "-2", "a\r\nb"])];
        assert_eq!(csv(&rows), "\"a,b\",\"say \"\"x\"\"\",plain,\r\n\"'=1+1\",\"'@x\",\"'-2\",\"a\r\nb\"\r\n");
    }
}

//! Columns that line up.

use crate::escape::Escaped;

/// A table, printed in parts. Later parts keep to the columns of earlier ones. No cell is cut, so a
/// long last column runs over. Text of strangers is escaped, so that a row is one line.
pub(crate) struct Table {
    columns: Vec<(&'static str, Side)>,
    widths: Vec<usize>,
    rows: Vec<Vec<String>>,
}

/// The side of its column that a cell is aligned to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Side {
    Left,
    Right,
}

impl Table {
    pub(crate) fn new(columns: &[(&'static str, Side)]) -> Self {
        let head = columns.iter().map(|(name, _)| (*name).to_string()).collect();
        Self { columns: columns.to_vec(), widths: vec![0; columns.len()], rows: vec![head] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| Escaped(cell).to_string()).collect());
    }

    /// The lines of the rows that came since the last call. The head of the table comes first.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let rows = std::mem::take(&mut self.rows);
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let line = |row: Vec<String>| {
            let cells = row.iter().zip(&self.columns).zip(&self.widths);
            let line: String = cells
                .map(|((cell, (_, side)), width)| match side {
                    Side::Left => format!("{cell:width$}  "),
                    Side::Right => format!("{cell:>width$}  "),
                })
                .collect();
            line.trim_end().to_string()
        };
        rows.into_iter().map(line).collect()
    }

    /// The whole table, for use in other text.
    pub(crate) fn into_text(mut self) -> String {
        self.lines().into_iter().map(|line| line + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_is_cut() {
        let mut table = Table::new(&[("ID", Side::Right), ("WORD", Side::Left)]);
        table.row(["7".to_string(), "short".to_string()]);
        table.row(["1234".to_string(), "a much longer one".to_string()]);
        assert_eq!(table.lines(), ["  ID  WORD", "   7  short", "1234  a much longer one"]);
        table.row(["8".to_string(), "later".to_string()]);
        assert_eq!(table.lines(), ["   8  later"]);
    }

    #[test]
    fn a_line_break_in_a_cell_makes_no_row() {
        let mut table = Table::new(&[("ID", Side::Right), ("WORD", Side::Left)]);
        table.row(["7".to_string(), "short\n   8  forged".to_string()]);
        assert_eq!(table.lines().len(), 2);
    }
}

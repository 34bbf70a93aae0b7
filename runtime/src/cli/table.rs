//! Columns as kubectl prints them: no lines, three blanks between, upper-case
//! heads.

use crate::printable;

/// Rows below a head.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these heads.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            rows: vec![heads.iter().map(|head| (*head).to_owned()).collect()],
        }
    }

    /// Appends a row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows
            .push(cells.iter().map(|cell| printable(cell)).collect());
    }

    /// Appends a column: a cell for each row below the head.
    pub fn column(&mut self, head: &str, cells: impl Iterator<Item = String>) {
        let cells = std::iter::once(head.to_owned()).chain(cells);
        for (row, cell) in self.rows.iter_mut().zip(cells) {
            row.push(printable(&cell));
        }
    }

    /// Puts the rows below the head into the order of these places.
    pub fn arrange(&mut self, order: &[usize]) {
        let rows = order.iter().filter_map(|at| self.rows.get(at + 1)).cloned();
        let rows: Vec<_> = rows.collect();
        self.rows.truncate(1);
        self.rows.extend(rows);
    }

    /// The lines, each with `indent` blanks before it.
    pub fn lines(&self, indent: usize) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        self.rows
            .iter()
            .map(|row| {
                let mut line = " ".repeat(indent);
                for (cell, width) in row.iter().zip(&widths) {
                    line.push_str(cell);
                    line.push_str(&" ".repeat(width - cell.chars().count() + 3));
                }
                line.trim_end().to_owned()
            })
            .collect()
    }

    /// The lines, with something before each cell of one column.
    pub fn lines_named(&self, column: usize, prefix: &str) -> Vec<String> {
        let mut rows = self.rows.clone();
        for row in rows.iter_mut().skip(1) {
            if let Some(cell) = row.get_mut(column) {
                cell.insert_str(0, prefix);
            }
        }
        Self { rows }.lines(0)
    }

    /// Prints it.
    pub fn print(&self) {
        for line in self.lines(0) {
            say!("{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "AGE"]);
        table.row(vec!["a-long-name".into(), "5s".into()]);
        table.row(vec!["b\u{1b}[2J".into(), "10m".into()]);
        assert_eq!(
            table.lines(1),
            [
                " NAME          AGE",
                " a-long-name   5s",
                " b\u{fffd}[2J         10m"
            ]
        );
    }
}

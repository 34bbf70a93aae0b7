//! What `describe` prints: heads with values beside them, tables below.

use super::table::Table;
use crate::printable;
use std::collections::BTreeMap;

/// Blanks before what follows a head.
const WIDTH: usize = 18;

/// Lines of a description.
pub struct Page(pub Vec<String>);

impl Page {
    /// A line: the head, then its value.
    pub fn field(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        let head = format!("{}{name}:", " ".repeat(indent));
        let value = printable(value.as_ref());
        self.0.push(format!("{head:<WIDTH$} {value}"));
    }

    /// The same where there is a value.
    pub fn optional(&mut self, indent: usize, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.field(indent, name, value);
        }
    }

    /// A head with its first value beside it and the others below.
    pub fn list(&mut self, indent: usize, name: &str, values: &[String]) {
        self.field(
            indent,
            name,
            values.first().map_or("<none>", String::as_str),
        );
        for value in values.iter().skip(1) {
            self.0.push(format!("{:WIDTH$} {}", "", printable(value)));
        }
    }

    /// A head with the lines of a text below it.
    pub fn block(&mut self, indent: usize, name: &str, text: &str) {
        let blanks = " ".repeat(indent);
        self.0.push(format!("{blanks}{name}:"));
        let lines = text.lines();
        let lines = lines.map(|line| format!("{blanks}  {}", printable(line)));
        self.0.extend(lines);
    }

    /// A head alone, for what stands below it.
    pub fn head(&mut self, name: &str) {
        self.0.push(format!("{name}:"));
    }

    /// A head with a table below.
    pub fn table(&mut self, name: &str, table: &Table) {
        self.head(name);
        self.0.extend(table.lines(2));
    }
}

/// `KEY=VALUE` of each entry.
pub fn pairs(map: &BTreeMap<String, String>) -> Vec<String> {
    let entries = map.iter();
    entries
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

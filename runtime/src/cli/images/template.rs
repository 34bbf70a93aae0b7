//! `--format` of `images`, as docker and podman have it: the fields of Go's templates, and
//! nothing more of them.

use crate::cli::table::Table;
use crate::cli::template;
use serde_json::{Map, json};

/// An image under one of its names.
pub struct Line {
    /// Name without its tag.
    pub repository: String,
    /// `<none>` where it has none.
    pub tag: String,
    /// Of its manifest.
    pub digest: String,
    /// Of its configuration.
    pub id: String,
    /// When it was made, as it says itself.
    pub created_at: String,
    /// `3d ago`
    pub created: String,
    /// `1.9 MB`
    pub size: String,
}

/// A field: its name, the head of its column, and its value.
type Field = (&'static str, &'static str, fn(&Line) -> &str);

const FIELDS: [Field; 7] = [
    ("Repository", "REPOSITORY", |line| &line.repository),
    ("Tag", "TAG", |line| &line.tag),
    ("ID", "IMAGE ID", |line| &line.id),
    ("Digest", "DIGEST", |line| &line.digest),
    ("CreatedSince", "CREATED", |line| &line.created),
    ("CreatedAt", "CREATED AT", |line| &line.created_at),
    ("Size", "SIZE", |line| &line.size),
];

/// How a line is printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Begins with heads, in columns.
    is_table: bool,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Place in [`FIELDS`].
    Field(usize),
    /// `{{json .}}`
    Json,
}

impl Template {
    /// Reads one. Errors with what it may be.
    pub fn read(text: &str) -> Result<Self, String> {
        let (is_table, text) = match text.strip_prefix("table ") {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let none = || format!("it is json, yaml, wide or a template of {}", fields());
        let pieces = template::split(text, Piece::Text, piece)?.ok_or_else(none)?;
        Ok(Self { is_table, pieces })
    }

    /// Prints the lines.
    pub fn print(&self, lines: &[Line]) {
        if !self.is_table {
            for line in lines {
                say!("{}", self.of(|field| field.2(line), line));
            }
            return;
        }
        let cells = |text: String| -> Vec<String> { text.split('\t').map(str::to_owned).collect() };
        let heads = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Field(at) => FIELDS[*at].1,
            Piece::Json => "",
        });
        let heads = cells(heads.collect());
        let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
        let mut table = Table::new(&heads);
        for line in lines {
            table.row(cells(self.of(|field| field.2(line), line)));
        }
        table.print();
    }

    fn of<'l>(&self, value: impl Fn(&Field) -> &'l str, line: &Line) -> String {
        let piece = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Field(at) => value(&FIELDS[*at]).to_owned(),
            Piece::Json => object(line),
        };
        self.pieces.iter().map(piece).collect()
    }
}

fn object(line: &Line) -> String {
    let pairs = FIELDS
        .iter()
        .map(|(name, _, value)| ((*name).to_owned(), json!(value(line))));
    json!(pairs.collect::<Map<_, _>>()).to_string()
}

fn piece(action: &str) -> Result<Piece, String> {
    if action == "json ." {
        return Ok(Piece::Json);
    }
    let name = action.strip_prefix('.').unwrap_or_default();
    // As podman's columns are called.
    let name = if name == "Created" {
        "CreatedSince"
    } else {
        name
    };
    let found = FIELDS.iter().position(|(field, ..)| *field == name);
    found
        .map(Piece::Field)
        .ok_or_else(|| format!("{{{{{action}}}}} is not among {}", fields()))
}

fn fields() -> String {
    let names = FIELDS.iter().map(|(name, ..)| format!("{{{{.{name}}}}}"));
    let names: Vec<String> = names.collect();
    format!("{} and {{{{json .}}}}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        Line {
            repository: "busybox".into(),
            tag: "1".into(),
            digest: "sha256:d".into(),
            id: "b56a".into(),
            created_at: "2026-01-01T00:00:00Z".into(),
            created: "3d ago".into(),
            size: "1.9 MB".into(),
        }
    }

    fn print(text: &str) -> String {
        let line = line();
        Template::read(text)
            .unwrap()
            .of(|field| field.2(&line), &line)
    }

    #[test]
    fn fields_stand_where_the_template_has_them() {
        assert_eq!(print("{{.Repository}}:{{ .Tag }}"), "busybox:1");
        assert_eq!(print(r"{{.ID}}\t{{.Created}}!"), "b56a\t3d ago!");
        assert_eq!(print(r"table {{.ID}}\t{{.Size}}"), "b56a\t1.9 MB");
        let value: serde_json::Value = serde_json::from_str(&print("{{json .}}")).unwrap();
        assert_eq!(value["Digest"], "sha256:d");
    }

    #[test]
    fn what_is_no_template_names_those_that_are() {
        for (text, why) in [
            (
                "csv",
                "it is json, yaml, wide or a template of {{.Repository}}, {{.Tag}}",
            ),
            ("{{.Nme}}", "{{.Nme}} is not among {{.Repository}}, "),
            ("{{range .}}", "{{range .}} is not among "),
            ("{{.ID", "{{.ID has no }}"),
        ] {
            let error = Template::read(text).unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }
}

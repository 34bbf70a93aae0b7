//! `-o`: how objects are printed.

use crate::cli::jsonpath::{Path, Template, shown};
use crate::cli::table::Table;
use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};
use serde_json::Value;
use std::ffi::OsStr;

/// How objects are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Columns, more of them.
    Wide,
    /// The objects.
    Json,
    /// The objects.
    Yaml,
    /// `pod/NAME`
    Name,
    /// What a template makes of them.
    Template(Template),
    /// Columns by choice.
    Columns(Columns),
}

/// Columns of a table, each with a head and where its cells are in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns(Vec<(String, Path)>);

impl Columns {
    /// `NAME:.metadata.name,IP:.status.podIP`
    fn read(text: &str) -> Result<Self, String> {
        let column = |part: &str| {
            let (head, path) = part
                .split_once(':')
                .filter(|(head, path)| !head.is_empty() && !path.is_empty())
                .ok_or_else(|| format!("{part:?} is not HEAD:PATH"))?;
            Ok((head.to_owned(), Path::relaxed(path)?))
        };
        text.split(',')
            .map(column)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Prints a line for each object.
    pub fn print<'v>(&self, objects: impl Iterator<Item = &'v Value>, no_headers: bool) {
        let heads: Vec<&str> = self.0.iter().map(|(head, _)| head.as_str()).collect();
        let mut table = Table::new(&heads);
        for object in objects {
            let cell = |(_, path): &(String, Path)| {
                let values: Vec<String> = path.of(object).into_iter().map(shown).collect();
                if values.is_empty() {
                    "<none>".to_owned()
                } else {
                    values.join(",")
                }
            };
            table.row(self.0.iter().map(cell).collect());
        }
        for line in table.lines(0).iter().skip(usize::from(no_headers)) {
            say!("{line}");
        }
    }
}

/// Reads what stands behind `-o`.
#[derive(Debug, Clone, Copy)]
pub struct Formats;

const WORDS: [(&str, &str); 6] = [
    ("wide", "More columns"),
    ("json", "The objects"),
    ("yaml", "The objects"),
    ("name", "TYPE/NAME"),
    (
        "jsonpath=",
        "What kubectl's template makes of them: jsonpath='{.items[*].metadata.name}'",
    ),
    (
        "custom-columns=",
        "Columns by choice: custom-columns=NAME:.metadata.name,IP:.status.podIP",
    ),
];

fn read(text: &str) -> Option<Result<Output, String>> {
    Some(match text.split_once('=') {
        None => Ok(match text {
            "wide" => Output::Wide,
            "json" => Output::Json,
            "yaml" => Output::Yaml,
            "name" => Output::Name,
            _ => return None,
        }),
        Some(("jsonpath", template)) => Template::read(template).map(Output::Template),
        Some(("custom-columns", columns)) => Columns::read(columns).map(Output::Columns),
        Some(_) => return None,
    })
}

impl TypedValueParser for Formats {
    type Value = Output;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Output, clap::Error> {
        let text = StringValueParser::new().parse_ref(command, arg, value)?;
        let argument = arg.map(ToString::to_string).unwrap_or_default();
        match read(&text) {
            Some(Ok(output)) => Ok(output),
            Some(Err(why)) => {
                let why = format!("invalid value '{text}' for '{argument}': {why}\n");
                Err(clap::Error::raw(ErrorKind::ValueValidation, why).with_cmd(command))
            }
            None => {
                let mut error = clap::Error::new(ErrorKind::InvalidValue).with_cmd(command);
                let words = WORDS.iter().map(|(word, _)| (*word).to_owned()).collect();
                error.insert(ContextKind::InvalidArg, ContextValue::String(argument));
                error.insert(ContextKind::InvalidValue, ContextValue::String(text));
                error.insert(ContextKind::ValidValue, ContextValue::Strings(words));
                Err(error)
            }
        }
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let words = WORDS.iter();
        Some(Box::new(
            words.map(|(word, help)| PossibleValue::new(*word).help(*help)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read() {
        assert_eq!(read("wide"), Some(Ok(Output::Wide)));
        assert!(matches!(
            read("jsonpath={.a}"),
            Some(Ok(Output::Template(_)))
        ));
        assert!(matches!(
            read("custom-columns=A:.a,B:b.c[0]"),
            Some(Ok(Output::Columns(_)))
        ));
        assert!(matches!(read("custom-columns=A"), Some(Err(_))));
        assert_eq!(read("xml"), None);
        assert_eq!(read("go-template=x"), None);
    }
}

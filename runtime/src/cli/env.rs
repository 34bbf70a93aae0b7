//! `--env`, as podman and docker have it.

use super::CliError;
use super::error::UsageError;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// `NAME=VALUE`, or `NAME` with its value here; none here is none there.
pub fn variable(text: &str) -> Result<Option<(String, String)>, CliError> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, std::env::var(text).ok()),
    };
    if name.is_empty() {
        let why =
            "the name is missing; it is written NAME=VALUE, or NAME to take the value from here";
        return Err(UsageError::flag("--env", text, why).into());
    }
    Ok(value.map(|value| (name.to_owned(), value)))
}

/// The same of many, as a container's manifest has them; those of files first, and none of them
/// that has another value here.
pub fn objects(texts: &[String], files: &[PathBuf]) -> Result<Vec<Value>, CliError> {
    let mut all = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|source| CliError::read(file, source))?;
        all.extend(of_file(file, &text)?);
    }
    for text in texts {
        all.extend(variable(text)?);
    }
    let mut out: Vec<(String, String)> = Vec::new();
    for (name, value) in all {
        out.retain(|(before, _)| *before != name);
        out.push((name, value));
    }
    let objects = out.into_iter();
    let objects = objects.map(|(name, value)| json!({"name": name, "value": value}));
    Ok(objects.collect())
}

/// A variable to a line, with comments and empty lines between, as docker reads it.
fn of_file(file: &Path, text: &str) -> Result<Vec<(String, String)>, CliError> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            let place = format!("{}:{}", file.display(), at + 1);
            let why = format!("{line:?} is not NAME=VALUE, or NAME to take the value from here");
            return Err(UsageError::flag("--env-file", &place, why).into());
        }
        found.extend(variable(line)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_a_value_of_its_own_or_from_here() {
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(variable("A=b=c").unwrap(), pair("A", "b=c"));
        assert_eq!(variable("A=").unwrap(), pair("A", ""));
        assert_eq!(variable("BELUGA_NO_SUCH_VARIABLE").unwrap(), None);
        let home = std::env::var("PATH").unwrap();
        assert_eq!(variable("PATH").unwrap(), pair("PATH", &home));
        for text in ["", "=", "=x"] {
            let error = variable(text).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("--env {text:?}: the name is missing")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_has_a_variable_to_a_line() {
        let text = "# of the shop\n\nA=b=c # no comment\n  B= x\nBELUGA_NO_SUCH_VARIABLE\n";
        let read = of_file(Path::new("shop.env"), text).unwrap();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(read, [pair("A", "b=c # no comment"), pair("B", " x")]);
        for line in ["=x", "export A=b"] {
            let text = format!("A=b\n{line}\n");
            let error = of_file(Path::new("shop.env"), &text).unwrap_err();
            let error = error.to_string();
            let place = format!("--env-file \"shop.env:2\": {line:?} is not NAME=VALUE");
            assert!(error.starts_with(&place), "{error}");
        }
    }
}

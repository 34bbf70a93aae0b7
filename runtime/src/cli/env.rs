//! `--env`, as podman and docker have it.

use super::CliError;
use super::error::UsageError;
use serde_json::{Value, json};

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

/// The same of many, as a container's manifest has them.
pub fn objects(texts: &[String]) -> Result<Vec<Value>, CliError> {
    let mut out = Vec::new();
    for text in texts {
        let variable = variable(text)?;
        out.extend(variable.map(|(name, value)| json!({"name": name, "value": value})));
    }
    Ok(out)
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
}

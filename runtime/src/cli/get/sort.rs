//! `--sort-by`: objects in the order of one of their fields, as kubectl has it.

use super::Found;
use crate::cli::CliError;
use crate::cli::error::UsageError;
use crate::cli::jsonpath::Path;
use crate::spec::Quantity;
use serde_json::Value;
use std::cmp::Ordering;

/// Where the field is, and how that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SortBy {
    text: String,
    path: Path,
}

/// Reads what stands behind `--sort-by`: `.metadata.name`, with braces or without.
pub fn read(text: &str) -> Result<SortBy, String> {
    let path = Path::relaxed(text)?;
    let text = text.to_owned();
    Ok(SortBy { text, path })
}

impl SortBy {
    /// The places of objects in the order of the field; those without it come first. Errors
    /// where none has it.
    pub fn order(&self, objects: &[Value]) -> Result<Vec<usize>, CliError> {
        let keys: Vec<Option<&Value>> = objects
            .iter()
            .map(|object| self.path.of(object).first().copied())
            .collect();
        if !objects.is_empty() && keys.iter().all(Option::is_none) {
            let why = "none of what is listed has such a field";
            return Err(UsageError::flag("--sort-by", &self.text, why).into());
        }
        let mut order: Vec<usize> = (0..objects.len()).collect();
        order.sort_by(|one, other| match (keys[*one], keys[*other]) {
            (Some(one), Some(other)) => compare(one, other),
            (one, other) => one.is_some().cmp(&other.is_some()),
        });
        Ok(order)
    }

    /// Puts what was found in that order, each type by itself.
    pub fn sort(&self, found: &mut [Found]) -> Result<(), CliError> {
        let all: Vec<Value> = found.iter().flat_map(|one| one.objects.clone()).collect();
        self.order(&all)?;
        for one in found {
            let Ok(order) = self.order(&one.objects) else {
                // None of this type has it, and one of another type does.
                continue;
            };
            one.names = order.iter().map(|at| one.names[*at].clone()).collect();
            one.objects = order.iter().map(|at| one.objects[*at].clone()).collect();
            one.table.arrange(&order);
        }
        Ok(())
    }
}

/// Numbers and amounts by their size, texts as people count: `web-2` before `web-10`.
fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => {
            let pair = one.as_f64().zip(other.as_f64());
            pair.and_then(|(one, other)| one.partial_cmp(&other))
                .unwrap_or(Ordering::Equal)
        }
        (Value::Bool(one), Value::Bool(other)) => one.cmp(other),
        (Value::String(one), Value::String(other)) => {
            match (Quantity::parse(one), Quantity::parse(other)) {
                (Ok(one), Ok(other)) => one.cmp(&other),
                _ => natural(one, other),
            }
        }
        (one, other) => one.to_string().cmp(&other.to_string()),
    }
}

/// The order of two texts in which digits that stand together are a number.
fn natural(one: &str, other: &str) -> Ordering {
    let (mut left, mut right) = (one, other);
    loop {
        let (a, b) = (number(left), number(right));
        let order = match (a, b) {
            (Some((a, _)), Some((b, _))) => (a.len(), a).cmp(&(b.len(), b)),
            _ => left.chars().next().cmp(&right.chars().next()),
        };
        if order.is_ne() || left.is_empty() {
            return order;
        }
        match (a, b) {
            (Some((_, after)), Some((_, other_after))) => (left, right) = (after, other_after),
            _ => (left, right) = (rest(left), rest(right)),
        }
    }
}

fn rest(text: &str) -> &str {
    let mut chars = text.chars();
    chars.next();
    chars.as_str()
}

/// The number at the beginning of a text without its zeros in front, and what follows.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit());
    let (digits, after) = text.split_at(end.unwrap_or(text.len()));
    (!digits.is_empty()).then(|| (digits.trim_start_matches('0'), after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn order(path: &str, objects: &[Value]) -> Vec<usize> {
        read(path).unwrap().order(objects).unwrap()
    }

    #[test]
    fn a_field_gives_the_order() {
        let one = |name: &str, restarts: u32| json!({"name": name, "restarts": restarts});
        let pods = [one("web-10", 2), one("web-2", 10), one("db", 3)];
        assert_eq!(order(".name", &pods), [2, 1, 0]);
        assert_eq!(order("{.restarts}", &pods), [0, 2, 1]);
        let sizes = [json!({"s": "1Gi"}), json!({"s": "200Mi"}), json!({})];
        assert_eq!(order("s", &sizes), [2, 1, 0]);
        let numbers = [
            json!({"s": "a007"}),
            json!({"s": "a7b"}),
            json!({"s": "a6"}),
        ];
        assert_eq!(order("s", &numbers), [2, 0, 1]);
        assert_eq!(order("s", &[]), [0; 0]);
    }

    #[test]
    fn a_field_that_nothing_has_is_an_error() {
        let wrong = read(".metadata.nme").unwrap().order(&[json!({})]);
        let said = "--sort-by \".metadata.nme\": none of what is listed has such a field";
        assert_eq!(wrong.unwrap_err().to_string(), said);
        assert!(read(".items[").is_err());
    }
}

//! Label selectors, as `-l` takes them: `app=web,tier!=db,env in (a,b),!old`.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What a pod's labels must be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    operator: Operator,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Operator {
    Exists,
    Absent,
    In(Vec<String>),
    /// A pod without the label is chosen as well.
    NotIn(Vec<String>),
}

/// Why a selector cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{part:?} is none of KEY, !KEY, KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A,B)")]
pub struct SelectorError {
    part: String,
}

impl Selector {
    /// Whether labels are as the selector wants them.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::Exists => value.is_some(),
                Operator::Absent => value.is_none(),
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            }
        })
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        parts(text)
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(requirement)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

/// Splits at the commas that are not in parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0u32);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    parts
}

fn requirement(part: &str) -> Result<Requirement, SelectorError> {
    let error = || SelectorError {
        part: part.to_owned(),
    };
    let (key, operator) = if let Some((key, value)) = part.split_once("!=") {
        (key, Operator::NotIn(vec![value.trim().to_owned()]))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        (key, Operator::In(vec![value.trim().to_owned()]))
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Operator::Absent)
    } else if let Some((head, list)) = part.split_once('(') {
        let list = list.trim_end().strip_suffix(')').ok_or_else(error)?;
        let values = list.split(',').map(|value| value.trim().to_owned());
        let (key, word) = head.trim_end().rsplit_once(' ').ok_or_else(error)?;
        match word {
            "in" => (key, Operator::In(values.collect())),
            "notin" => (key, Operator::NotIn(values.collect())),
            _ => return Err(error()),
        }
    } else {
        (part, Operator::Exists)
    };
    let key = key.trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    if key.is_empty() || !key.chars().all(is_key) {
        return Err(error());
    }
    Ok(Requirement {
        key: key.to_owned(),
        operator,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        selector.parse::<Selector>().unwrap().matches(&labels)
    }

    #[test]
    fn selectors_choose_as_kubectl_does() {
        let web = [("app", "web"), ("tier", "front")];
        for (selector, chosen) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=web,tier=back", false),
            ("app!=web", false),
            ("other!=web", true),
            ("app in (api, web)", true),
            ("app in (api),tier in (front)", false),
            ("app notin (api,db)", true),
            ("other notin (x)", true),
            ("app", true),
            ("!app", false),
            ("!other", true),
        ] {
            assert_eq!(matches(selector, &web), chosen, "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_told() {
        for bad in ["=a", "a b", "a in b", "a in (b", "a near (b)", "a~b"] {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
    }
}

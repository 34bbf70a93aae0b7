//! Field selectors, as `--field-selector` takes them: `status.phase=Running,metadata.name!=web`.

use serde_json::Value;
use std::str::FromStr;

/// The fields of a pod that choose, of those that kubectl's servers know.
const KNOWN: [&str; 5] = [
    "metadata.name",
    "metadata.namespace",
    "spec.restartPolicy",
    "status.phase",
    "status.podIP",
];

/// What a pod's fields must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    /// Where it is in the object (RFC 6901).
    pointer: String,
    value: String,
    is_equal: bool,
}

impl Fields {
    /// Whether an object is as the selector wants it. A field that is not there is empty.
    pub fn match_object(&self, object: &Value) -> bool {
        self.0.iter().all(|one| {
            let found = object.pointer(&one.pointer).and_then(Value::as_str);
            (found.unwrap_or_default() == one.value) == one.is_equal
        })
    }
}

impl FromStr for Fields {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').filter(|part| !part.trim().is_empty());
        parts.map(requirement).collect::<Result<_, _>>().map(Self)
    }
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let split = ["!=", "==", "="]
        .iter()
        .find_map(|sign| Some((*sign, part.split_once(sign)?)));
    let Some((sign, (field, value))) = split else {
        return Err(format!("{part:?} is neither FIELD=VALUE nor FIELD!=VALUE"));
    };
    let field = field.trim();
    if !KNOWN.contains(&field) {
        let known = KNOWN.join(", ");
        return Err(format!(
            "{field:?} is none of the fields that choose: {known}"
        ));
    }
    Ok(Requirement {
        pointer: format!("/{}", field.replace('.', "/")),
        value: value.trim().to_owned(),
        is_equal: sign != "!=",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pods_are_chosen_by_fields_as_kubectls_servers_choose_them() {
        let pod = json!({"metadata": {"name": "web"}, "status": {"phase": "Running"}});
        for (text, chosen) in [
            ("", true),
            ("status.phase=Running", true),
            ("status.phase==Running,metadata.name=web", true),
            ("status.phase!=Running", false),
            ("status.phase=Failed", false),
            ("metadata.name!=db, status.phase=Running", true),
            ("status.podIP=", true),
        ] {
            let fields: Fields = text.parse().unwrap();
            assert_eq!(fields.match_object(&pod), chosen, "{text}");
        }
        for bad in ["status.phase", "spec.nodeName=a", "=x"] {
            assert!(bad.parse::<Fields>().is_err(), "{bad}");
        }
    }
}

//! Variables whose values are known only when their container starts, because a
//! file in one of the pod's volumes has them (`fileKeyRef`).
//!
//! Until then a placeholder stands in every text that names one: NUL, its place
//! in [`ContainerSpec::file_variables`](crate::ContainerSpec::file_variables), NUL.
//! Neither an argument nor a variable can hold a NUL, so that none is mistaken
//! for one.

use serde::{Deserialize, Serialize};

/// A variable that a file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVariable {
    /// Its name in the container.
    pub name: String,
    /// The volume.
    pub volume: String,
    /// The file, relative to the volume's root.
    pub path: String,
    /// Its name in the file.
    pub key: String,
    /// Whether the file may lack it, or not be there: there is no variable then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

const MARK: char = '\0';

/// What stands for the value of the variable at `place` of the list.
#[must_use]
pub fn placeholder(place: usize) -> String {
    format!("{MARK}{place}{MARK}")
}

/// Whether a text waits for a value.
#[must_use]
pub fn is_waiting(text: &str) -> bool {
    text.contains(MARK)
}

/// The text with its values: `values` has one for each variable of the list, and
/// none for those that their files lack. What names one of these stays as the
/// manifest wrote it, `$(NAME)`.
#[must_use]
pub fn fill(text: &str, variables: &[FileVariable], values: &[Option<String>]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut parts = text.split(MARK);
    out.push_str(parts.next().unwrap_or_default());
    while let Some(place) = parts.next() {
        let place: Option<usize> = place.parse().ok();
        let variable = place.and_then(|place| variables.get(place).zip(values.get(place)));
        match variable {
            Some((_, Some(value))) => out.push_str(value),
            Some((variable, None)) => {
                out.push_str("$(");
                out.push_str(&variable.name);
                out.push(')');
            }
            None => {}
        }
        out.push_str(parts.next().unwrap_or_default());
    }
    out
}

/// The lines of an environment (`NAME=value`) with their values, each name once:
/// a variable that its file has takes the place of one of its name, and one that
/// its file lacks leaves that as it is.
#[must_use]
pub fn fill_lines(
    lines: &[String],
    variables: &[FileVariable],
    values: &[Option<String>],
) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(lines.len());
    for line in lines {
        let (name, text) = line.split_once('=').unwrap_or((line, ""));
        let own = variables
            .iter()
            .enumerate()
            .position(|(place, one)| one.name == name && text == placeholder(place));
        if own.is_some_and(|place| values.get(place).is_none_or(Option::is_none)) {
            continue;
        }
        let filled = fill(line, variables, values);
        let is_same = |known: &String| {
            let rest = known.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with('='))
        };
        match out.iter_mut().find(|known| is_same(known)) {
            Some(known) => *known = filled,
            None => out.push(filled),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> FileVariable {
        FileVariable {
            name: name.into(),
            volume: "v".into(),
            path: "p".into(),
            key: "K".into(),
            optional: true,
        }
    }

    #[test]
    fn values_take_the_place_of_their_placeholders() {
        let variables = [variable("A"), variable("B")];
        let values = [Some("1\n2".to_owned()), None];
        let text = format!("x{}y{}z", placeholder(0), placeholder(1));
        assert_eq!(fill(&text, &variables, &values), "x1\n2y$(B)z");
        assert_eq!(fill("as it is", &variables, &values), "as it is");
        // Nobody writes these; they are no reason to panic.
        assert_eq!(fill("a\09\0b\0c", &variables, &values), "ab");
        assert_eq!(fill("\0", &variables, &[]), "");
    }

    #[test]
    fn what_a_file_lacks_leaves_the_image_s_value() {
        let variables = [variable("A"), variable("PATH")];
        let lines = [
            "PATH=/bin".to_owned(),
            "A=old".to_owned(),
            format!("A={}", placeholder(0)),
            format!("PATH={}", placeholder(1)),
            format!("C={}", placeholder(1)),
        ];
        let filled = fill_lines(&lines, &variables, &[Some("new".into()), None]);
        assert_eq!(filled, ["PATH=/bin", "A=new", "C=$(PATH)"]);
    }
}

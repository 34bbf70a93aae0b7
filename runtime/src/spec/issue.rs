//! What is wrong with a manifest, and where.

use std::fmt;

/// A place in a text, counted from 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Issue {
    /// Where in the text.
    pub at: Position,
    /// Field path (`spec.containers[0].image`); empty when it is about no field.
    pub path: String,
    /// What, in one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.at.line, self.at.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Most issues of a manifest that are printed.
pub const SHOWN_ISSUES: usize = 20;

/// A manifest that is refused, with all that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// File name, or `standard input`.
    pub source_name: String,
    /// At least one, in the order of the text.
    pub issues: Vec<Issue>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.source_name;
        if let [only] = self.issues.as_slice() {
            return write!(f, "{name}:{only}");
        }
        write!(f, "{name} has {} errors", self.issues.len())?;
        for issue in self.issues.iter().take(SHOWN_ISSUES) {
            write!(f, "\n  {name}:{issue}")?;
        }
        match self.issues.len().saturating_sub(SHOWN_ISSUES) {
            0 => Ok(()),
            more => write!(f, "\n  … and {more} more"),
        }
    }
}

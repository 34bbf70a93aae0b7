//! Colours, where a person looks: not in a pipe, not with NO_COLOR.

use anstyle::{AnsiColor, Style as Ansi};
use std::ffi::OsStr;
use std::io::IsTerminal as _;

/// Colours of containers, in the order in which the pod lists them.
const PREFIXES: [AnsiColor; 6] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Magenta,
    AnsiColor::Green,
    AnsiColor::Blue,
    AnsiColor::BrightRed,
];

/// Whether one of the two output streams is coloured.
#[derive(Debug, Clone, Copy)]
pub struct Style {
    on: bool,
}

impl Style {
    /// For standard output.
    pub fn stdout() -> Self {
        Self::when(std::io::stdout().is_terminal())
    }

    /// For standard error.
    pub fn stderr() -> Self {
        Self::when(std::io::stderr().is_terminal())
    }

    fn when(terminal: bool) -> Self {
        let (no_color, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
        Self::of(terminal, no_color.as_deref(), term.as_deref())
    }

    /// By what the variables of that name say (<https://no-color.org>).
    pub(super) fn of(terminal: bool, no_color: Option<&OsStr>, term: Option<&OsStr>) -> Self {
        let plain = no_color.is_some_and(|value| !value.is_empty())
            || term.is_some_and(|term| term == "dumb");
        Self {
            on: terminal && !plain,
        }
    }

    fn paint(self, ansi: Ansi, text: &str) -> String {
        if self.on {
            format!("{ansi}{text}{ansi:#}")
        } else {
            text.to_owned()
        }
    }

    /// Wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint(AnsiColor::Red.on_default().bold(), text)
    }

    /// Worth a look.
    pub fn warn(self, text: &str) -> String {
        self.paint(AnsiColor::Yellow.on_default(), text)
    }

    /// As it should be.
    pub fn good(self, text: &str) -> String {
        self.paint(AnsiColor::Green.on_default(), text)
    }

    /// Beside the point.
    pub fn dim(self, text: &str) -> String {
        self.paint(Ansi::new().dimmed(), text)
    }

    /// The prefix of the container at this place in the pod.
    pub fn prefix(self, at: usize, text: &str) -> String {
        self.paint(PREFIXES[at % PREFIXES.len()].on_default(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        for (terminal, no_color, term, on) in [
            (true, None, None, true),
            (true, Some(""), Some("xterm"), true),
            (true, Some("1"), None, false),
            (true, None, Some("dumb"), false),
            (false, None, Some("xterm"), false),
        ] {
            let style = Style::of(terminal, no_color.map(OsStr::new), term.map(OsStr::new));
            assert_eq!(style.prefix(0, "x") != "x", on, "{no_color:?} {term:?}");
        }
    }
}

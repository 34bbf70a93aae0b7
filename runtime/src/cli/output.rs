//! What containers print, onto the terminal: whole lines, each with its
//! container's prefix where there are several.

use super::CliError;
use super::style::Style;
use super::tailing::Line;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

/// The first error of writing to standard output.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes to standard output. What goes wrong is [`finish`]'s to tell.
pub fn write(text: fmt::Arguments<'_>) {
    if let Err(error) = io::stdout().write_fmt(text) {
        FAILED
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
    }
}

/// Whether nobody reads standard output any more.
pub fn is_unread() -> bool {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    failed.as_ref().is_some_and(reader_gone)
}

/// Writes what is left. Output that is lost, on a full disk for one, makes a
/// command fail; a reader that has seen enough does not.
pub fn finish() -> Result<(), CliError> {
    let flushed = io::stdout().flush();
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    match failed.take().or(flushed.err()) {
        Some(error) if !reader_gone(&error) => Err(CliError::io("write the output", error)),
        _ => Ok(()),
    }
}

/// How lines are printed.
pub struct Printer {
    /// Time before each line.
    pub timestamps: bool,
    /// Container before each line, as standard output and standard error have it.
    prefix: Option<[String; 2]>,
    /// Errors of the container go to our standard error.
    pub split: bool,
    inside: bool,
}

impl Printer {
    /// A printer with a word in the container's colour before each line, or none.
    pub fn new(timestamps: bool, prefix: Option<(&str, usize)>, split: bool) -> Self {
        Self::styled(
            [Style::stdout(), Style::stderr()],
            timestamps,
            prefix,
            split,
        )
    }

    /// The same; one of the two streams may lead to a terminal and the other not.
    fn styled(
        styles: [Style; 2],
        timestamps: bool,
        prefix: Option<(&str, usize)>,
        split: bool,
    ) -> Self {
        let of = |(name, at)| styles.map(|style| format!("{} ", style.prefix(at, name)));
        Self {
            timestamps,
            prefix: prefix.map(of),
            split,
            inside: false,
        }
    }

    /// Prints a piece; its end of line comes with the last one.
    pub fn print(&mut self, line: &Line) -> io::Result<()> {
        let bytes = self.bytes(line);
        if self.is_error(line) {
            io::stderr().write_all(&bytes)
        } else {
            io::stdout().write_all(&bytes)
        }
    }

    /// Whether a piece goes to our standard error.
    fn is_error(&self, line: &Line) -> bool {
        self.split && line.error
    }

    fn bytes(&mut self, line: &Line) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(line.text.len() + 40);
        if !self.inside {
            let prefix = self.prefix.as_ref();
            let prefix = prefix.map(|of| &of[usize::from(self.is_error(line))]);
            bytes.extend(prefix.iter().flat_map(|prefix| prefix.bytes()));
            if self.timestamps {
                bytes.extend(line.time.bytes());
                bytes.push(b' ');
            }
        }
        bytes.extend(&line.text);
        if !line.partial {
            bytes.push(b'\n');
        }
        self.inside = line.partial;
        bytes
    }
}

/// Whether printing failed only because nobody reads any more.
pub fn reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn styles(terminals: [bool; 2]) -> [Style; 2] {
        terminals.map(|terminal| Style::of(terminal, None, None))
    }

    fn line(text: &str, error: bool, partial: bool) -> Line {
        Line {
            time: "2026-01-01T00:00:00Z".to_owned(),
            error,
            partial,
            text: text.into(),
        }
    }

    fn printed(terminals: [bool; 2], at: usize, line: &Line) -> String {
        let name = ["web |", "log |"][at];
        let mut printer = Printer::styled(styles(terminals), false, Some((name, at)), true);
        String::from_utf8(printer.bytes(line)).unwrap()
    }

    #[test]
    fn each_container_has_its_colour_where_a_person_looks() {
        let both = [true; 2];
        let out = line("x", false, false);
        assert_eq!(printed(both, 0, &out), "\u{1b}[36mweb |\u{1b}[0m x\n");
        assert_eq!(printed(both, 1, &out), "\u{1b}[33mlog |\u{1b}[0m x\n");
        assert_eq!(printed([false; 2], 1, &out), "log | x\n");
    }

    #[test]
    fn what_goes_to_a_file_beside_a_terminal_has_no_colour() {
        let (out, error) = (line("x", false, false), line("x", true, false));
        let beside = [true, false];
        assert_eq!(printed(beside, 0, &error), "web | x\n");
        assert_ne!(printed(beside, 0, &out), "web | x\n");
        assert_eq!(printed([false, true], 0, &out), "web | x\n");
    }

    #[test]
    fn a_line_in_pieces_has_one_prefix() {
        let mut printer = Printer::styled(styles([false; 2]), true, Some(("web |", 0)), true);
        let pieces = [
            line("a", false, true),
            line("b", false, false),
            line("c", false, false),
        ];
        let bytes = pieces.iter().flat_map(|piece| printer.bytes(piece));
        let text = String::from_utf8(bytes.collect()).unwrap();
        let time = "2026-01-01T00:00:00Z";
        assert_eq!(text, format!("web | {time} ab\nweb | {time} c\n"));
    }
}

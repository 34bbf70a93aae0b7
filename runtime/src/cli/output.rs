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
    /// Container before each line.
    pub prefix: Option<String>,
    /// Errors of the container go to our standard error.
    pub split: bool,
    inside: bool,
}

impl Printer {
    /// A printer with a word in the container's colour before each line, or none.
    pub fn new(timestamps: bool, prefix: Option<(&str, usize)>, split: bool) -> Self {
        Self {
            timestamps,
            prefix: prefix.map(|(name, at)| format!("{} ", Style::stdout().prefix(at, name))),
            split,
            inside: false,
        }
    }

    /// Prints a piece; its end of line comes with the last one.
    pub fn print(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(line.text.len() + 40);
        if !self.inside {
            bytes.extend(self.prefix.iter().flat_map(|prefix| prefix.bytes()));
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
        if self.split && line.error {
            io::stderr().write_all(&bytes)
        } else {
            io::stdout().write_all(&bytes)
        }
    }
}

/// Whether printing failed only because nobody reads any more.
pub fn reader_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

//! Messages for people: they go to the kernel's log. Errors also reach the
//! early console, which the VMM keeps for its exit record.

use std::fmt;
use std::io::Write;

/// How grave a message is, as the kernel counts.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// The pod cannot go on, or lost something.
    Error = 3,
    /// Something is odd; the pod goes on.
    Warning = 4,
}

/// Writes one line. A message that cannot be written is lost: there is nobody
/// left to tell.
pub fn write(level: Level, message: &dyn fmt::Display) {
    let Ok(mut log) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") else {
        return;
    };
    // One write is one record; the kernel refuses records over 1 KiB or so.
    let mut line = format!("<{}>beluga-agent: {message}", level as u8).replace('\n', " ");
    let end = (0..=900.min(line.len()))
        .rev()
        .find(|&at| line.is_char_boundary(at));
    line.truncate(end.unwrap_or(0));
    let _ = log.write_all(line.as_bytes());
}

/// An error and all that caused it, joined by `: `.
pub fn chain(error: &dyn std::error::Error) -> String {
    beluga_proto::Fault::from_error(beluga_proto::FaultCode::Internal, error).message
}

//! Files out of a container and into it, without a program of the image's: the
//! helper of a command, once it has the container's root, user and rights,
//! moves them itself instead of executing anything.
//!
//! It stays where containers do not see it: in the guest's PID namespace, but
//! in the container's cgroup. What it may read and write is what the
//! container's own user may.

mod into;
mod out;
#[cfg(test)]
mod tests;

use beluga_proto::copy::{CopySpec, RecordKind};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Moves files between the standard streams and the tree; the exit code.
pub fn run(spec: &CopySpec) -> i32 {
    let own = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
    let (Ok(stdin), Ok(stdout)) = (own(rustix::stdio::stdin()), own(rustix::stdio::stdout()))
    else {
        return 1;
    };
    match copy(spec, stdin, stdout) {
        Ok(true) => 0,
        // What was not copied has been told; a stream that is gone cannot be.
        Ok(false) | Err(_) => 1,
    }
}

/// Whether everything was copied. Errors when a stream fails.
fn copy(spec: &CopySpec, from: impl Read, to: impl Write) -> io::Result<bool> {
    let mut records = Records {
        to,
        is_complete: true,
    };
    let path = Path::new(&spec.path);
    match &spec.name {
        None => out::tree(path, &mut records)?,
        Some(name) => into::tree(path, name, from, &mut records)?,
    }
    records.write(RecordKind::End, &[])?;
    Ok(records.is_complete)
}

/// Where records go.
struct Records<W> {
    to: W,
    is_complete: bool,
}

impl<W: Write> Records<W> {
    fn write(&mut self, kind: RecordKind, payload: &[u8]) -> io::Result<()> {
        self.to.write_all(&kind.header(payload.len()))?;
        self.to.write_all(payload)
    }

    /// Something is not copied.
    fn note(&mut self, what: &str, path: &Path, error: &dyn std::fmt::Display) -> io::Result<()> {
        self.is_complete = false;
        let mut text = format!("cannot {what} {}: {error}", path.display());
        text.truncate(text.floor_char_boundary(MAX_NOTE));
        self.write(RecordKind::Note, text.as_bytes())
    }
}

/// Longest sentence about one path, in bytes.
const MAX_NOTE: usize = 8 << 10;

//! Files into containers and out of them, the host's side.
//!
//! What comes out of a container is hostile: a path could lead out of the
//! directory that the user named (`..`, an absolute one, a link that came just
//! before it), a link could name a file that is not the container's, a mode
//! could make a program that runs as root. [`mod@receive`] opens every directory
//! beneath the destination without following links (openat2), makes files anew
//! instead of writing into those that are there, links only to files that it
//! has made itself, and keeps permission bits only. The path itself is the user's:
//! a single file is written into what lies there, be it a link or a device.

mod receive;
mod records;
mod send;
#[cfg(test)]
mod tests;

pub use receive::receive;
pub use records::notes;
pub use send::send;

use std::io;
use std::path::PathBuf;

/// Why files could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A place on the host.
    #[error("cannot {action} {path}", path = .path.display())]
    Path {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The container's side went away.
    #[error("the stream to the container broke")]
    Stream(#[from] io::Error),
    /// The container's side said something that means nothing.
    #[error("what came from the container cannot be understood: {what}")]
    Nonsense {
        /// What.
        what: &'static str,
    },
}

impl CopyError {
    fn path(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Path {
            action,
            path,
            source,
        }
    }
}

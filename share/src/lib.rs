//! The FUSE server of one shared directory.
//!
//! ```text
//! guest's virtio-fs driver ══ virtqueues ══ VMM ── one packet socket ── this process ── the directory
//! ```
//!
//! The VMM moves requests and answers as they are and has no system call for
//! files; this process has the directory, and no guest memory, no network, no
//! path. One packet is one request or one answer.
//!
//! **Hostile guests.** Whatever arrives may be made up: lengths, node numbers,
//! handles, names, flags. [`wire`] reads nothing beyond the packet; a name is
//! one component, resolved below an open directory with no link followed
//! ([`server`]); only regular files and directories are ever opened, so that no
//! FIFO blocks and no device acts; tables are bounded by the process's
//! descriptors; set-up leaves the process the capabilities that serving files
//! takes and no others ([`rights`]), nothing in sight but the directory ([`jail`]), and no
//! system call but those of a file server ([`calls`]).
//!
//! One thread serves one request after another: their order is the guest's, and
//! nothing here needs a lock.

pub mod caller;
pub mod calls;
pub mod jail;
pub mod options;
pub mod rights;
pub mod server;
mod sys;
pub mod table;
pub mod transport;
pub mod wire;

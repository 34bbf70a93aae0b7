//! The default system-call filter, with the meaning of containerd's: a list of
//! what is allowed, more of it for more capabilities, EPERM for the rest and
//! ENOSYS for what is newer than the list, so that programs fall back.
//!
//! The program is a binary search over the call's number: a few comparisons
//! per call instead of a few hundred.

mod bpf;
mod profile;
mod table;

pub use profile::default_profile;

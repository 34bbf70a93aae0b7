//! System calls that the standard library has no safe form of.

pub mod balloon;
pub mod net;
pub mod vsock;

//! Every `unsafe` of this crate: system calls that have no safe wrapper.

pub mod spawn;

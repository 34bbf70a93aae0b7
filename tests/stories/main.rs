//! Stories, each named by the behaviour that it proves (`bNN_…`).
//!
//! Run by `make test` in the lab host; `tests/run.py FILTER` runs a few.

mod exec;
mod lifecycle;
mod logical_host;
mod privilege;
mod smoke;
mod storage;

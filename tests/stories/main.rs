//! Stories, each named by the behaviour that it proves (`bNN_…`).
//!
//! Run by `make test` in the lab host; `tests/run.py FILTER` runs a few.

mod change;
mod cli;
mod config;
mod cp;
mod crashes;
mod ends;
mod exec;
mod guest;
mod idle;
mod leftovers;
mod lifecycle;
mod logical_host;
mod network;
mod object;
mod patterns;
mod policy;
mod port_forward;
mod privilege;
mod probes;
mod readme;
mod refusals;
mod registry;
mod restarts;
mod roots;
mod share;
mod smoke;
mod soak;
mod storage;
mod verbs;
mod workloads;

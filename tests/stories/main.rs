//! Stories, each named by the behaviour that it proves (`bNN_…`).
//!
//! Run by `make test` in the lab host; `tests/run.py FILTER` runs a few.

mod change;
mod cli;
mod cni;
mod config;
mod conformance;
mod cp;
mod crashes;
mod cri;
mod ends;
mod exec;
mod failing;
mod fidelity;
mod guest;
mod host_fields;
mod hung;
mod idle;
mod jobs;
mod killed;
mod leftovers;
mod lifecycle;
mod logical_host;
mod network;
mod networks;
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
mod rootless;
mod roots;
mod share;
mod shared_image;
mod shim;
mod smoke;
mod soak;
mod storage;
mod verbs;
mod workloads;

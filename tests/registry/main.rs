//! Stories of registries, which need neither KVM nor root: run by `make test` on the machine
//! itself, and by `tests/run.py FILTER`.

mod access;
mod build;
mod cri;
mod cut_short;
mod failing;
mod faults;
mod kept;
mod pull;
mod push;
mod store;

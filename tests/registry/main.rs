//! Stories of registries, which need neither KVM nor root: run by `make test` on the machine
//! itself, and by `tests/run.py FILTER`.

mod fixture;
mod pull;
mod store;

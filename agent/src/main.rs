//! PID 1 of the pod guest.
mod spawn;
mod sys;

fn main() {}

//! VMM.
fn main() {}

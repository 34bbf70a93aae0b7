//! The `beluga` command.

fn main() {}

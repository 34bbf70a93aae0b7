//! The `beluga` command.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    // Before the command line is parsed: a supervisor is started for every
    // pod, and its memory counts.
    beluga_runtime::helper_main(&args).unwrap_or_else(beluga_runtime::cli::main)
}

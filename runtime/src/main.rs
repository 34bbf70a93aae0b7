//! The `beluga` command.

use beluga_runtime::host::resolver::RESOLVE;
use beluga_runtime::workload::job;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    match args.get(1).and_then(|verb| verb.to_str()) {
        // Before the command line is parsed: a supervisor is started for every
        // pod, and its memory counts.
        Some("supervise") => beluga_runtime::pod::supervise_main(&args[2..]),
        Some(RESOLVE) => beluga_runtime::resolver::resolver_main(&args[2..]),
        Some(job::RUNNER) => job::runner_main(&args[2..]),
        _ => beluga_runtime::cli::main(),
    }
}

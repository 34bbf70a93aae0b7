//! `containerd-shim-beluga-v2`: containerd's task API over Beluga's engine.
//!
//! ```text
//! containerd ─ ttrpc, unix socket ─► service ─► oci ─► the engine's types ─► engine
//!            ◄─ events, ttrpc ────── events ◄── follow ◄─ status of the pod
//! ```
//! One process serves one pod: a sandbox and the containers that containerd's CRI
//! plugin puts into it, or the one container of `ctr run`. It holds what containerd
//! asks about a task and nothing of the pod, which is its supervisor's.
//!
//! containerd runs the program three times: `start` leaves a server behind and
//! prints its socket; the server; `delete` clears up when the server is gone, by a `clear`
//! that goes on when containerd has lost patience. With `-info` containerd 2 asks what it
//! can do. A `hold` is the PID of a container.
//!
//! One thread does everything: a supervisor is started with descriptors that no
//! other child may inherit.

#![forbid(unsafe_code)]

mod cleanup;
mod error;
mod events;
mod execs;
mod follow;
mod holder;
mod info;
mod launch;
mod oci;
mod options;
mod root;
mod serve;
mod service;
mod stats;
mod stdio;
mod task;

use options::{Action, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // A pod's supervisor is the program that started it, under another name.
    if let Some(code) = beluga_runtime::helper_main(&args) {
        return code;
    }
    let options = match Options::read(args.into_iter().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match options.action {
        Action::Start => launch::start(&options),
        Action::Serve => serve::serve(options),
        Action::Delete => cleanup::delete(&options),
        Action::Clear => cleanup::clear(&options),
        Action::Hold => holder::hold(),
        Action::Info => info::print(),
        Action::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Action::Version => {
            println!("containerd-shim-beluga-v2 {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", beluga_runtime::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

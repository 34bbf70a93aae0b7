//! `beluga-cri`: the Container Runtime Interface, v1, over Beluga's engine.
//!
//! ```text
//! kubelet, crictl ─ gRPC, unix socket ─► image, sandbox, container ─► the engine's types ─► engine
//! ```
//! It keeps nothing: what it must find again lies with each pod's definition. A
//! pod is its supervisor's, so this process may end and come back at any time.
//!
//! One thread does everything but what waits for disks and registries: a
//! supervisor is started with descriptors that no other child may inherit.

#![forbid(unsafe_code)]

mod config;
mod container;
mod error;
mod events;
mod exec;
mod image;
mod labels;
mod metrics;
mod pods;
mod resources;
mod runtime;
mod sandbox;
mod server;
mod stats;
mod streaming;

use clap::{Parser, Subcommand};
use config::Config;
use std::path::PathBuf;
use std::process::ExitCode;

/// Serves the Container Runtime Interface (v1) with pods in microVMs
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The configuration; without it /etc/beluga/cri.toml, where there is one
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// The configuration
    Config {
        #[command(subcommand)]
        what: ConfigVerb,
    },
}

#[derive(Subcommand)]
enum ConfigVerb {
    /// Print the default configuration, with comments
    Default,
}

fn main() -> ExitCode {
    let args: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // A pod's supervisor is the program that started it, under another name.
    if let Some(code) = beluga_runtime::helper_main(&args) {
        return code;
    }
    let args = Args::parse();
    if let Some(Verb::Config { what }) = args.verb {
        let ConfigVerb::Default = what;
        print!("{}", config::DEFAULT);
        return ExitCode::SUCCESS;
    }
    let served = Config::read(args.config.as_deref())
        .map_err(server::ServeError::from)
        .and_then(server::serve);
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", beluga_runtime::error_chain(&error));
            ExitCode::FAILURE
        }
    }
}

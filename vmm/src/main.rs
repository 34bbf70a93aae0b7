//! `beluga-vmm --config-fd N`: one KVM microVM.

use beluga_proto::{ExitCause, ExitRecord, VmConfig};
use beluga_vmm::config;
use beluga_vmm::exit::{self, Journal, chain};
use beluga_vmm::jail::calls::{Call, KINDS, ThreadKind};
use beluga_vmm::jail::{self, Confinement, Filters};
use beluga_vmm::machine::{self, MachineError};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

fn main() -> ExitCode {
    let started = Instant::now();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => {
            println!("beluga-vmm {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        ["--calls"] => calls(),
        ["--config-fd", number] => match number.parse() {
            Ok(number) => run(started, number),
            Err(_) => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: beluga-vmm --config-fd N | --calls | --version");
    ExitCode::FAILURE
}

/// Prints which system calls each kind of thread may make.
fn calls() -> ExitCode {
    let lists: BTreeMap<ThreadKind, Vec<&Call>> = KINDS
        .iter()
        .map(|kind| (*kind, kind.calls().collect()))
        .collect();
    match serde_json::to_string(&lists) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error, None),
    }
}

fn run(started: Instant, number: i32) -> ExitCode {
    let text = match config::read(number) {
        Ok(text) => text,
        Err(error) => return refuse(&error, None),
    };
    let Some(record) = config::exit_record(&text) else {
        let error = config::parse(&text).err();
        beluga_vmm::log::line(format_args!(
            "the configuration names no usable exit record"
        ));
        return error.map_or(ExitCode::FAILURE, |error| refuse(&error, None));
    };
    let config = match config::parse(&text) {
        Ok(config) => config,
        Err(error) => return refuse(&error, Some(record)),
    };
    drop(text);
    if let Err(error) = jail::close_others(&config) {
        return refuse(&error, Some(record));
    }
    let journal = Arc::new(Journal::new(started, record));
    exit::catch_panics(Arc::clone(&journal));
    let result = boot(config, Arc::clone(&journal));
    match result {
        Ok(never) => match never {},
        Err(error) => {
            let detail = chain(&error);
            beluga_vmm::log::line(format_args!("{detail}"));
            journal.end(error.cause(), detail)
        }
    }
}

/// Sets everything up, gives up what is not needed any more, and runs.
fn boot(config: VmConfig, journal: Arc<Journal>) -> Result<Infallible, MachineError> {
    let machine = machine::build(&config, None, journal)?;
    let filters = Filters::compile()?;
    if let Some(jail) = &config.jail {
        jail::enter(jail, config.vcpus)?;
    }
    drop(config);
    machine.run(&Confinement::by(filters))
}

/// A configuration that cannot be read ends with a record too, where it says
/// where that goes.
fn refuse(error: &dyn std::error::Error, record: Option<std::fs::File>) -> ExitCode {
    let detail = chain(error);
    beluga_vmm::log::line(format_args!("{detail}"));
    if let Some(file) = record {
        exit::write_record(
            file,
            &ExitRecord {
                cause: ExitCause::BadConfig,
                detail,
                end: None,
                stamps: Vec::new(),
                exits: BTreeMap::new(),
                console: String::new(),
            },
        );
    }
    ExitCode::FAILURE
}

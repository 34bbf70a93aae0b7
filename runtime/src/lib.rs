//! The host side of a pod.
//!
//! ```text
//! manifest ─spec─► PodSpec ─plan (pure)─► Plan { host, vm, guest, containers }
//!   Plan.host ─host─► guards     Plan.vm ─machine─► the VMM child     Plan.guest ─link─► agent
//! ```
//!
//! [`spec`] reads what people write, [`plan`] decides everything and does
//! nothing, the rest of the crate carries a plan out and keeps the pod.

/// Prints a line on standard error. Nobody there to read it, or a full disk
/// under it, is no reason to die, as it is for `eprintln!`.
macro_rules! tell {
    ($($text:tt)*) => {
        drop(std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("{}\n", format_args!($($text)*)),
        ))
    };
}

pub mod api;
pub mod cli;
pub mod cni;
pub mod conformance;
mod copy;
pub mod engine;
pub mod host;
pub mod link;
pub mod logs;
pub mod machine;
pub mod objects;
pub mod path_error;
pub mod plan;
pub mod pod;
pub mod policy;
pub mod resolver;
pub mod settings;
pub mod spec;
pub mod store;
pub mod sys;
pub mod workload;

/// What a program of ours does when it was started as one of its helpers: `None` when it was
/// not. Every front passes its arguments here first: the supervisor of a pod is the program
/// that made the pod.
#[must_use]
pub fn helper_main(args: &[std::ffi::OsString]) -> Option<std::process::ExitCode> {
    let rest = args.get(2..)?;
    match args.get(1)?.to_str()? {
        pod::SUPERVISE => Some(pod::supervise_main(rest)),
        host::resolver::RESOLVE => Some(resolver::resolver_main(rest)),
        host::resolver::ANSWER => Some(resolver::answer_main(rest)),
        sys::userns::MAP => Some(sys::userns::map_main(rest)),
        workload::job::RUNNER => Some(workload::job::runner_main(rest)),
        _ => None,
    }
}

/// An error, then what caused it, then what caused that.
pub(crate) fn causes<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// An error and all that caused it, in one line: for the edge where it is printed.
#[must_use]
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.join(": ")
}

/// A text of a guest, a manifest or an archive without what could steer a terminal.
#[must_use]
pub fn printable(text: &str) -> String {
    let safe = |c: char| match c.is_control() && c != '\t' {
        true => '\u{fffd}',
        false => c,
    };
    text.chars().map(safe).collect()
}

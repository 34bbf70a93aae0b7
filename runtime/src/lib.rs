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

/// An error and all that caused it, in one line: for the edge where it is printed.
#[must_use]
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

//! `beluga completion`.

use super::{Cli, CliError, exit};
use clap::CommandFactory as _;
use clap_complete::Shell;

/// Arguments of `completion`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Whose completion script
    shell: Shell,
}

/// Runs the verb.
#[expect(
    clippy::unnecessary_wraps,
    reason = "every verb has the same shape for the dispatcher"
)]
pub fn run(args: &Args) -> Result<u8, CliError> {
    // Into memory first: its writer panics where a write fails.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "beluga", &mut script);
    put!("{}", String::from_utf8_lossy(&script));
    Ok(exit::OK)
}

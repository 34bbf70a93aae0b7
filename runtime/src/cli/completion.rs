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
    clap_complete::generate(
        args.shell,
        &mut Cli::command(),
        "beluga",
        &mut std::io::stdout(),
    );
    Ok(exit::OK)
}

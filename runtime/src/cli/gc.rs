//! `beluga gc`: nothing is left over, or what it is.

use super::{CliError, exit};
use crate::engine;
use crate::settings::Settings;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove nothing; exit code 1 when something is left over
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let left = engine::gc(settings, args.check).await?;
    for one in &left {
        if args.check {
            say!("left over: {one}");
        } else {
            say!("removed: {one}");
        }
    }
    if left.is_empty() {
        say!("clean");
    }
    Ok(if args.check && !left.is_empty() {
        exit::ERROR
    } else {
        exit::OK
    })
}

//! `beluga image exists`, as podman has it: the exit code is the answer.

use crate::cli::{CliError, exit, images};
use crate::settings::Settings;

/// Arguments of `image exists`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name, or the beginning of an identifier
    image: String,
}

/// Runs the verb: 0 when there is such an image, 1 when there is none.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let Some(store) = images::to_read(settings)? else {
        return Ok(exit::ERROR);
    };
    Ok(match store.find(&args.image)? {
        Some(_) => exit::OK,
        None => exit::ERROR,
    })
}

//! `beluga gc`: nothing is left over, or what it is.

use super::{CliError, exit};
use crate::engine;
use crate::settings::Settings;

/// Arguments of `gc`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Remove nothing; exit code 1 when something is left over or damaged
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let left = engine::gc(settings, args.check).await?;
    let of_images = super::image::left_over(settings, args.check)?;
    let mut status = exit::OK;
    for what in &of_images {
        if args.check {
            say!("left over: {what}");
            status = exit::ERROR;
        } else {
            say!("removed: {what}");
        }
    }
    let damaged = super::image::damaged(settings)?;
    for one in &damaged {
        say!("damaged: {one}");
        status = exit::ERROR;
    }
    for one in &left {
        match &one.kept {
            _ if args.check => {
                say!("left over: {}", one.what);
                status = exit::ERROR;
            }
            None => say!("removed: {}", one.what),
            Some(error) => {
                say!("left over: {}: {}", one.what, crate::error_chain(error));
                status = exit::ERROR;
            }
        }
    }
    if left.is_empty() && of_images.is_empty() && damaged.is_empty() {
        say!("clean");
    }
    Ok(status)
}

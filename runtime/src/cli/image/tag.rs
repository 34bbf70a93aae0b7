//! `beluga tag`.

use crate::cli::error::ImageError;
use crate::cli::{CliError, exit, images};
use crate::settings::Settings;
use beluga_image::Reference;

/// Arguments of `tag`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name, or the beginning of an identifier
    #[arg(value_name = "IMAGE")]
    source: String,
    /// The names to give it, whichever image had them before
    #[arg(required = true, value_name = "NAME[:TAG]")]
    targets: Vec<String>,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    // All or none: the names are read before the first is given.
    let names = args.targets.iter().map(|name| name.parse::<Reference>());
    let names = names.collect::<Result<Vec<_>, _>>()?;
    let store = images::to_some(settings, || args.source.clone())?;
    for name in &names {
        store.tag(&args.source, name).map_err(ImageError::from)?;
    }
    Ok(exit::OK)
}

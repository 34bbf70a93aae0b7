//! `beluga rmi`.

use super::{megabytes, to_some};
use crate::cli::{CliError, exit};
use crate::engine;
use crate::settings::Settings;
use beluga_image::Removed;

/// Arguments of `rmi`.
#[derive(Debug, clap::Args)]
pub struct RemoveArgs {
    /// Names, or beginnings of identifiers
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// All names of an identifier's image, and images of pods that have ended
    #[arg(short, long)]
    force: bool,
}

/// Runs `rmi`.
pub async fn remove(settings: &Settings, args: &RemoveArgs) -> Result<u8, CliError> {
    let first = || args.images.first().cloned().unwrap_or_default();
    let store = to_some(settings, first)?;
    // The right to remove comes first: a pod that begins meanwhile is seen, or waits.
    let removal = store.removal()?;
    let in_use = engine::image_users(settings, args.force).await?;
    let mut first_error = None;
    for image in &args.images {
        match removal.remove(image, &in_use, args.force) {
            Ok(removed) => tell_removed(&removed),
            // The first is told last, where all errors are told.
            Err(error) if first_error.is_none() => first_error = Some(error),
            Err(error) => tell!("error: {error}"),
        }
    }
    first_error.map_or(Ok(exit::OK), |error| Err(error.into()))
}

fn tell_removed(removed: &Removed) {
    for name in &removed.untagged {
        say!("Untagged: {}", name.familiar());
    }
    if let Some(id) = removed.deleted {
        say!("Deleted: {id} ({} freed)", megabytes(removed.freed));
    }
}

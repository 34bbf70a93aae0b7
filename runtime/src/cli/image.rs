//! `beluga image …`: the verbs of images under docker's and podman's names; what is left of them
//! after [`super::images`] lies in the modules of this one.

pub mod build;
pub mod df;
pub mod exists;
pub mod history;
pub mod inspect;
pub mod prune;
pub mod push;
pub mod save;
pub mod tag;
mod template;

use super::{CliError, images, pull};
use crate::settings::Settings;
use beluga_image::Store;
use clap::Subcommand;

/// Arguments of `image`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make an image of a directory
    Build(Box<build::Args>),
    /// List the images that are here
    #[command(visible_alias = "list")]
    Ls(images::ListArgs),
    /// Show everything about images, as JSON
    Inspect(inspect::ImageArgs),
    /// Show of which steps an image was made
    History(history::Args),
    /// Say by the exit code whether an image is here
    Exists(exists::Args),
    /// Give an image a further name
    Tag(tag::Args),
    /// Write images to an archive
    Save(save::Args),
    /// Load images from an archive
    Load(images::LoadArgs),
    /// Remove images
    #[command(visible_alias = "remove")]
    Rm(images::RemoveArgs),
    /// Remove images that nothing uses
    Prune(prune::Args),
    /// Fetch images from a registry
    Pull(pull::Args),
    /// Give an image to a registry
    Push(push::Args),
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    match args.verb {
        Verb::Build(args) => build::run(settings, &args),
        Verb::Ls(args) => images::list(settings, &args),
        Verb::Inspect(args) => inspect::of_images(settings, &args),
        Verb::History(args) => history::run(settings, &args),
        Verb::Exists(args) => exists::run(settings, &args),
        Verb::Tag(args) => tag::run(settings, &args),
        Verb::Save(args) => save::run(settings, &args),
        Verb::Load(args) => images::load(settings, &args),
        Verb::Rm(args) => images::remove(settings, &args).await,
        Verb::Prune(args) => prune::run(settings, &args).await,
        Verb::Pull(args) => pull::run(settings, &args),
        Verb::Push(args) => push::run(settings, &args),
    }
}

/// What loads and pulls that were killed have left in the image store; removed unless `check`.
pub fn left_over(settings: &Settings, check: bool) -> Result<Vec<String>, CliError> {
    if !settings.images().exists() {
        return Ok(Vec::new());
    }
    let left = Store::open_as_it_is(settings.images())?.left_by_crashes()?;
    if !check {
        Store::open(settings.images())?;
    }
    let words = left
        .iter()
        .map(|path| format!("directory {}", path.display()));
    Ok(words.collect())
}

/// Files of the image store that are missing or cut off, in words.
pub fn damaged(settings: &Settings) -> Result<Vec<String>, CliError> {
    if !settings.images().exists() {
        return Ok(Vec::new());
    }
    let found = Store::open_as_it_is(settings.images())?.check()?;
    let words = found.iter().map(|damage| {
        let (path, images) = (damage.path.display(), damage.images.join(", "));
        format!("{path}: {} (load or pull {images} again)", damage.what)
    });
    Ok(words.collect())
}

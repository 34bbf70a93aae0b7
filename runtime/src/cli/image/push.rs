//! `beluga push`.

use crate::cli::error::{ImageError, UsageError};
use crate::cli::images::megabytes;
use crate::cli::pull::{self, Shown};
use crate::cli::{CliError, exit, images, interrupt};
use crate::settings::Settings;
use beluga_image::{
    Arrival, Image, PullProgress, PushOptions, PushProgress, PushedImage, Reference, Store,
};
use std::path::PathBuf;

/// Arguments of `push`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name, or the beginning of an identifier
    image: String,
    /// Where to and as what; by its own name without it
    #[arg(value_name = "NAME[:TAG]")]
    destination: Option<String>,
    /// Write the manifest's digest to this file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// No progress; prints the digest only
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let store = images::to_some(settings, || args.image.clone())?;
    let absent = || ImageError::None {
        image: args.image.clone(),
    };
    let image = store.find(&args.image)?.ok_or_else(absent)?;
    let name = destination(&image, args)?;
    let pushed = push(settings, &store, &image, &name, args.quiet)?;
    if let Some(file) = &args.digestfile {
        let written = std::fs::write(file, pushed.digest.to_string());
        written.map_err(|source| CliError::io(format!("write {}", file.display()), source))?;
    }
    if args.quiet {
        say!("{}", pushed.digest);
    } else {
        say!("Digest: {}", pushed.digest);
        say!("Pushed image: {}", name.familiar());
    }
    Ok(exit::OK)
}

/// The name that the registry is to have it under.
fn destination(image: &Image, args: &Args) -> Result<Reference, CliError> {
    if let Some(text) = &args.destination {
        // As podman and skopeo write it.
        let text = text.strip_prefix("docker://").unwrap_or(text);
        return Ok(text.parse()?);
    }
    let name = args.image.parse::<Reference>().ok();
    let named = name.filter(|name| image.names.contains(name) || name.digest().is_some());
    named.ok_or_else(|| {
        let image = args.image.clone();
        UsageError::NoDestination { image }.into()
    })
}

fn push(
    settings: &Settings,
    store: &Store,
    image: &Image,
    name: &Reference,
    quiet: bool,
) -> Result<PushedImage, CliError> {
    let registry = pull::registry(settings)?;
    let options = PushOptions::default();
    let mut shown = Shown::new(name, quiet);
    let mut progress = |step: PushProgress| {
        if shown.is_lines() {
            line(name, &step);
        } else {
            shown.step(as_pull(step));
        }
    };
    let pushed = interrupt::during(&options.cancel, || {
        store.push(image, name, &registry, &options, &mut progress)
    });
    shown.clear();
    pushed.map_err(|source| {
        let image = name.familiar();
        let source = Box::new(source);
        ImageError::Push { image, source }.into()
    })
}

/// The same step the other way, for the bar.
fn as_pull(step: PushProgress) -> PullProgress {
    match step {
        PushProgress::Begun {
            digest,
            layers,
            bytes,
        } => PullProgress::Resolved {
            digest,
            layers,
            bytes,
        },
        PushProgress::Busy { host, wait } => PullProgress::Busy { host, wait },
        PushProgress::Layer { blob, done, total } => PullProgress::Layer { blob, done, total },
        PushProgress::LayerDone { blob, total, how } => PullProgress::LayerDone {
            blob,
            total,
            reused: how != Arrival::Sent,
        },
        _ => PullProgress::Waiting,
    }
}

/// What a pipe is told.
fn line(name: &Reference, step: &PushProgress) {
    let name = name.familiar();
    match step {
        PushProgress::Begun { layers, bytes, .. } => {
            tell!("{name}: {layers} layers, {}", megabytes(*bytes));
        }
        PushProgress::Busy { host, wait } => {
            let secs = wait.as_secs();
            tell!("{name}: registry {host} is busy: the next try is in {secs} s");
        }
        PushProgress::LayerBroke { blob, why } => {
            tell!("{name}: layer {}: broke: {why}", blob.short());
        }
        PushProgress::LayerDone { blob, total, how } => {
            let how = match how {
                Arrival::Sent => "done",
                Arrival::Present => "is there already",
                Arrival::Mounted => "is in another repository there",
            };
            let total = megabytes(*total);
            tell!("{name}: layer {}: {how}, {total}", blob.short());
        }
        _ => {}
    }
}

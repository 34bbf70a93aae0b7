//! `beluga load`.

use super::megabytes;
use crate::cli::error::{ImageError, UsageError};
use crate::cli::style::Style;
use crate::cli::{CliError, exit, interrupt};
use crate::settings::Settings;
use beluga_image::{LoadOptions, Progress, Reference, Source, Store};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub struct LoadArgs {
    /// An OCI layout (directory or tar) or a docker-archive; standard input without it
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// A name for an archive of one image that has none, or another one
    #[arg(short, long, value_name = "IMAGE")]
    tag: Option<String>,
    /// No progress
    #[arg(short, long)]
    quiet: bool,
}

/// Errors where an archive lies elsewhere than on this host.
fn is_here(file: &Path) -> Result<(), UsageError> {
    let url = file.to_string_lossy();
    if !url.contains("://") {
        return Ok(());
    }
    let why = format!(
        "archives are not fetched: curl -fsSL {url} | beluga load, or beluga pull IMAGE from a registry"
    );
    Err(UsageError::flag("--input", &url, why))
}

/// Runs `load`.
pub fn load(settings: &Settings, args: &LoadArgs) -> Result<u8, CliError> {
    let store = Store::open(settings.images())?;
    let tag = args
        .tag
        .as_deref()
        .map(str::parse::<Reference>)
        .transpose()?;
    let options = LoadOptions {
        tag,
        ..LoadOptions::default()
    };
    let shown = !args.quiet && std::io::stderr().is_terminal();
    let mut progress = |step: Progress| {
        if shown {
            show(step);
        }
    };
    let mut stdin = std::io::stdin().lock();
    let file = args.input.as_deref().filter(|file| *file != Path::new("-"));
    file.map_or(Ok(()), is_here)?;
    let source = match file {
        Some(file) => Source::Path(file),
        None if std::io::stdin().is_terminal() => {
            return Err(UsageError::which(
                "image",
                "Say -i FILE, or send the archive to standard input",
            )
            .into());
        }
        None => Source::Stream(&mut stdin),
    };
    let loaded = interrupt::during(&options.cancel, || {
        store.load(source, &options, &mut progress)
    });
    let loaded = loaded
        .map_err(|source| ImageError::Load {
            file: file.map_or("standard input".into(), |file| file.display().to_string()),
            source: Box::new(source),
        })
        .map_err(CliError::from);
    if shown {
        eprint!("\r\x1b[K");
    }
    for image in loaded? {
        for (name, old) in &image.moved {
            let style = Style::stderr();
            let (warning, name) = (style.warn("warning:"), name.familiar());
            tell!(
                "{warning} {name} was another image, {} until now",
                old.short()
            );
        }
        if image.names.is_empty() {
            say!("Loaded image ID: {}", image.image.id);
        }
        for name in &image.names {
            say!("Loaded image: {}", name.familiar());
        }
    }
    Ok(exit::OK)
}

/// One line of progress, overwritten by the next.
fn show(step: Progress) {
    let line = match step {
        Progress::Waiting => "waiting for another command that uses the image store".into(),
        Progress::Spooling { done } => format!("reading {}", megabytes(done)),
        Progress::Layer {
            diff_id,
            done,
            total,
        } => {
            let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
            format!("layer {} {percent} %", diff_id.short())
        }
        Progress::LayerDone { diff_id, reused } => {
            let how = if reused { "is there already" } else { "done" };
            format!("layer {} {how}", diff_id.short())
        }
        _ => return,
    };
    eprint!("\r\x1b[K{line}");
    drop(std::io::stderr().flush());
}

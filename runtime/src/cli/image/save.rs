//! `beluga save`: images as an archive, digest for digest as they came.

use crate::cli::error::{ImageError, UsageError};
use crate::cli::{CliError, exit, images};
use crate::settings::Settings;
use beluga_image::{Reference, SaveFormat, SaveImage, Store};
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

/// Arguments of `save`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write to this file instead of standard output; there whole or not at all
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How the archive is arranged
    #[arg(long, value_enum, default_value_t = Format::OciArchive)]
    format: Format,
    /// Names, or beginnings of identifiers
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    /// An OCI layout in a tar: all digests stay as they are
    OciArchive,
    /// What every docker reads
    DockerArchive,
}

/// Runs the verb.
pub fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let file = args
        .output
        .as_deref()
        .filter(|file| *file != Path::new("-"));
    if file.is_none() && io::stdout().is_terminal() {
        return Err(UsageError::ArchiveToTerminal.into());
    }
    let store = images::to_some(settings, || {
        args.images.first().cloned().unwrap_or_default()
    })?;
    let chosen = chosen(&store, &args.images)?;
    let format = match args.format {
        Format::OciArchive => SaveFormat::OciArchive,
        Format::DockerArchive => SaveFormat::DockerArchive,
    };
    let saved = |out: &mut dyn io::Write| {
        store.save(&chosen, format, out).map_err(|source| {
            CliError::from(ImageError::Save {
                images: args.images.join(", "),
                source: Box::new(source),
            })
        })
    };
    match file {
        None => saved(&mut io::stdout().lock())?,
        // A pipe or a device is written to as it is.
        Some(file) if fs::metadata(file).is_ok_and(|found| !found.is_file()) => {
            let open = File::options().write(true).open(file);
            saved(&mut open.map_err(|source| failed("open", file, source))?)?;
        }
        Some(file) => whole(file, saved)?,
    }
    Ok(exit::OK)
}

/// Writes a file that appears under its name when it is complete.
fn whole(
    file: &Path,
    write: impl FnOnce(&mut dyn io::Write) -> Result<(), CliError>,
) -> Result<(), CliError> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let create = File::create(&temporary).map_err(|source| failed("create", file, source))?;
    let mut out = io::BufWriter::with_capacity(1 << 20, &create);
    let done = write(&mut out).and_then(|()| {
        let placed = out.flush();
        let placed = placed.and_then(|()| create.sync_all());
        let placed = placed.and_then(|()| fs::rename(&temporary, file));
        placed.map_err(|source| failed("write", file, source))
    });
    if done.is_err() {
        drop(fs::remove_file(&temporary));
    }
    done
}

fn failed(doing: &str, file: &Path, source: io::Error) -> CliError {
    CliError::io(format!("{doing} {}", file.display()), source)
}

/// The images, each with the name it was asked for by, if that is a name.
fn chosen(store: &Store, words: &[String]) -> Result<Vec<SaveImage>, CliError> {
    let mut chosen: Vec<SaveImage> = Vec::new();
    for word in words {
        let absent = || ImageError::None {
            image: word.clone(),
        };
        let image = store.find(word)?.ok_or_else(absent)?;
        let name = word.parse::<Reference>().ok();
        let name = name.filter(|name| image.names.contains(name));
        match chosen
            .iter_mut()
            .find(|known| known.image.manifest_digest == image.manifest_digest)
        {
            Some(known) => known
                .names
                .extend(name.filter(|name| !known.names.contains(name))),
            None => chosen.push(SaveImage {
                image,
                names: name.into_iter().collect(),
            }),
        }
    }
    Ok(chosen)
}

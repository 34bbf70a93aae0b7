//! `beluga images`, `load` and `rmi`.

mod template;

use super::error::{ImageError, UsageError};
use super::table::Table;
use super::{CliError, exit, interrupt, time, yaml};
use crate::engine;
use crate::settings::Settings;
use beluga_image::{Image, LoadOptions, Progress, Reference, Removed, Source, Store};
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use template::{Line, Template};

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this image: NAME, NAME:TAG or the beginning of an identifier
    image: Option<String>,
    /// Only the identifiers
    #[arg(short, long)]
    quiet: bool,
    /// With the digest of each image's manifest
    #[arg(long)]
    digests: bool,
    /// Identifiers in full
    #[arg(long)]
    no_trunc: bool,
    /// json, yaml, wide for more columns, or a template like '{{.Repository}}:{{.Tag}}'
    #[arg(
        short,
        long,
        visible_alias = "format",
        value_name = "FORMAT",
        value_parser = Format::read
    )]
    output: Option<Format>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Format {
    Json,
    Yaml,
    Wide,
    Template(Template),
}

impl Format {
    fn read(text: &str) -> Result<Self, String> {
        Ok(match text {
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "wide" => Self::Wide,
            template => Self::Template(Template::read(template)?),
        })
    }
}

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

/// The image store for a command that only looks: none where nothing has been kept yet, since a
/// look leaves nothing behind.
pub fn to_read(settings: &Settings) -> Result<Option<Store>, CliError> {
    match std::fs::metadata(settings.images()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        _ => Ok(Some(Store::open(settings.images())?)),
    }
}

/// The same for a command that needs this image of it.
pub fn to_some(settings: &Settings, image: impl Fn() -> String) -> Result<Store, CliError> {
    let none = || ImageError::None { image: image() };
    Ok(to_read(settings)?.ok_or_else(none)?)
}

/// Runs `images`.
pub fn list(settings: &Settings, args: &ListArgs) -> Result<u8, CliError> {
    let store = to_read(settings)?;
    let mut images = store.map_or(Ok(Vec::new()), |store| store.list())?;
    if let Some(wanted) = &args.image {
        images.retain(|image| is_called(image, wanted));
    }
    match &args.output {
        Some(Format::Template(template)) => template.print(&lines(&images, args)),
        Some(Format::Json) => say!("{:#}", values(&images)),
        Some(Format::Yaml) => put!("{}", yaml(&values(&images))?),
        None if args.quiet => {
            for image in &images {
                say!("{}", id(image, args));
            }
        }
        Some(Format::Wide) | None => table(&images, args),
    }
    Ok(exit::OK)
}

/// Whether an image is meant by a name with or without a tag, or by the
/// beginning of its identifier.
fn is_called(image: &Image, wanted: &str) -> bool {
    let hex = image.id.to_string();
    let hex = hex.rsplit(':').next().unwrap_or_default();
    let bare = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    let tagged = wanted.parse::<Reference>().ok();
    let is_named = image.names.iter().any(|name| {
        let familiar = name.familiar();
        tagged.as_ref() == Some(name)
            || familiar
                .rsplit_once(':')
                .is_some_and(|(repository, _)| repository == wanted)
    });
    is_named || (bare.len() >= 3 && hex.starts_with(bare))
}

fn values(images: &[Image]) -> serde_json::Value {
    serde_json::Value::Array(images.iter().map(value).collect())
}

/// As docker: the whole identifier has its algorithm before it.
fn id(image: &Image, args: &ListArgs) -> String {
    if args.no_trunc {
        image.id.to_string()
    } else {
        image.id.short()
    }
}

fn value(image: &Image) -> serde_json::Value {
    let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
    let digests: Vec<String> = image.digests.iter().map(ToString::to_string).collect();
    let layers: Vec<String> = image
        .layers
        .iter()
        .filter(|layer| !layer.is_parents)
        .map(|layer| layer.diff_id.to_string())
        .collect();
    serde_json::json!({
        "id": image.id.to_string(),
        "repoTags": names,
        "repoDigests": digests,
        "digest": image.manifest_digest.to_string(),
        "size": image.size,
        "created": image.config.created,
        "layers": layers,
    })
}

fn table(images: &[Image], args: &ListArgs) {
    let wide = matches!(args.output, Some(Format::Wide));
    let mut heads = vec!["REPOSITORY", "TAG"];
    heads.extend((args.digests || wide).then_some("DIGEST"));
    heads.extend(["IMAGE ID", "CREATED", "SIZE"]);
    heads.extend(wide.then_some(["LAYERS", "PLATFORM"]).into_iter().flatten());
    let mut table = Table::new(&heads);
    for (image, line) in named(images, args) {
        let mut row = vec![line.repository, line.tag];
        row.extend((args.digests || wide).then_some(line.digest));
        row.extend([line.id, line.created, line.size]);
        let layers = image.layers.len().to_string();
        let more = [layers, image.config.platform.to_string()];
        row.extend(wide.then_some(more).into_iter().flatten());
        table.row(row);
    }
    table.print();
}

fn lines(images: &[Image], args: &ListArgs) -> Vec<Line> {
    named(images, args).map(|(_, line)| line).collect()
}

/// Images under each of their names.
fn named<'i>(images: &'i [Image], args: &'i ListArgs) -> impl Iterator<Item = (&'i Image, Line)> {
    images.iter().flat_map(move |image| {
        let mut names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        if names.is_empty() {
            // A registry knows it under a digest, and under no tag any more.
            let repository = image.digests.first().map(Reference::familiar);
            let repository = repository
                .as_deref()
                .and_then(|name| name.split('@').next());
            names.push(format!("{}:<none>", repository.unwrap_or("<none>")));
        }
        let lines = names.into_iter().map(move |name| {
            // A port of a registry has a slash behind it, a tag has none.
            let (repository, tag) = match name.rsplit_once(':') {
                Some((repository, tag)) if !tag.contains('/') => (repository, tag),
                _ => (name.as_str(), "<none>"),
            };
            let line = Line {
                digest: digest(image, repository),
                repository: repository.to_owned(),
                tag: tag.to_owned(),
                id: id(image, args),
                created_at: image.config.created.clone().unwrap_or_default(),
                created: created(image),
                size: megabytes(image.size),
            };
            (image, line)
        });
        lines.collect::<Vec<_>>()
    })
}

/// What a registry has it under in this repository, which may be an index's digest, or its own.
fn digest(image: &Image, repository: &str) -> String {
    let mut known = image.digests.iter().map(Reference::familiar);
    let known = known.find_map(|name| {
        let digest = name.strip_prefix(repository)?.strip_prefix('@')?;
        Some(digest.to_owned())
    });
    known.unwrap_or_else(|| image.manifest_digest.to_string())
}

fn created(image: &Image) -> String {
    let at = image.config.created.as_deref().unwrap_or_default();
    match at.parse::<jiff::Timestamp>() {
        Ok(at) => {
            let nanos = u64::try_from(at.as_nanosecond()).unwrap_or(0);
            format!("{} ago", time::age(nanos))
        }
        Err(_) => "<unknown>".into(),
    }
}

pub fn megabytes(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        1_000_000..1_000_000_000 => {
            format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
        }
        _ => format!(
            "{}.{:02} GB",
            bytes / 1_000_000_000,
            bytes / 10_000_000 % 100
        ),
    }
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

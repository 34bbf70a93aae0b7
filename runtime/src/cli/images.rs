//! `beluga images`; `load` and `rmi` lie in modules of it.

mod load;
mod remove;
mod template;
mod wanted;

use super::error::ImageError;
use super::style::Style;
use super::table::Table;
use super::{CliError, exit, time, yaml};
use crate::settings::Settings;
use beluga_image::{Broken, Digest, Image, Reference, Store};
pub use load::{LoadArgs, load};
pub use remove::{RemoveArgs, remove};
use template::{Line, Template};
use wanted::{Filter, Wanted};

/// Arguments of `images`.
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only this: NAME, NAME:TAG, a pattern like 'team/*', or the beginning of an identifier
    image: Option<String>,
    /// Only what passes: dangling=true, reference=PATTERN, label=KEY[=VALUE]; may be given again
    #[arg(short, long, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// All images, as they are listed anyway
    #[arg(short, long, hide = true)]
    all: bool,
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
    let (images, broken) = match &store {
        Some(store) => chosen(store, args)?,
        None => (Vec::new(), Vec::new()),
    };
    match &args.output {
        Some(Format::Template(template)) => {
            let rows = rows(&images, &broken, args).into_iter();
            template.print(&rows.map(|row| row.line).collect::<Vec<_>>());
        }
        Some(Format::Json) => say!("{:#}", values(&images, &broken)),
        Some(Format::Yaml) => put!("{}", yaml(&values(&images, &broken))?),
        None if args.quiet => {
            let ids = images.iter().map(|image| image.id);
            let ids = ids.chain(
                broken
                    .iter()
                    .map(|one| one.id.unwrap_or(one.manifest_digest)),
            );
            for one in ids {
                say!("{}", id(one, args));
            }
        }
        Some(Format::Wide) | None => table(&images, &broken, args),
    }
    if let Some(store) = &store {
        tell_damage(store, &broken)?;
    }
    Ok(exit::OK)
}

/// Says what cannot be used of the store, and what mends that.
pub fn tell_damage(store: &Store, broken: &[Broken]) -> Result<(), CliError> {
    broken.iter().for_each(tell_broken);
    for lost in store.lost_names()? {
        let style = Style::stderr();
        let warning = style.warn("warning:");
        tell!(
            "{warning} {} says no more which name it was",
            lost.display()
        );
        tell!(
            "  {} pull or load the image of that name again; `beluga prune` removes the file",
            style.dim("try:")
        );
    }
    Ok(())
}

/// The images that are to be listed, each with the names that are meant.
fn chosen(store: &Store, args: &ListArgs) -> Result<(Vec<Image>, Vec<Broken>), CliError> {
    let (mut images, mut broken) = (store.list()?, store.broken()?);
    let wanted = args.image.as_deref().map(Wanted::read);
    let filters: Vec<Filter> = wanted.map(Filter::Reference).into_iter().collect();
    for filter in filters.iter().chain(&args.filter) {
        let passed = images.into_iter().filter_map(|one| filter.of_image(one));
        images = passed.collect();
        let passed = broken.into_iter().filter_map(|one| filter.of_broken(one));
        broken = passed.collect();
    }
    Ok((images, broken))
}

fn tell_broken(broken: &Broken) {
    let style = Style::stderr();
    let name = broken.names.first().or(broken.digests.first());
    let id = broken.id.unwrap_or(broken.manifest_digest).short();
    let name = name.map_or(id, Reference::familiar);
    tell!(
        "{} the image {name} is damaged: {}",
        style.warn("warning:"),
        broken.why
    );
    tell!(
        "  {} pull or load it again, or `beluga rmi {name}`",
        style.dim("try:")
    );
}

fn values(images: &[Image], broken: &[Broken]) -> serde_json::Value {
    let damaged = broken.iter().map(|one| {
        let familiar = |names: &[Reference]| -> Vec<String> {
            names.iter().map(ToString::to_string).collect()
        };
        serde_json::json!({
            "id": one.id.map(|id| id.to_string()),
            "repoTags": familiar(&one.names),
            "repoDigests": familiar(&one.digests),
            "digest": one.manifest_digest.to_string(),
            "damaged": one.why,
        })
    });
    serde_json::Value::Array(images.iter().map(value).chain(damaged).collect())
}

/// As docker: the whole identifier has its algorithm before it.
fn id(id: Digest, args: &ListArgs) -> String {
    if args.no_trunc {
        id.to_string()
    } else {
        id.short()
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

/// An image under one of its names, as a line of the table.
struct Row {
    line: Line,
    layers: String,
    platform: String,
}

fn table(images: &[Image], broken: &[Broken], args: &ListArgs) {
    let wide = matches!(args.output, Some(Format::Wide));
    let mut heads = vec!["REPOSITORY", "TAG"];
    heads.extend((args.digests || wide).then_some("DIGEST"));
    heads.extend(["IMAGE ID", "CREATED", "SIZE"]);
    heads.extend(wide.then_some(["LAYERS", "PLATFORM"]).into_iter().flatten());
    let mut table = Table::new(&heads);
    for Row {
        line,
        layers,
        platform,
    } in rows(images, broken, args)
    {
        let mut row = vec![line.repository, line.tag];
        row.extend((args.digests || wide).then_some(line.digest));
        row.extend([line.id, line.created, line.size]);
        row.extend(wide.then_some([layers, platform]).into_iter().flatten());
        table.row(row);
    }
    table.print();
}

/// Images under each of their names, the broken ones last.
fn rows(images: &[Image], broken: &[Broken], args: &ListArgs) -> Vec<Row> {
    let mut rows = Vec::new();
    for image in images {
        for (repository, tag) in called(&image.names, &image.digests) {
            let line = Line {
                digest: digest(&image.digests, &repository, image.manifest_digest),
                repository,
                tag,
                id: id(image.id, args),
                created_at: image.config.created.clone().unwrap_or_default(),
                created: since(image.config.created.as_deref()),
                size: megabytes(image.size),
            };
            rows.push(Row {
                line,
                layers: image.layers.len().to_string(),
                platform: image.config.platform.to_string(),
            });
        }
    }
    for one in broken {
        for (repository, tag) in called(&one.names, &one.digests) {
            let line = Line {
                digest: digest(&one.digests, &repository, one.manifest_digest),
                repository,
                tag,
                id: one.id.map_or("<unknown>".into(), |one| id(one, args)),
                created_at: String::new(),
                created: "<unknown>".into(),
                size: "<damaged>".into(),
            };
            let (layers, platform) = (String::new(), String::new());
            rows.push(Row {
                line,
                layers,
                platform,
            });
        }
    }
    rows
}

/// Repository and tag of each name.
fn called(names: &[Reference], digests: &[Reference]) -> Vec<(String, String)> {
    let mut all: Vec<String> = names.iter().map(Reference::familiar).collect();
    if all.is_empty() {
        // A registry knows it under a digest, and under no tag any more.
        let repository = digests.first().map(Reference::familiar);
        let repository = repository.as_deref();
        let repository = repository.and_then(|name| name.split('@').next());
        all.push(format!("{}:<none>", repository.unwrap_or("<none>")));
    }
    let parts = all.iter().map(|name| {
        // A port of a registry has a slash behind it, a tag has none.
        match name.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository.into(), tag.into()),
            _ => (name.clone(), "<none>".to_owned()),
        }
    });
    parts.collect()
}

/// What a registry has it under in this repository, which may be an index's digest, or its own.
fn digest(digests: &[Reference], repository: &str, manifest: Digest) -> String {
    let mut known = digests.iter().map(Reference::familiar);
    let known = known.find_map(|name| {
        let digest = name.strip_prefix(repository)?.strip_prefix('@')?;
        Some(digest.to_owned())
    });
    known.unwrap_or_else(|| manifest.to_string())
}

/// `3d ago`, of a time as an image says it.
pub fn since(at: Option<&str>) -> String {
    match at.unwrap_or_default().parse::<jiff::Timestamp>() {
        // Some builders write the year 1, or one to come: nobody knows then.
        Ok(at) if (0..=time::now().into()).contains(&at.as_nanosecond()) => {
            let nanos = u64::try_from(at.as_nanosecond()).unwrap_or(0);
            format!("{} ago", time::age(nanos))
        }
        _ => "<unknown>".into(),
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

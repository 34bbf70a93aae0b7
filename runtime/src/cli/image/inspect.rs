//! `beluga inspect`: an image or a pod as JSON, an image with docker's field names.

use crate::cli::error::{ImageError, UsageError};
use crate::cli::{CliError, exit, images, object, pods};
use crate::settings::Settings;
use beluga_image::{Image, Reference, Store};
use serde_json::{Value, json};

use super::template::{self, Template};

/// Arguments of `inspect`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What is meant; without it a pod, and an image where no pod has the name
    #[arg(long = "type", value_enum, value_name = "TYPE")]
    kind: Option<Kind>,
    /// Namespace of pods
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// json, or a template like '{{.Id}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "FORMAT", value_parser = Template::read)]
    format: Option<Template>,
    /// Names, or beginnings of images' identifiers
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Image,
    Pod,
}

/// Arguments of `image inspect`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// json, or a template like '{{.Id}}' or '{{json .Config}}'
    #[arg(short, long, value_name = "FORMAT", value_parser = Template::read)]
    format: Option<Template>,
    /// Names, or beginnings of identifiers
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs `inspect`.
pub async fn run(settings: &Settings, args: &Args) -> Result<u8, CliError> {
    let store = images::to_read(settings)?;
    let mut found = Found::default();
    for name in &args.names {
        let pod = match args.kind {
            Some(Kind::Image) => None,
            kind => match pods::one(settings, &args.namespace, name).await {
                Ok(pod) => Some(object::object(&pod)),
                // No pod, or no name that a pod could have.
                Err(CliError::NotFound { .. } | CliError::NoType { .. }) if kind.is_none() => None,
                Err(error) => {
                    found.failed(error);
                    continue;
                }
            },
        };
        match pod {
            Some(pod) => found.values.push(pod),
            None => found.image(store.as_ref(), name)?,
        }
    }
    found.print(args.format.as_ref())
}

/// Runs `image inspect`.
pub fn of_images(settings: &Settings, args: &ImageArgs) -> Result<u8, CliError> {
    let store = images::to_read(settings)?;
    let mut found = Found::default();
    for name in &args.images {
        found.image(store.as_ref(), name)?;
    }
    found.print(args.format.as_ref())
}

/// What there is of all that was asked for: as docker, what is missing hides nothing else.
#[derive(Default)]
struct Found {
    values: Vec<Value>,
    first_error: Option<CliError>,
}

impl Found {
    fn image(&mut self, store: Option<&Store>, name: &str) -> Result<(), CliError> {
        let image = store.map_or(Ok(None), |store| store.find(name))?;
        match store.zip(image) {
            Some((store, image)) => self.values.push(value(store, &image)?),
            None => {
                let image = name.to_owned();
                self.failed(ImageError::None { image }.into());
            }
        }
        Ok(())
    }

    fn failed(&mut self, error: CliError) {
        self.first_error.get_or_insert(error);
    }

    fn print(self, format: Option<&Template>) -> Result<u8, CliError> {
        match format {
            Some(Template::Pieces(text, pieces)) => {
                for value in &self.values {
                    let line = template::print(pieces, value);
                    say!(
                        "{}",
                        line.map_err(|why| UsageError::flag("--format", text, why))?
                    );
                }
            }
            Some(Template::Json) => say!("{}", Value::Array(self.values)),
            None => say!("{:#}", Value::Array(self.values)),
        }
        self.first_error.map_or(Ok(exit::OK), Err)
    }
}

/// An image as `docker image inspect` shows it. `Size` is what it takes on this host, unpacked.
fn value(store: &Store, image: &Image) -> Result<Value, CliError> {
    let details = store.details(image)?;
    let of_config = |key: &str| details.config.get(key).cloned().unwrap_or(Value::Null);
    let text = |key: &str| match of_config(key) {
        Value::Null => Value::String(String::new()),
        value => value,
    };
    let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
    let digests: Vec<String> = image.digests.iter().map(Reference::familiar).collect();
    let layers: Vec<String> = image
        .layers
        .iter()
        .filter(|layer| !layer.is_parents)
        .map(|layer| layer.diff_id.to_string())
        .collect();
    Ok(json!({
        "Id": image.id.to_string(),
        "RepoTags": names,
        "RepoDigests": digests,
        "Digest": image.manifest_digest.to_string(),
        "Descriptor": {
            "mediaType": details.media_type,
            "digest": image.manifest_digest.to_string(),
            "size": details.manifest_size,
        },
        "Created": of_config("created"),
        "Author": text("author"),
        "Comment": text("comment"),
        "Config": of_config("config"),
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "Size": image.size,
        "PackedSize": details.packed_size,
        "RootFS": {"Type": "layers", "Layers": layers},
        "History": of_config("history"),
    }))
}

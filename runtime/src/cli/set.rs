//! `beluga set image`: containers of a running pod get other images, one by one
//! and each alone; what does not come up is taken back.

use super::change::{self, Changed, PATIENCE};
use super::error::UsageError;
use super::{CliError, exit, pods};
use crate::settings::Settings;
use clap::Subcommand;
use serde_json::{Value, json};

/// Arguments of `set`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Replace containers by others from other images, the pod stays
    Image(ImageArgs),
}

/// Arguments of `set image`.
#[derive(Debug, clap::Args)]
struct ImageArgs {
    /// `POD CONTAINER=IMAGE…` or `pod/POD …`; the container * means all
    #[arg(required = true, value_name = "POD CONTAINER=IMAGE")]
    words: Vec<String>,
    /// Namespace of the pod
    #[arg(short, long, default_value = pods::DEFAULT)]
    namespace: String,
    /// How long the new containers may take until they are ready, like 2m
    #[arg(long, default_value = PATIENCE, value_parser = change::patience)]
    timeout: std::time::Duration,
}

/// Runs the verb.
pub async fn run(settings: &Settings, args: Args) -> Result<u8, CliError> {
    let What::Image(args) = args.what;
    let (name, images) = words(&args.words)?;
    let pod = pods::one(settings, &args.namespace, &name).await?;
    let mut object = change::editable(&pod);
    for (container, image) in &images {
        if !set(&mut object, container, image) {
            return Err(pods::no_container(&pod, container));
        }
    }
    let word = match change::to_manifest(settings, &pod, &object, args.timeout).await? {
        Changed::Unchanged => "unchanged",
        Changed::Configured | Changed::Converging(_) => "image updated",
    };
    say!("pod/{} {word}", pod.name);
    Ok(exit::OK)
}

type Images = Vec<(String, String)>;

/// The pod and the images behind arguments like `pod/web a=x b=y`.
fn words(words: &[String]) -> Result<(String, Images), CliError> {
    let (pods, images): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| !word.contains('='));
    let names: Vec<String> = pods.into_iter().cloned().collect();
    let names = pods::names(&names)?;
    let [name] = names.as_slice() else {
        return Err(UsageError::OnePod {
            example: "beluga set image POD CONTAINER=IMAGE",
        }
        .into());
    };
    let images = images.into_iter().map(|word| {
        let (container, image) = word.split_once('=').unwrap_or_default();
        (container.to_owned(), image.to_owned())
    });
    let images: Images = images.collect();
    if images.is_empty()
        || images
            .iter()
            .any(|(name, image)| name.is_empty() || image.is_empty())
    {
        return Err(UsageError::which("image for which container", "Say CONTAINER=IMAGE").into());
    }
    Ok((name.clone(), images))
}

/// Writes an image into a manifest; whether there is such a container.
fn set(object: &mut Value, container: &str, image: &str) -> bool {
    let mut found = false;
    for list in ["initContainers", "containers"] {
        let all = object["spec"][list].as_array_mut();
        for one in all.into_iter().flatten() {
            if container == "*" || one["name"] == container {
                one["image"] = json!(image);
                found = true;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_those_of_kubectl() {
        let of = |text: &str| {
            let all: Vec<String> = text.split(' ').map(str::to_owned).collect();
            words(&all)
        };
        let expected = (
            "web".to_owned(),
            vec![("a".to_owned(), "x:1@y=z".to_owned())],
        );
        for text in ["web a=x:1@y=z", "pod web a=x:1@y=z", "pod/web a=x:1@y=z"] {
            assert_eq!(of(text).unwrap(), expected, "{text}");
        }
        for text in ["a=x", "web", "web other a=x", "web a=", "web =x"] {
            assert!(matches!(of(text), Err(CliError::Usage(_))), "{text}");
        }
    }

    #[test]
    fn a_star_means_all_containers() {
        let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
        let mut all = pod.clone();
        assert!(set(&mut all, "*", "y"));
        assert_eq!(all["spec"]["containers"][1]["image"], "y");
        let mut one = pod;
        assert!(set(&mut one, "a", "z") && !set(&mut one, "c", "z"));
        assert_eq!(one["spec"]["containers"][0]["image"], "z");
    }
}

//! The images that pods need: from the store, or from a registry where
//! `imagePullPolicy` says so. A supervisor never pulls: what it needs is in the
//! store before there is a pod.

use super::CliError;
use super::error::{AbsentImage, ImageError};
use super::pull::{self, Shown};
use super::style::Style;
use crate::engine;
use crate::objects;
use crate::plan::{ImageFacts, image_facts};
use crate::settings::Settings;
use crate::spec::{ConfigObject, Document, ObjectKind, PodSpec, PullPolicy, closest};
use beluga_image::{Image, LoadError, PullOptions, Reference, Registry, Store};
use std::collections::BTreeMap;

/// The types of a Secret that holds credentials, and its key.
const DOCKER_CONFIG_JSON: (&str, &str) = ("kubernetes.io/dockerconfigjson", ".dockerconfigjson");
const DOCKERCFG: (&str, &str) = ("kubernetes.io/dockercfg", ".dockercfg");

/// What a pod is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To be shown: nothing is fetched.
    Shown,
    /// It is there already: what is here is new enough.
    Kept,
    /// It will be started.
    Started,
}

/// A pod whose images are needed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'p> {
    /// What it is.
    pub spec: &'p PodSpec,
    /// Where it was written, when that is known.
    pub document: Option<&'p Document>,
    /// For what.
    pub mode: Mode,
    /// Nobody is told how a pull gets on.
    pub is_quiet: bool,
}

/// What is to be done for an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Use,
    Pull,
    /// It would be pulled, and nothing is known of it.
    Assume,
    Refuse,
}

/// As the kubelet decides, but for a name that somebody here has given to an
/// image (by `load`): where the policy is left out, it is not asked of a
/// registry, which knows nothing of it.
fn act(policy: PullPolicy, mode: Mode, is_here: bool, is_asked: bool) -> Act {
    match (mode, policy) {
        (_, PullPolicy::Never) => match is_here {
            true => Act::Use,
            false => Act::Refuse,
        },
        (Mode::Shown, _) => match is_here {
            true => Act::Use,
            false => Act::Assume,
        },
        (Mode::Started, PullPolicy::Always) if is_asked || !is_here => Act::Pull,
        _ if is_here => Act::Use,
        _ => Act::Pull,
    }
}

/// The images of pods. Errors with the first that no registry gives, or with
/// each that is absent and must not be fetched. `fresh` are the objects of the
/// same manifest.
pub fn images(
    settings: &Settings,
    wanted: &[Wanted<'_>],
    fresh: &[ConfigObject],
) -> Result<BTreeMap<String, ImageFacts>, CliError> {
    let mut ground = Ground {
        settings,
        store: Store::open(settings.images())?,
        held: engine::hold_images(settings)?,
        fresh,
        registry: None,
        found: BTreeMap::new(),
        absent: Vec::new(),
    };
    for pod in wanted {
        for (owner, image, policy) in pod.spec.images() {
            let one = One {
                pod,
                owner: &owner,
                image,
                policy,
            };
            let found = ground.one(&one);
            found.map_err(|error| error.of_pod(&pod.spec.name))?;
        }
    }
    if ground.absent.is_empty() {
        ground.held.keep();
        let found = ground.found.into_iter();
        return Ok(found.map(|(name, (facts, _))| (name, facts)).collect());
    }
    let mut images = std::mem::take(&mut ground.absent);
    for image in &mut images {
        image.near = ground.near(&image.image);
    }
    Err(ImageError::Absent { images }.into())
}

/// An image of a pod.
#[derive(Clone, Copy)]
struct One<'p> {
    pod: &'p Wanted<'p>,
    /// The container's name, or `volume NAME`.
    owner: &'p str,
    image: &'p str,
    policy: PullPolicy,
}

impl One<'_> {
    fn absent(&self) -> AbsentImage {
        AbsentImage {
            container: self.owner.to_owned(),
            image: self.image.to_owned(),
            place: self.place(),
            is_never: self.policy == PullPolicy::Never,
            near: None,
        }
    }

    /// Whether what is damaged is pulled again.
    fn is_mended(&self) -> bool {
        self.pod.mode == Mode::Started && self.policy != PullPolicy::Never
    }

    /// File, line, column and field; a command line has none.
    fn place(&self) -> Option<String> {
        let document = self.pod.document?;
        let place = document.image_places.get(self.owner)?;
        let source = &document.source_name;
        (source != super::manifest::COMMAND_LINE).then(|| format!("{source}:{place}"))
    }
}

struct Ground<'a> {
    settings: &'a Settings,
    store: Store,
    /// What is found here is not removed until its pod has a record.
    held: engine::Images,
    fresh: &'a [ConfigObject],
    registry: Option<Registry>,
    /// With whether a registry was asked for it.
    found: BTreeMap<String, (ImageFacts, bool)>,
    absent: Vec<AbsentImage>,
}

impl Ground<'_> {
    fn one(&mut self, one: &One<'_>) -> Result<(), CliError> {
        let image = one.image;
        let name = image.parse::<Reference>()?;
        let known = self.found.get(image);
        if known.is_some_and(|(_, was_asked)| *was_asked)
            || self.absent.iter().any(|known| known.image == image)
        {
            return Ok(());
        }
        let here = match self.held.resolve(&name) {
            // A pull mends it, where one is allowed.
            Err(error) if error.is_damage() && one.is_mended() => None,
            here => here?,
        };
        let is_explicit = one
            .pod
            .document
            .is_some_and(|document| document.always_pulled.contains(one.owner));
        let is_asked = is_explicit || self.store.was_pulled(&name)?;
        match act(one.policy, one.pod.mode, here.is_some(), is_asked) {
            Act::Use => {
                let facts = here.as_ref().map(image_facts);
                let facts = facts.map(|facts| (facts, false));
                self.found
                    .extend(facts.map(|facts| (image.to_owned(), facts)));
            }
            Act::Pull => {
                let pulled = self.pull(one, &name)?;
                // Somebody has removed it between the two.
                if !self.held.hold(&pulled)? {
                    self.absent.push(one.absent());
                    return Ok(());
                }
                let facts = (image_facts(&pulled), true);
                self.found.insert(image.to_owned(), facts);
            }
            Act::Assume => {
                let style = Style::stderr();
                let note = style.warn("note:");
                tell!(
                    "{note} the image {image:?} is not here and would be pulled: what it says of its containers is not known"
                );
                self.found.insert(image.to_owned(), (unknown(), false));
            }
            Act::Refuse => self.absent.push(one.absent()),
        }
        Ok(())
    }

    /// The name of an image that is here and nearly called so.
    fn near(&self, image: &str) -> Option<String> {
        let images = self.store.list().unwrap_or_default();
        let names = images.iter().flat_map(|image| &image.names);
        nearest(image, names.map(Reference::familiar).collect())
    }

    fn pull(&mut self, one: &One<'_>, name: &Reference) -> Result<Image, CliError> {
        let registry = match self.registry.take() {
            Some(known) => known,
            None => pull::registry(self.settings)?,
        };
        let own = self.with_secrets(&registry, one.pod.spec)?;
        self.registry = Some(registry);
        let shown = Shown::of_news(name, one.pod.is_quiet);
        let options = PullOptions::default();
        let pulled = pull::pull(&self.store, name, &own, &options, shown);
        let pulled = pulled.map_err(|source| ImageError::Pull {
            place: one.place(),
            image: one.image.to_owned(),
            near: self.near(one.image),
            source: Box::<LoadError>::new(source),
        })?;
        Ok(pulled.image)
    }

    /// The registry with the pod's `imagePullSecrets` before everything else.
    fn with_secrets(&self, registry: &Registry, spec: &PodSpec) -> Result<Registry, CliError> {
        let mut own = registry.clone();
        let mut missing = Vec::new();
        for name in &spec.pull_secrets {
            let Some(secret) = self.secret(&spec.namespace, name)? else {
                missing.push(name.as_str());
                continue;
            };
            let kind = secret.secret_type.as_deref().unwrap_or_default();
            let key = [DOCKER_CONFIG_JSON, DOCKERCFG];
            let key = key.iter().find(|(of, _)| *of == kind);
            let data = key.and_then(|(_, key)| secret.binary.get(*key));
            let Some(data) = data else {
                continue;
            };
            let shown = format!("secret {name:?}");
            let added = if kind == DOCKERCFG.0 {
                own.keyring.add_dockercfg(&shown, &data.0)
            } else {
                own.keyring.add_docker_config_json(&shown, &data.0)
            };
            added.map_err(|source| ImageError::Credentials {
                name: shown,
                source,
            })?;
        }
        if !missing.is_empty() {
            // The kubelet's sentence.
            let style = Style::stderr();
            tell!(
                "{} Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                style.warn("warning:"),
                missing.join(", ")
            );
        }
        Ok(own)
    }

    fn secret(&self, namespace: &str, name: &str) -> Result<Option<ConfigObject>, CliError> {
        let is_it = |one: &&ConfigObject| {
            one.kind == ObjectKind::Secret && one.namespace == namespace && one.name == name
        };
        if let Some(found) = self.fresh.iter().find(is_it) {
            return Ok(Some(found.clone()));
        }
        let kept = objects::read(self.settings, namespace, ObjectKind::Secret, name)?;
        Ok(kept.map(|kept| kept.object))
    }
}

/// The nearest of some names of images, which people write without the tag `latest`.
fn nearest(image: &str, mut names: Vec<String>) -> Option<String> {
    for name in &mut names {
        if let Some(bare) = name.strip_suffix(":latest") {
            *name = bare.to_owned();
        }
    }
    let image = image.strip_suffix(":latest").unwrap_or(image);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = closest(image, &names).map(|(_, name)| name);
    let tagged = || {
        // Another tag of it is nearer than another word of as many letters.
        let (repository, _) = image.rsplit_once(':')?;
        let mut all = names
            .iter()
            .filter_map(|name| Some((name.rsplit_once(':')?.0, *name)));
        all.find(|(of, _)| *of == repository).map(|(_, name)| name)
    };
    tagged().or(found).map(str::to_owned)
}

/// An image of which nothing is known, for a plan that is only shown.
fn unknown() -> ImageFacts {
    ImageFacts {
        id: "<unknown>".to_owned(),
        entrypoint: vec!["<of the image>".to_owned()],
        ..ImageFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_was_nearly_named_is_found() {
        let here = || {
            ["busybox:latest", "nginx:1.27", "reg.lan/team/app:2"]
                .map(str::to_owned)
                .to_vec()
        };
        for (image, near) in [
            ("busybx", Some("busybox")),
            ("busybox:latst", None),
            ("ngnix:1.27", Some("nginx:1.27")),
            ("nginx:1.28", Some("nginx:1.27")),
            ("reg.lan/team/ap:2", Some("reg.lan/team/app:2")),
            ("postgres", None),
        ] {
            assert_eq!(nearest(image, here()).as_deref(), near, "{image}");
        }
        assert_eq!(nearest("busybx", Vec::new()), None);
    }

    #[test]
    fn policies_are_the_kubelets() {
        use Act::{Assume, Pull, Refuse, Use};
        for (policy, here, absent) in [
            (PullPolicy::Always, Pull, Pull),
            (PullPolicy::IfNotPresent, Use, Pull),
            (PullPolicy::Never, Use, Refuse),
        ] {
            assert_eq!(act(policy, Mode::Started, true, true), here);
            assert_eq!(act(policy, Mode::Started, false, false), absent);
            assert_eq!(act(policy, Mode::Shown, true, true), Use);
            let shown = if policy == PullPolicy::Never {
                Refuse
            } else {
                Assume
            };
            assert_eq!(act(policy, Mode::Shown, false, true), shown);
            assert_eq!(act(policy, Mode::Kept, true, true), Use);
        }
        // A name that was given here.
        assert_eq!(act(PullPolicy::Always, Mode::Started, true, false), Use);
    }
}

//! Which images and names `images` lists.

use beluga_image::{Broken, Glob, Image, Reference};
use std::str::FromStr;

/// An image as a word on the command line means it.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// With tag or digest.
    Exact(Reference),
    /// All tags of a repository, or the beginning of an identifier.
    Repository {
        reference: Option<Reference>,
        word: String,
    },
    /// `busy*`, of names with or without a tag, as people write them.
    Pattern(Glob),
}

impl Wanted {
    /// Reads `NAME`, `NAME:TAG`, `NAME@DIGEST`, a pattern of them, or the beginning of an
    /// identifier.
    pub fn read(word: &str) -> Self {
        if word.contains(['*', '?', '[']) {
            // What is no pattern means nothing that could be here.
            return Glob::read(word.as_bytes())
                .map_or_else(|| Self::repository(word), Self::Pattern);
        }
        let last = word.rsplit('/').next().unwrap_or_default();
        let is_id = word.starts_with("sha256:");
        match word.parse::<Reference>() {
            Ok(reference) if last.contains([':', '@']) && !is_id => Self::Exact(reference),
            _ => Self::repository(word),
        }
    }

    fn repository(word: &str) -> Self {
        Self::Repository {
            reference: word.parse().ok(),
            word: word.to_owned(),
        }
    }

    /// Whether it means all of an image, by its identifier.
    fn is_id(&self, id: &str) -> bool {
        let Self::Repository { word, .. } = self else {
            return false;
        };
        let bare = word.strip_prefix("sha256:").unwrap_or(word);
        let id = id.strip_prefix("sha256:").unwrap_or(id);
        bare.len() >= 3 && id.starts_with(bare)
    }

    fn is_name(&self, name: &Reference) -> bool {
        match self {
            Self::Exact(wanted) => match wanted.digest() {
                Some(digest) => *name == wanted.with_digest(digest),
                None => name == wanted,
            },
            Self::Repository { reference, .. } => reference
                .as_ref()
                .is_some_and(|wanted| wanted.same_repository(name)),
            Self::Pattern(glob) => {
                let whole = name.familiar();
                let bare = whole.split('@').next().unwrap_or_default();
                let bare = match bare.rsplit_once(':') {
                    Some((bare, tag)) if !tag.contains('/') => bare,
                    _ => bare,
                };
                glob.is_match(whole.as_bytes()) || glob.is_match(bare.as_bytes())
            }
        }
    }

    /// An image under the names that are meant; `None` when none is.
    pub fn of_image(&self, mut image: Image) -> Option<Image> {
        if self.is_id(&image.id.to_string()) {
            return Some(image);
        }
        let is_asked_by_digest = matches!(self, Self::Exact(wanted) if wanted.digest().is_some());
        let own = match self {
            // A manifest behind an index is found by its own digest as well.
            Self::Exact(wanted) if wanted.digest() == Some(image.manifest_digest) => {
                image.names.iter().any(|name| name.same_repository(wanted))
                    || image
                        .digests
                        .iter()
                        .any(|name| name.same_repository(wanted))
            }
            _ => false,
        };
        image.digests.retain(|name| self.is_name(name));
        let known = image.digests.clone();
        image.names.retain(|name| {
            // A digest means no tag; the names beside it are those of the repository.
            let is_beside = |known: &Reference| known.same_repository(name);
            match (is_asked_by_digest, self) {
                (true, Self::Exact(wanted)) => {
                    (own && wanted.same_repository(name)) || known.iter().any(is_beside)
                }
                _ => self.is_name(name),
            }
        });
        (own || !image.names.is_empty() || !known.is_empty()).then_some(image)
    }

    /// The same for one of which something is missing.
    pub fn of_broken(&self, mut broken: Broken) -> Option<Broken> {
        let mut ids = broken.id.into_iter().chain([broken.manifest_digest]);
        if ids.any(|id| self.is_id(&id.to_string())) {
            return Some(broken);
        }
        broken.names.retain(|name| self.is_name(name));
        broken.digests.retain(|name| self.is_name(name));
        (!broken.names.is_empty() || !broken.digests.is_empty()).then_some(broken)
    }
}

/// `--filter`, as docker and podman have it.
#[derive(Debug, Clone)]
pub enum Filter {
    Dangling(bool),
    Reference(Wanted),
    Label(String, Option<String>),
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Ok(match (key, value) {
            ("dangling", "true" | "1") => Self::Dangling(true),
            ("dangling", "false" | "0") => Self::Dangling(false),
            ("reference", name) if !name.is_empty() => Self::Reference(Wanted::read(name)),
            ("label", label) if !label.is_empty() => match label.split_once('=') {
                Some((key, value)) => Self::Label(key.to_owned(), Some(value.to_owned())),
                None => Self::Label(label.to_owned(), None),
            },
            _ => {
                return Err(
                    "it is dangling=true, dangling=false, reference=NAME or PATTERN, label=KEY or \
                     label=KEY=VALUE"
                        .into(),
                );
            }
        })
    }
}

impl Filter {
    /// An image, or as much of it as passes.
    pub fn of_image(&self, image: Image) -> Option<Image> {
        let passes = match self {
            Self::Reference(wanted) => return wanted.of_image(image),
            Self::Dangling(wanted) => image.names.is_empty() == *wanted,
            Self::Label(key, value) => {
                let found = image.config.labels.get(key);
                found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found))
            }
        };
        passes.then_some(image)
    }

    /// The same for one of which something is missing: its labels may be.
    pub fn of_broken(&self, broken: Broken) -> Option<Broken> {
        match self {
            Self::Reference(wanted) => wanted.of_broken(broken),
            Self::Dangling(wanted) => (broken.names.is_empty() == *wanted).then_some(broken),
            Self::Label(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(word: &str) -> Vec<&'static str> {
        let all = [
            "busybox:latest",
            "busybox:1",
            "team/busybox:1",
            "r:5000/busybox:2",
        ];
        let wanted = Wanted::read(word);
        let is_meant = |name: &&&str| wanted.is_name(&name.parse().unwrap());
        all.iter().filter(is_meant).copied().collect()
    }

    #[test]
    fn a_word_means_the_names_that_docker_lists_for_it() {
        assert_eq!(names("busybox"), ["busybox:latest", "busybox:1"]);
        assert_eq!(names("docker.io/library/busybox"), names("busybox"));
        assert_eq!(names("busybox:1"), ["busybox:1"]);
        assert_eq!(names("r:5000/busybox"), ["r:5000/busybox:2"]);
        assert_eq!(names("busy*"), names("busybox"));
        assert_eq!(names("*:1"), ["busybox:1"]);
        assert_eq!(names("*/busy*:*"), ["team/busybox:1", "r:5000/busybox:2"]);
        assert_eq!(names("other"), [""; 0]);
    }

    #[test]
    fn filters_are_dockers() {
        for text in ["dangling=true", "reference=a*", "label=k", "label=k=v"] {
            assert!(text.parse::<Filter>().is_ok(), "{text}");
        }
        for text in ["dangling", "reference=", "since=x", "label="] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }
}

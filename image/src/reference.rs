//! Image references, read as docker reads them: `busybox` is `docker.io/library/busybox:latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::{Digest, DigestError};

const DEFAULT_REGISTRY: &str = "docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// The longest name (registry and repository) that docker's grammar admits.
const MAX_NAME: usize = 255;
/// The longest tag.
const MAX_TAG: usize = 128;

/// The normalised name of an image: registry, repository, and a tag or a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing was given, or nothing before the tag.
    #[error("image reference {text:?} has no name")]
    Empty {
        /// The text as given.
        text: String,
    },
    /// What a shell has not split, or split wrongly.
    #[error("image reference {text:?} has a blank in it; no image's name does")]
    Blank {
        /// The text as given.
        text: String,
    },
    /// Repositories are lower case.
    #[error("image reference {text:?}: the repository must be lower case")]
    UpperCase {
        /// The text as given.
        text: String,
    },
    /// A part of the repository breaks the grammar.
    #[error(
        "image reference {text:?}: {part:?} is no repository name (letters and digits, joined by \
         '.', '_', '__' or '-')"
    )]
    Repository {
        /// The text as given.
        text: String,
        /// The part between slashes.
        part: String,
    },
    /// The part before the first slash is no host name.
    #[error("image reference {text:?}: {registry:?} is no registry host name")]
    Registry {
        /// The text as given.
        text: String,
        /// The part that should be a host.
        registry: String,
    },
    /// The tag breaks the grammar.
    #[error(
        "image reference {text:?}: {tag:?} is no tag (up to 128 letters, digits, '_', '.' and \
         '-', not beginning with '.' or '-')"
    )]
    Tag {
        /// The text as given.
        text: String,
        /// The part after the colon.
        tag: String,
    },
    /// The part after `@` is no digest.
    #[error("image reference {text:?} has a malformed digest")]
    Digest {
        /// The text as given.
        text: String,
        /// What is wrong with it.
        #[source]
        source: DigestError,
    },
    /// Registry and repository together are too long.
    #[error("image reference {text:?} is longer than 255 characters")]
    TooLong {
        /// The beginning of the text as given.
        text: String,
    },
    /// 64 hexadecimal digits would be taken for an image id.
    #[error("image reference {text:?} is an image id, not a name")]
    LooksLikeId {
        /// The text as given.
        text: String,
    },
}

impl Reference {
    /// Host name, and port when given, of the registry: `docker.io`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/busybox`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; `latest` where neither tag nor digest was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The manifest's digest, where one was given.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// As a person writes it: without `docker.io` and `library/`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = match full.strip_prefix("docker.io/") {
            Some(path) => path.strip_prefix(OFFICIAL_PREFIX).unwrap_or(path),
            None => &full,
        };
        short.to_owned()
    }

    /// The name of whatever has this digest in the same repository, without a tag.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Reference {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The same repository, whatever tag or digest.
    pub fn same_repository(&self, other: &Reference) -> bool {
        self.registry == other.registry && self.repository == other.repository
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if text.len() > MAX_NAME + MAX_TAG + 80 {
            return Err(ReferenceError::TooLong {
                text: text.chars().take(100).collect(),
            });
        }
        let shown = || text.to_owned();
        if text.contains(char::is_whitespace) {
            return Err(ReferenceError::Blank { text: shown() });
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|source| ReferenceError::Digest {
                    text: shown(),
                    source,
                })?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if name.is_empty() {
            return Err(ReferenceError::Empty { text: shown() });
        }
        if tag.is_none() && digest.is_none() && Digest::from_hex(name).is_some() {
            return Err(ReferenceError::LooksLikeId { text: shown() });
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag {
                text: shown(),
                tag: tag.to_owned(),
            });
        }
        let (registry, repository) = split_registry(name);
        if !is_registry(&registry) {
            return Err(ReferenceError::Registry {
                text: shown(),
                registry,
            });
        }
        check_repository(&repository, text)?;
        if registry.len() + 1 + repository.len() > MAX_NAME {
            return Err(ReferenceError::TooLong {
                text: text.chars().take(100).collect(),
            });
        }
        let tag = match (tag, digest) {
            (None, None) => Some(DEFAULT_TAG.to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Reference {
            registry,
            repository,
            tag,
            digest,
        })
    }
}

/// The name and the tag. A colon before the last slash belongs to the registry's port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let name_end = text.rfind('/').map_or(0, |slash| slash + 1);
    match text[name_end..].rfind(':') {
        Some(colon) => {
            let (name, tag) = text.split_at(name_end + colon);
            (name, Some(&tag[1..]))
        }
        None => (text, None),
    }
}

/// The first part is a registry when it looks like a host: it has a dot, a port or an upper-case
/// letter, or is `localhost`. Otherwise all of it is a repository on Docker Hub.
fn split_registry(name: &str) -> (String, String) {
    let host = name.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':'])
            || *first == "localhost"
            || first.bytes().any(|c| c.is_ascii_uppercase())
    });
    let (registry, repository) = match host {
        Some(("index.docker.io", rest)) => (DEFAULT_REGISTRY, rest),
        Some((registry, rest)) => (registry, rest),
        None => (DEFAULT_REGISTRY, name),
    };
    let official = registry == DEFAULT_REGISTRY && !repository.contains('/');
    let prefix = if official { OFFICIAL_PREFIX } else { "" };
    (registry.to_owned(), format!("{prefix}{repository}"))
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.bytes().all(|c| c.is_ascii_hexdigit() || c == b':') => {
            (address, port.strip_prefix(':'))
        }
        Some(_) => return false,
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let bracketed = text.starts_with('[');
    let host_ok = bracketed
        || host.split('.').all(|label| {
            let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
            !label.is_empty()
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        });
    let port_ok =
        port.is_none_or(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()));
    !host.is_empty() && host_ok && port_ok
}

fn check_repository(repository: &str, text: &str) -> Result<(), ReferenceError> {
    if repository.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err(ReferenceError::UpperCase {
            text: text.to_owned(),
        });
    }
    match repository.split('/').find(|part| !is_repository_part(part)) {
        None => Ok(()),
        Some(part) => Err(ReferenceError::Repository {
            text: text.to_owned(),
            part: part.to_owned(),
        }),
    }
}

/// Letters and digits, joined by one dot, one or two underscores, or any number of dashes.
fn is_repository_part(part: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut joins = part.split(alphanumeric).filter(|join| !join.is_empty());
    part.starts_with(alphanumeric)
        && part.ends_with(alphanumeric)
        && joins.all(|join| matches!(join, "." | "_" | "__") || join.bytes().all(|c| c == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    let mut bytes = tag.bytes();
    tag.len() <= MAX_TAG
        && bytes.next().is_some_and(word)
        && bytes.all(|c| word(c) || c == b'.' || c == b'-')
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn normal(text: &str) -> String {
        text.parse::<Reference>()
            .map_or_else(|e| panic!("{e}"), |r| r.to_string())
    }

    #[test]
    fn normalises_as_docker_does() {
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            (
                "index.docker.io/busybox",
                "docker.io/library/busybox:latest",
            ),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            (
                "registry.example.com/a__b/c-----d.e",
                "registry.example.com/a__b/c-----d.e:latest",
            ),
            ("HOST/app", "HOST/app:latest"),
            ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ] {
            assert_eq!(normal(text), full);
        }
        let pinned = format!("busybox@sha256:{HEX}");
        assert_eq!(normal(&pinned), format!("docker.io/library/{pinned}"));
        let both = format!("busybox:1@sha256:{HEX}");
        assert_eq!(normal(&both), format!("docker.io/library/{both}"));
    }

    #[test]
    fn familiar_is_the_way_back() {
        for text in [
            "busybox:latest",
            "user/app:1",
            "localhost:5000/a:b",
            "quay.io/a/b:c",
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().familiar(), text);
        }
    }

    #[test]
    fn refuses_what_is_no_name() {
        let long = "a".repeat(300);
        let tag = format!("a:{}", "t".repeat(129));
        for text in [
            "",
            ":tag",
            "a:",
            "Busybox",
            "a//b",
            "/a",
            "a/",
            "a..b",
            "a_-b",
            "-a",
            "a:-x",
            "a b",
            "a@sha256:00",
            "a@md5:00",
            "a:b:c",
            "h.:x/a",
            "../a",
            "a/../b",
            "[::1/a",
            HEX,
            &long,
            &tag,
            "-h.com/a",
            "ünicode",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text}");
        }
    }
}

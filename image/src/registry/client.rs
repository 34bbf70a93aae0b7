//! A repository in a registry, wherever its images lie.

use std::io::Read;

use ureq::http::StatusCode;
use ureq::http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use ureq::{Body, BodyReader, http};

use super::credentials::Keyring;
use super::endpoint::Endpoint;
use super::request::Ask;
use super::{Patience, Registry, RegistryError, auth, hosts};
use crate::digest::Digest;
use crate::reference::Reference;

/// The longest index, manifest or configuration: what registries accept.
const MAX_DOCUMENT: u64 = 4 << 20;
/// What is understood, the richer first.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A repository in a registry, wherever its images lie.
pub(crate) struct Client {
    registry: String,
    repository: String,
    endpoints: Vec<Endpoint>,
    keyring: Keyring,
}

/// A manifest or index as the registry gave it.
pub(crate) struct Document {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    /// As the registry says; without parameters.
    pub media_type: String,
    /// Who gave it.
    pub host: String,
}

/// A blob on its way.
pub(crate) struct Blob {
    pub reader: BodyReader<'static>,
    /// Who gives it.
    pub host: String,
    /// The byte it begins with: less than was asked for where a registry knows no ranges.
    pub from: u64,
    /// How long the whole is, where the registry says so.
    pub total: Option<u64>,
}

impl Client {
    pub(crate) fn new(
        registry: &Registry,
        name: &Reference,
        patience: &Patience,
    ) -> Result<Self, RegistryError> {
        let (host, repository) = (name.registry(), name.repository());
        let wrong = |source| RegistryError::Hosts {
            registry: host.to_owned(),
            source,
        };
        let found = hosts::hosts(host, &registry.certs_dirs).map_err(wrong)?;
        let endpoints = found
            .into_iter()
            .map(|one| Endpoint::new(one, host, repository, patience))
            .collect::<Result<_, _>>()?;
        Ok(Client {
            registry: host.to_owned(),
            repository: repository.to_owned(),
            endpoints,
            keyring: registry.keyring.clone(),
        })
    }

    /// What a tag means now, or what has a digest.
    pub(crate) fn manifest(&self, name: &Reference) -> Result<Document, RegistryError> {
        match name.digest() {
            Some(digest) => self.manifest_of(digest),
            None => {
                let tag = name.tag().unwrap_or("latest");
                self.first("resolve", |endpoint| {
                    self.document(endpoint, "manifests", tag, None)
                })
            }
        }
    }

    /// The manifest or index with this digest.
    pub(crate) fn manifest_of(&self, digest: Digest) -> Result<Document, RegistryError> {
        self.first("pull", |endpoint| {
            self.document(endpoint, "manifests", &digest.to_string(), Some(digest))
        })
    }

    /// A small blob: an image's configuration.
    pub(crate) fn small_blob(&self, digest: Digest) -> Result<Vec<u8>, RegistryError> {
        let found = self.first("pull", |endpoint| {
            self.document(endpoint, "blobs", &digest.to_string(), Some(digest))
        });
        found.map(|document| document.bytes)
    }

    /// A blob from a byte on. It is the caller who checks what comes.
    pub(crate) fn blob(&self, digest: Digest, from: u64) -> Result<Blob, RegistryError> {
        self.first("pull", |endpoint| {
            let path = self.path(endpoint, "blobs", &digest.to_string());
            let what = format!("blob {digest}");
            let ask = Ask {
                from,
                ..Ask::get(&path, &what)
            };
            let response = endpoint.get(&ask, &self.keyring)?;
            let (from, total) = extent(&response);
            Ok(Blob {
                host: endpoint.host.label(),
                reader: response.into_body().into_reader(),
                from,
                total,
            })
        })
    }

    /// Asks one host after the other.
    fn first<T>(
        &self,
        action: &'static str,
        ask: impl Fn(&Endpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut errors = Vec::new();
        for endpoint in &self.endpoints {
            let able = match action {
                "resolve" => endpoint.host.resolve,
                _ => endpoint.host.pull,
            };
            if !able {
                continue;
            }
            match ask(endpoint) {
                Ok(found) => return Ok(found),
                Err(error) => errors.push(error),
            }
        }
        match (errors.pop(), errors.is_empty()) {
            (None, _) => Err(RegistryError::NoCapability {
                registry: self.registry.clone(),
                action,
            }),
            (Some(only), true) => Err(only),
            (Some(last), false) => {
                errors.push(last);
                Err(RegistryError::NoHost { errors })
            }
        }
    }

    /// Mirrors serve many registries: they are told which one is meant, as containerd does.
    fn path(&self, endpoint: &Endpoint, kind: &str, which: &str) -> String {
        let path = format!("{}/{kind}/{which}", self.repository);
        if endpoint.is_own() {
            path
        } else {
            format!("{path}?ns={}", auth::encode(&self.registry))
        }
    }

    fn document(
        &self,
        endpoint: &Endpoint,
        kind: &str,
        which: &str,
        expected: Option<Digest>,
    ) -> Result<Document, RegistryError> {
        let path = self.path(endpoint, kind, which);
        let thing = if kind == "blobs" { "blob" } else { "manifest" };
        let what = format!("{thing} {which} of {}", self.repository);
        let ask = Ask {
            accept: (kind == "manifests").then_some(ACCEPT),
            ..Ask::get(&path, &what)
        };
        let response = endpoint.get(&ask, &self.keyring)?;
        let host = endpoint.host.label();
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type = media_type.and_then(|text| text.to_str().ok());
        let media_type = media_type.and_then(|text| text.split(';').next());
        let media_type = media_type.unwrap_or_default().trim().to_owned();
        let mut bytes = Vec::new();
        let reader = response.into_body().into_reader();
        let read = reader.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes);
        if let Err(source) = read {
            return Err(RegistryError::Broken {
                host,
                what,
                attempts: 1,
                at: bytes.len() as u64,
                source,
            });
        }
        if bytes.len() as u64 > MAX_DOCUMENT {
            let limit = MAX_DOCUMENT;
            return Err(RegistryError::TooLong { host, what, limit });
        }
        let digest = Digest::of(&bytes);
        if expected.is_some_and(|expected| expected != digest) {
            let actual = digest;
            return Err(RegistryError::WrongDigest { host, what, actual });
        }
        Ok(Document {
            bytes,
            digest,
            media_type,
            host,
        })
    }

    /// The registry's name, for errors.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }
}

/// Where an answer begins in the whole, and how long that is.
fn extent(response: &http::Response<Body>) -> (u64, Option<u64>) {
    let text = |name| {
        let value = response.headers().get(name);
        value.and_then(|value| value.to_str().ok())
    };
    if response.status() == StatusCode::PARTIAL_CONTENT {
        // `bytes 100-199/200`; the length may be `*`.
        let range = text(CONTENT_RANGE).and_then(|range| range.strip_prefix("bytes "));
        if let Some((span, total)) = range.and_then(|range| range.split_once('/')) {
            let from = span.split('-').next().and_then(|from| from.parse().ok());
            return (from.unwrap_or(u64::MAX), total.parse().ok());
        }
        return (u64::MAX, None);
    }
    let total = text(CONTENT_LENGTH).and_then(|length| length.parse().ok());
    (0, total)
}

//! A repository in a registry, to be filled.

use std::io::Read as _;

use ureq::http::{Method, StatusCode};

use super::credentials::Keyring;
use super::endpoint::Endpoint;
use super::request::{Ask, Contents, ReadAt};
use super::{Patience, Registry, RegistryError, auth, hosts};
use crate::digest::Digest;
use crate::reference::Reference;

const BYTES: &str = "application/octet-stream";

/// A repository in a registry, to be filled.
pub(crate) struct Uploader {
    endpoint: Endpoint,
    keyring: Keyring,
    registry: String,
    repository: String,
}

/// What became of the wish that a registry take a blob from another repository.
pub(crate) enum Mount {
    /// It did.
    Done,
    /// It is to be sent, to this address.
    Send(String),
}

impl Uploader {
    /// `sources` are repositories of the registry that blobs may be taken from.
    pub(crate) fn new<'a>(
        registry: &Registry,
        name: &Reference,
        sources: impl Iterator<Item = &'a str>,
        patience: &Patience,
    ) -> Result<Self, RegistryError> {
        let (host, repository) = (name.registry(), name.repository());
        let found = hosts::hosts(host, &registry.certs_dirs);
        let found = found.map_err(|source| RegistryError::Hosts {
            registry: host.to_owned(),
            source,
        })?;
        // As containerd: the first that takes images, and no other.
        let Some(chosen) = found.into_iter().find(|one| one.push) else {
            return Err(RegistryError::NoCapability {
                registry: host.to_owned(),
                action: "push",
            });
        };
        let mut endpoint = Endpoint::new(chosen, host, repository, patience)?;
        endpoint.scopes = vec![format!("repository:{repository}:pull,push")];
        let sources = sources.map(|source| format!("repository:{source}:pull"));
        endpoint.scopes.extend(sources);
        Ok(Uploader {
            endpoint,
            keyring: registry.keyring.clone(),
            registry: host.to_owned(),
            repository: repository.to_owned(),
        })
    }

    /// Whether the repository has a blob.
    pub(crate) fn has(&self, digest: Digest) -> Result<bool, RegistryError> {
        let path = self.path(&format!("blobs/{digest}"), &[]);
        let what = format!("blob {digest} of {}", self.repository);
        let ask = Ask {
            method: Method::HEAD,
            ..Ask::get(&path, &what)
        };
        match self.endpoint.get(&ask, &self.keyring) {
            Ok(_) => Ok(true),
            Err(RegistryError::Refused { code: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Begins to send a blob, or has the registry take it from another repository.
    pub(crate) fn begin(
        &self,
        digest: Digest,
        source: Option<&str>,
    ) -> Result<Mount, RegistryError> {
        let digest_text = digest.to_string();
        let wish = source.map(|from| [("mount", digest_text.as_str()), ("from", from)]);
        let path = self.path(
            "blobs/uploads/",
            wish.as_ref().map_or(&[], |pair| &pair[..]),
        );
        let what = format!("blob {digest} for {}", self.repository);
        let ask = Ask {
            method: Method::POST,
            ..Ask::get(&path, &what)
        };
        let (response, url) = self.endpoint.send(&ask, &self.keyring)?;
        if response.status() == StatusCode::CREATED && source.is_some() {
            return Ok(Mount::Done);
        }
        self.endpoint.next(&url, &response).map(Mount::Send)
    }

    /// Sends a blob to the address that [`Uploader::begin`] gave.
    pub(crate) fn send(
        &self,
        address: &str,
        digest: Digest,
        size: u64,
        read: ReadAt<'_>,
    ) -> Result<(), RegistryError> {
        let separator = if address.contains('?') { '&' } else { '?' };
        let digest_text = auth::encode(&digest.to_string());
        let url = format!("{address}{separator}digest={digest_text}");
        let contents = Contents {
            media_type: BYTES,
            size,
            read,
        };
        self.put(
            &url,
            &format!("blob {digest} for {}", self.repository),
            &contents,
        )
    }

    /// Takes back what has come of a blob at the address that [`Uploader::begin`] gave. A registry
    /// that knows no such wish, or is gone, forgets it by itself some day.
    pub(crate) fn abandon(&self, address: &str, digest: Digest) {
        let what = format!("blob {digest} for {}", self.repository);
        let ask = Ask {
            method: Method::DELETE,
            ..Ask::get(address, &what)
        };
        // Why the blob was not sent is what counts.
        let _ = self.endpoint.get(&ask, &self.keyring);
    }

    /// Gives the repository a manifest, by tag or by digest.
    pub(crate) fn manifest(
        &self,
        which: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let path = self.path(&format!("manifests/{which}"), &[]);
        let what = format!("manifest {which} for {}", self.repository);
        let contents = Contents {
            media_type,
            size: bytes.len() as u64,
            read: &|at, buffer| {
                let at = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                { &bytes[at..] }.read(buffer)
            },
        };
        self.put(&path, &what, &contents)
    }

    fn put(&self, path: &str, what: &str, contents: &Contents<'_>) -> Result<(), RegistryError> {
        let ask = Ask {
            method: Method::PUT,
            contents: Some(contents),
            ..Ask::get(path, what)
        };
        self.endpoint.get(&ask, &self.keyring).map(drop)
    }

    fn path(&self, rest: &str, query: &[(&str, &str)]) -> String {
        let mut fields: Vec<String> = query
            .iter()
            .map(|(key, value)| format!("{key}={}", auth::encode(value)))
            .collect();
        if !self.endpoint.is_own() {
            fields.push(format!("ns={}", auth::encode(&self.registry)));
        }
        let mark = if fields.is_empty() { "" } else { "?" };
        format!("{}/{rest}{mark}{}", self.repository, fields.join("&"))
    }
}

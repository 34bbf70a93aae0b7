//! Why a registry gives nothing.

use std::path::PathBuf;

use super::credentials::CredentialError;
use super::hosts::HostsError;

/// Why a registry gives nothing.
// Over fifteen variants: each is one thing that a registry can do wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// Nobody answers.
    #[error("registry {host} cannot be reached")]
    Unreachable {
        /// Its address.
        host: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
    /// It answers with an error.
    #[error("registry {host}: {what}: {status}{said}")]
    Refused {
        /// Its address.
        host: String,
        /// What was asked for.
        what: String,
        /// `404 Not Found`.
        status: String,
        /// Its own words, after a colon; or nothing.
        said: String,
        /// The number of the status.
        code: u16,
    },
    /// Each of several hosts failed.
    #[error("no host has it: {}",
        .errors.iter().map(with_cause).collect::<Vec<_>>().join("; "))]
    NoHost {
        /// In the order of asking.
        errors: Vec<RegistryError>,
    },
    /// The configuration leaves nobody to ask.
    #[error("no host is configured that could {action} images of {registry}")]
    NoCapability {
        /// The registry.
        registry: String,
        /// `pull` or `resolve`.
        action: &'static str,
    },
    /// Sent from one place to the next.
    #[error("registry {host} redirects more than {limit} times")]
    Redirects {
        /// Its address.
        host: String,
        /// How often is allowed.
        limit: usize,
    },
    /// Sent to a place where nothing can be fetched.
    #[error("registry {host} redirects to {location:?}, which is {why}")]
    Location {
        /// Its address.
        host: String,
        /// The place.
        location: String,
        /// `no address`, `not encrypted`.
        why: &'static str,
    },
    /// It wants to be told who asks in a way that is not known.
    #[error("registry {host} asks for {scheme:?} authentication, which is not supported")]
    Challenge {
        /// Its address.
        host: String,
        /// As it says.
        scheme: String,
    },
    /// The token service's answer is none.
    #[error("the token service {realm} of registry {host} gives no token")]
    Token {
        /// The registry.
        host: String,
        /// Its token service.
        realm: String,
        /// Where the answer goes wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A document of absurd length.
    #[error("registry {host}: {what} is longer than {limit} bytes")]
    TooLong {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// The limit.
        limit: u64,
    },
    /// What was asked for by its digest is something else.
    #[error("registry {host}: {what} has the wrong contents: their digest is {actual}")]
    WrongDigest {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// As found.
        actual: crate::Digest,
    },
    /// It has something else than images under this name.
    #[error("registry {host}: {what} is of the type {media_type:?}, which is not supported")]
    MediaType {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// As it says.
        media_type: String,
    },
    /// A connection broke, again and again.
    #[error("registry {host}: {what}: the connection broke {attempts} times, at last at byte {at}")]
    Broken {
        /// Its address.
        host: String,
        /// Which.
        what: String,
        /// How often without a byte in between.
        attempts: u32,
        /// How far it came.
        at: u64,
        /// How it broke.
        #[source]
        source: std::io::Error,
    },
    /// A certificate or a key cannot be used.
    #[error("{path} holds no usable {what}", path = .path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// `certificate`, `key`.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A header of `hosts.toml`, or a credential, that HTTP cannot carry.
    #[error("{what} cannot be sent to registry {host}")]
    Header {
        /// The registry.
        host: String,
        /// Which.
        what: String,
    },
    /// The registry's configuration.
    #[error("the configuration of registry {registry} cannot be used")]
    Hosts {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: HostsError,
    },
    /// Its credentials.
    #[error("there are no credentials for registry {registry}")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why.
        #[source]
        source: CredentialError,
    },
}

impl RegistryError {
    /// Whether it may be otherwise a moment later: nobody answers, or connections break.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } => true,
            Self::Refused { code, .. } => matches!(code, 429 | 500..),
            Self::NoHost { errors } => errors.iter().any(Self::is_passing),
            _ => false,
        }
    }
}

/// An error and what it came from, in one line: several are told side by side.
fn with_cause(error: &RegistryError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
